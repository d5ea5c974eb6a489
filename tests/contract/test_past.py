"""What ledgers know of the past of watched audiences: who was in as of a time, on every store."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.watches.errors import AudienceNotWatched, TimeOutOfRange
from audience_service.domain.watches.past import Past
from audience_service.domain.watches.watch import Cause, Change, Event, Flip
from tests.client import Client, Refusal
from tests.conftest import Service
from tests.examples import examples
from tests.past import DAY, PAID, SECOND, Tracking, call_of, history, set_plans, stamp
from tests.tracked import NEVER, NOON

pytestmark = pytest.mark.usefixtures("unwatched", "read_by_twos")

flips = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.sampled_from([Cause.DATA, Cause.TIME, Cause.DEFINITION]), st.integers(0, 2)
    ),
    max_size=25,
)
"""Of whom, why, and how many seconds after the flip before."""


@examples(25, *HealthCheck)
@given(
    began=st.sets(st.sampled_from("abcdef")),
    happened=flips,
    known=st.integers(0, 25),
    applied=st.integers(0, 25),
    kept_from=st.integers(-1, 30),
    data=st.data(),
)
def test_whatever_is_appended_applied_and_forgotten_the_past_is_a_fold_of_the_events(
    service: Service, began: set[str], happened: Any, known: int, applied: int, kept_from: int, data: Any
) -> None:
    """`known` events are told of; others were appended, and perhaps applied, meanwhile."""
    org = f"fold{next(service.names)}x"
    ledger, past, generation = service.store.ledger, service.store.past, f"watch-{org}"
    rows = [
        {"_id": f"{generation}/{org}/contact/{key}", "pk": f"contact-{key}", "sk": f"{org}/contact/{key}"}
        | {"member": True, "seq": 0}
        for key in sorted(began)
    ]
    if rows:
        service.store.database["audience_tracked"].insert_many(rows)
    events, states, at = [], [frozenset(began)], NOON
    for seq, (key, cause, seconds) in enumerate(happened, 1):
        at += seconds * SECOND
        change = Change.EXITED if key in states[-1] else Change.ENTERED
        events.append(Event(seq, Flip(f"contact-{key}", f"{org}/contact/{key}", change), cause, at))
        states.append(states[-1] ^ {key})
    known = min(known, len(events))
    until = min(max(known, applied), len(events))
    if events:
        ledger.append(org, generation, events, NEVER)
    if until:
        ledger.apply(org, generation, events[:until], NEVER)
    since = NOON + kept_from * SECOND if known else NOON
    ledger.forget(org, generation, since, known, NEVER)

    assert past.size(org, generation, known, NEVER) == len(states[known])
    moment = NOON + data.draw(st.integers(max(kept_from, 0), 50)) * SECOND
    seq = past.last_event(org, generation, known, moment, NEVER)
    assert seq == len([event for event in events[:known] if event.at <= moment])
    after = data.draw(st.sampled_from(["", "b", "d"]))
    behind = f"{org}/contact/{after}" if after else ""
    batches = list(past.members(org, generation, seq, "contact", [], 2, behind, NEVER))
    assert [record["sk"][-1] for batch in batches for record in batch] == sorted(k for k in states[seq] if k > after)
    assert all(0 < len(batch) <= 2 for batch in batches)
    assert past.size(org, generation, seq, NEVER) == len(states[seq])

    gaps = data.draw(st.lists(st.integers(1, 5), max_size=5))
    moments = [moment + sum(gaps[:n]) * SECOND for n in range(len(gaps) + 1)]
    counted = past.turnovers(org, generation, known, moments, NEVER)
    for begin, end, turnover in zip(moments, [*moments[1:], None], counted, strict=True):
        expected = [event for event in events[:known] if begin < event.at and (end is None or event.at <= end)]
        for change, told in ((Change.ENTERED, turnover.entered_by), (Change.EXITED, turnover.exited_by)):
            causes = [event.cause for event in expected if event.flip.change is change]
            assert told == {cause: causes.count(cause) for cause in set(causes)}


def test_members_and_sizes_are_those_of_each_moment(
    service: Service, org: str, client: Client, tracking: Tracking
) -> None:
    service.insert(org, [{"id": "a", "data": PAID}, {"id": "b"}, {"id": "c"}])
    audience = tracking()
    audience.round()
    for day, plans in enumerate([{"b": "paid"}, {"a": "free", "c": "paid"}, {"b": "free"}, {"b": "paid"}], 1):
        set_plans(audience, **plans)
        audience.round(NOON + day * DAY)
    expected = [["a"], ["a", "b"], ["b", "c"], ["c"], ["b", "c"]]
    for day, keys in enumerate(expected):
        for moment in (NOON + day * DAY, NOON + (day + 1) * DAY - SECOND):
            if moment <= NOON + 4 * DAY:
                told = client.members(audienceId=audience.audience, asOf=stamp(moment))
                assert told == [f"contact-{key}" for key in keys]
    found = history(audience, None, None, 5)
    assert (found.known_since, found.as_of) == (NOON, NOON + 4 * DAY)
    assert [(point.at, point.size) for point in found.points] == [
        (NOON + day * DAY, len(keys)) for day, keys in enumerate(expected)
    ]
    assert [(point.since.entered, point.since.exited) for point in found.points] == [
        (0, 0), (1, 0), (1, 1), (0, 1), (1, 0),
    ]  # fmt: skip
    assert [point.size for point in history(audience, None, NOON + DAY, 1).points] == [2]


def test_what_has_been_forgotten_is_not_known_and_what_is_left_stays_right(
    service: Service, org: str, client: Client, tracking: Tracking, refused: Callable[..., Refusal]
) -> None:
    service.insert(org, [{"id": key} for key in "abc"])
    audience = tracking()
    audience.round()
    for day, key in enumerate("abc", 1):
        set_plans(audience, **{key: "paid"})
        audience.round(NOON + day * DAY)
    audience.round(NOON + 9 * DAY)
    assert [event.seq for event in service.store.ledger.read(org, audience.watch().generation, 2, None, 9, NEVER)] == [
        3
    ]
    since = NOON + 2 * DAY
    found = history(audience, NOON, None, 8)
    assert (found.known_since, found.points[0].at) == (since, since)
    assert [point.size for point in found.points] == [2, 3, 3, 3, 3, 3, 3, 3]
    assert client.members(audienceId=audience.audience, asOf=stamp(since)) == ["contact-a", "contact-b"]
    request = {"audienceId": audience.audience, "asOf": stamp(since - SECOND)}
    refusal = refused(lambda: client.call("StreamMembers", request))
    assert (refusal.code.name, refusal.info.reason) == ("OUT_OF_RANGE", "TIME_OUT_OF_RANGE")
    assert refusal.info.metadata == {
        "earliest_time": "2026-03-03T12:00:00.000Z",
        "watermark": "2026-03-10T12:00:00.000Z",
    }


def test_fields_are_as_they_are_now_and_who_is_gone_for_good_is_told_by_id(
    service: Service, org: str, client: Client, tracking: Tracking
) -> None:
    service.insert(org, [{"id": key, "data": {**PAID, "city": "Oslo"}} for key in "abc"])
    audience = tracking()
    audience.round()
    audience.update("a", **{"data.plan": "free", "data.city": "Rome"})
    audience.update("b", state="deleted")
    service.store.database["contact"].delete_one({"sk": f"{org}/contact/c"})
    audience.round(NOON + DAY)
    request = {"audienceId": audience.audience, "asOf": stamp(NOON), "fields": ["city"]}
    members = [member for message in client.call("StreamMembers", request) for member in message.members]
    assert [(member.id, dict(member.fields)) for member in members] == [
        ("contact-a", {"city": "Rome"}),
        ("contact-b", {"city": "Oslo"}),
        ("contact-c", {}),
    ]
    assert client.members(audienceId=audience.audience, asOf=stamp(NOON + DAY)) == []


def test_a_stream_goes_on_with_the_same_members_whatever_is_tracked_meanwhile(
    service: Service, org: str, client: Client, tracking: Tracking
) -> None:
    service.insert(org, [{"id": key, "data": PAID if key in "aceg" else {}} for key in "abcdefgh"])
    audience = tracking()
    audience.round()
    request = {"audienceId": audience.audience, "asOf": stamp(NOON), "batchSize": 1}
    told: list[str] = []
    cursor = ""
    for number, key in enumerate("habg"):  # the first event behind the moment has the moment's very time
        first = next(client.call("StreamMembers", {**request, "cursor": cursor}))
        told += [member.id for member in first.members]
        cursor = first.cursor
        set_plans(audience, **{key: "free" if key in "aceg" else "paid"})
        audience.round(NOON + number * SECOND)
    last = list(client.call("StreamMembers", {**request, "cursor": cursor}))
    assert [message.totals.member_count for message in last] == [4]
    assert told == [f"contact-{key}" for key in "aceg"]


@pytest.mark.parametrize(
    ("sent", "happens", "error"),
    [
        (2, "cut", TimeOutOfRange),
        (3, "cut", TimeOutOfRange),
        (2, "end", AudienceNotWatched),
        (3, "end", AudienceNotWatched),
    ],
)
def test_a_stream_whose_ledger_is_cut_or_ends_midway_ends_with_an_error(
    service: Service, org: str, tracking: Tracking, sent: int, happens: str, error: type[Exception]
) -> None:
    service.insert(org, [{"id": key, "data": PAID} for key in "abc"])
    audience = tracking()
    audience.round()
    store, call = service.store, call_of(audience)
    past = Past(store.watches, store.past, Audiences(store.segments, FilterCompiler(["contact"])))
    moment = past.find(call, audience.audience, NOON)
    stream = past.members(call, moment, [], 1, "")
    assert [next(stream)[0]["pk"] for _ in range(sent)] == ["contact-a", "contact-b", "contact-c"][:sent]
    set_plans(audience, c="free")
    audience.round(NOON + SECOND)
    if happens == "cut":
        audience.round(NOON + 8 * DAY)
        assert audience.ledger() == []
    else:
        ended = {"$set": {"generation": "", "seq": 0, "as_of": None, "known_since": None}}
        store.database["audience_watch"].update_one({"audience": audience.audience}, ended)
        store.ledger.remove(org, moment.generation, NEVER)
    with pytest.raises(error):
        next(stream)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"filter": {"datatype": "contact", "where": {}}}, "as_of"),
        ({"snapshotId": "snapshot-some"}, "as_of"),
        ({"audienceIds": ["segment-a", "segment-b"]}, "as_of"),
        ({"audienceId": "segment-a", "audienceIds": ["segment-b"]}, "audience_ids"),
        ({"audienceId": "segment-a", "excludeAudienceIds": ["segment-b"]}, "exclude_audience_ids"),
        ({"audienceId": "segment-a", "purpose": "email"}, "purpose"),
        ({"audienceId": "segment-a", "partition": {"count": 2}}, "partition"),
    ],
)
def test_only_one_audience_has_a_past(
    client: Client, refused: Callable[..., Refusal], request_: dict[str, Any], field: str
) -> None:
    refusal = refused(lambda: client.call("StreamMembers", {**request_, "asOf": stamp(NOON)}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])


def test_what_is_not_watched_or_lies_behind_the_last_look_is_refused(
    service: Service, org: str, client: Client, tracking: Tracking, refused: Callable[..., Refusal]
) -> None:
    unwatched = client.create(name="unwatched", filter={"datatype": "contact", "where": PAID})
    request = {"audienceId": unwatched.id, "asOf": stamp(NOON)}
    refusal = refused(lambda: client.call("StreamMembers", request))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "AUDIENCE_NOT_WATCHED")
    audience = tracking()
    request["audienceId"] = audience.audience
    assert refused(lambda: client.call("StreamMembers", request)).info.reason == "AUDIENCE_NOT_WATCHED"
    audience.round()
    assert client.members(**request) == []
    later = {**request, "asOf": stamp(NOON + SECOND)}
    assert refused(lambda: client.call("StreamMembers", later)).info.reason == "TIME_OUT_OF_RANGE"
    assert refused(lambda: client.call("StreamMembers", {**request, "audienceId": "segment-none"})).info.reason == (
        "AUDIENCE_NOT_FOUND"
    )
    theirs = service.client(f"{org}2")
    assert refused(lambda: theirs.call("StreamMembers", request)).info.reason == "AUDIENCE_NOT_FOUND"
    [end] = client.call("StreamMembers", request)
    moved = {**request, "asOf": stamp(NOON - SECOND), "cursor": end.cursor}
    assert refused(lambda: client.call("StreamMembers", moved)).info.reason == "INVALID_PAGE_TOKEN"
