"""The members of a watched audience at a past time, read from its event log, on every store."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from audience_service.domain.filters import FilterCompiler
from audience_service.domain.history.errors import AudienceNotWatched, TimeOutOfRange
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.history.model import Cause, ChangeKind, Event, MembershipChange
from tests.conftest import Service
from tests.support.audiences import segment_resolver
from tests.support.client import Client, Refusal
from tests.support.examples import examples
from tests.support.history import DAY, PAID, SECOND, MakeHarness, context_of, history, set_plans, to_json_time
from tests.support.watch_harness import NO_DEADLINE, NOON

pytestmark = pytest.mark.usefixtures("unwatched", "read_by_twos")

membership_changes = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.sampled_from([Cause.DATA, Cause.TIME, Cause.DEFINITION]), st.integers(0, 2)
    ),
    max_size=25,
)
"""Of whom, why, and how many seconds after the flip before."""


@examples(25, *HealthCheck)
@given(
    began=st.sets(st.sampled_from("abcdef")),
    happened=membership_changes,
    known=st.integers(0, 25),
    applied=st.integers(0, 25),
    kept_from=st.integers(-1, 30),
    data=st.data(),
)
def test_history_is_a_fold_of_the_events(
    service: Service, began: set[str], happened: Any, known: int, applied: int, kept_from: int, data: Any
) -> None:
    """The history ends at the `known` events; later ones were appended, and perhaps applied, in the meantime."""
    org = f"fold{next(service.names)}x"
    event_log, past, watch_epoch = service.store.event_log, service.store.history, f"watch-{org}"
    rows = [
        {"_id": f"{watch_epoch}/{org}/contact/{key}", "pk": f"contact-{key}", "sk": f"{org}/contact/{key}"}
        | {"member": True, "seq": 0}
        for key in sorted(began)
    ]
    if rows:
        service.store.database["audience_member_state"].insert_many(rows)
    events, states, at = [], [frozenset(began)], NOON
    for seq, (key, cause, seconds) in enumerate(happened, 1):
        at += seconds * SECOND
        change = ChangeKind.EXITED if key in states[-1] else ChangeKind.ENTERED
        events.append(Event(seq, MembershipChange(f"contact-{key}", f"{org}/contact/{key}", change), cause, at))
        states.append(states[-1] ^ {key})
    known = min(known, len(events))
    until = min(max(known, applied), len(events))
    if events:
        event_log.append(org, watch_epoch, events, NO_DEADLINE)
    if until:
        event_log.apply(org, watch_epoch, events[:until], NO_DEADLINE)
    since = NOON + kept_from * SECOND if known else NOON
    event_log.trim(org, watch_epoch, since, known, NO_DEADLINE)

    assert past.size(org, watch_epoch, known, NO_DEADLINE) == len(states[known])
    timestamp = NOON + data.draw(st.integers(max(kept_from, 0), 50)) * SECOND
    seq = past.last_event(org, watch_epoch, known, timestamp, NO_DEADLINE)
    assert seq == len([event for event in events[:known] if event.occurred_at <= timestamp])
    after = data.draw(st.sampled_from(["", "b", "d"]))
    after_sk = f"{org}/contact/{after}" if after else ""
    batches = list(past.members(org, watch_epoch, seq, "contact", [], 2, after_sk, NO_DEADLINE))
    assert [record["sk"][-1] for batch in batches for record in batch] == sorted(k for k in states[seq] if k > after)
    assert all(0 < len(batch) <= 2 for batch in batches)
    assert past.size(org, watch_epoch, seq, NO_DEADLINE) == len(states[seq])

    gaps = data.draw(st.lists(st.integers(1, 5), max_size=5))
    timestamps = [timestamp + sum(gaps[:n]) * SECOND for n in range(len(gaps) + 1)]
    counted = past.event_counts(org, watch_epoch, known, timestamps, NO_DEADLINE)
    for begin, end, counts in zip(timestamps, [*timestamps[1:], None], counted, strict=True):
        expected = [
            event for event in events[:known] if begin < event.occurred_at and (end is None or event.occurred_at <= end)
        ]
        for change, received in ((ChangeKind.ENTERED, counts.entered_by), (ChangeKind.EXITED, counts.exited_by)):
            causes = [event.cause for event in expected if event.change.kind is change]
            assert received == {cause: causes.count(cause) for cause in set(causes)}


def test_members_and_sizes_match_each_time(
    service: Service, org: str, client: Client, track_paid_audience: MakeHarness
) -> None:
    service.insert(org, [{"id": "a", "data": PAID}, {"id": "b"}, {"id": "c"}])
    audience = track_paid_audience()
    audience.reconcile()
    for day, plans in enumerate([{"b": "paid"}, {"a": "free", "c": "paid"}, {"b": "free"}, {"b": "paid"}], 1):
        set_plans(audience, **plans)
        audience.reconcile(NOON + day * DAY)
    expected = [["a"], ["a", "b"], ["b", "c"], ["c"], ["b", "c"]]
    for day, keys in enumerate(expected):
        for timestamp in (NOON + day * DAY, NOON + (day + 1) * DAY - SECOND):
            if timestamp <= NOON + 4 * DAY:
                received = client.members(audienceId=audience.audience_id, asOf=to_json_time(timestamp))
                assert received == [f"contact-{key}" for key in keys]
    found = history(audience, None, None, 5)
    assert (found.retained_from, found.watermark) == (NOON, NOON + 4 * DAY)
    assert [(point.at, point.size) for point in found.points] == [
        (NOON + day * DAY, len(keys)) for day, keys in enumerate(expected)
    ]
    assert [(point.event_counts.entered, point.event_counts.exited) for point in found.points] == [
        (0, 0), (1, 0), (1, 1), (0, 1), (1, 0),
    ]  # fmt: skip
    assert [point.size for point in history(audience, None, NOON + DAY, 1).points] == [2]


def test_trimmed_history_is_out_of_range_and_the_rest_stays_right(
    service: Service, org: str, client: Client, track_paid_audience: MakeHarness, refused: Callable[..., Refusal]
) -> None:
    service.insert(org, [{"id": key} for key in "abc"])
    audience = track_paid_audience()
    audience.reconcile()
    for day, key in enumerate("abc", 1):
        set_plans(audience, **{key: "paid"})
        audience.reconcile(NOON + day * DAY)
    audience.reconcile(NOON + 9 * DAY)
    assert [
        event.seq for event in service.store.event_log.read(org, audience.watch().watch_epoch, 2, None, 9, NO_DEADLINE)
    ] == [3]
    since = NOON + 2 * DAY
    found = history(audience, NOON, None, 8)
    assert (found.retained_from, found.points[0].at) == (since, since)
    assert [point.size for point in found.points] == [2, 3, 3, 3, 3, 3, 3, 3]
    assert client.members(audienceId=audience.audience_id, asOf=to_json_time(since)) == ["contact-a", "contact-b"]
    request = {"audienceId": audience.audience_id, "asOf": to_json_time(since - SECOND)}
    refusal = refused(lambda: client.call("StreamMembers", request))
    assert (refusal.code.name, refusal.info.reason) == ("OUT_OF_RANGE", "TIME_OUT_OF_RANGE")
    assert refusal.info.metadata == {
        "earliest_time": "2026-03-03T12:00:00.000Z",
        "watermark": "2026-03-10T12:00:00.000Z",
    }


def test_fields_are_current_and_removed_records_have_only_an_id(
    service: Service, org: str, client: Client, track_paid_audience: MakeHarness
) -> None:
    service.insert(org, [{"id": key, "data": {**PAID, "city": "Oslo"}} for key in "abc"])
    audience = track_paid_audience()
    audience.reconcile()
    audience.update("a", **{"data.plan": "free", "data.city": "Rome"})
    audience.update("b", state="deleted")
    service.store.database["contact"].delete_one({"sk": f"{org}/contact/c"})
    audience.reconcile(NOON + DAY)
    request = {"audienceId": audience.audience_id, "asOf": to_json_time(NOON), "fields": ["city"]}
    members = [member for message in client.call("StreamMembers", request) for member in message.members]
    assert [(member.id, dict(member.fields)) for member in members] == [
        ("contact-a", {"city": "Rome"}),
        ("contact-b", {}),
        ("contact-c", {}),
    ]
    assert client.members(audienceId=audience.audience_id, asOf=to_json_time(NOON + DAY)) == []


def test_a_resumed_stream_has_the_same_members_after_new_events(
    service: Service, org: str, client: Client, track_paid_audience: MakeHarness
) -> None:
    service.insert(org, [{"id": key, "data": PAID if key in "aceg" else {}} for key in "abcdefgh"])
    audience = track_paid_audience()
    audience.reconcile()
    request = {"audienceId": audience.audience_id, "asOf": to_json_time(NOON), "batchSize": 1}
    received: list[str] = []
    cursor = ""
    for number, key in enumerate("habg"):  # the first event after the timestamp has the same time
        first = next(client.call("StreamMembers", {**request, "cursor": cursor}))
        received += [member.id for member in first.members]
        cursor = first.cursor
        set_plans(audience, **{key: "free" if key in "aceg" else "paid"})
        audience.reconcile(NOON + number * SECOND)
    last = list(client.call("StreamMembers", {**request, "cursor": cursor}))
    assert [message.totals.member_count for message in last] == [4]
    assert received == [f"contact-{key}" for key in "aceg"]


@pytest.mark.parametrize(
    ("sent", "happens", "error"),
    [
        (2, "cut", TimeOutOfRange),
        (3, "cut", TimeOutOfRange),
        (2, "end", AudienceNotWatched),
        (3, "end", AudienceNotWatched),
    ],
)
def test_a_stream_fails_if_its_epoch_is_trimmed_or_closed(
    service: Service, org: str, track_paid_audience: MakeHarness, sent: int, happens: str, error: type[Exception]
) -> None:
    service.insert(org, [{"id": key, "data": PAID} for key in "abc"])
    audience = track_paid_audience()
    audience.reconcile()
    store, ctx = service.store, context_of(audience)
    past = MembershipHistory(
        store.watches, store.history, segment_resolver(store.segments, FilterCompiler(["contact"]))
    )
    timestamp = past.find(ctx, audience.audience_id, NOON)
    stream = past.members(ctx, timestamp, [], 1, "")
    assert [next(stream)[0]["pk"] for _ in range(sent)] == ["contact-a", "contact-b", "contact-c"][:sent]
    set_plans(audience, c="free")
    audience.reconcile(NOON + SECOND)
    if happens == "cut":
        audience.reconcile(NOON + 8 * DAY)
        assert audience.event_log() == []
    else:
        ended = {"$set": {"watch_epoch": "", "seq": 0, "watermark": None, "retained_from": None}}
        store.database["audience_watch"].update_one({"audience": audience.audience_id}, ended)
        store.event_log.remove(org, timestamp.watch_epoch, NO_DEADLINE)
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
def test_history_needs_exactly_one_audience(
    client: Client, refused: Callable[..., Refusal], request_: dict[str, Any], field: str
) -> None:
    refusal = refused(lambda: client.call("StreamMembers", {**request_, "asOf": to_json_time(NOON)}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])


def test_unwatched_audiences_and_times_after_the_watermark_are_refused(
    service: Service, org: str, client: Client, track_paid_audience: MakeHarness, refused: Callable[..., Refusal]
) -> None:
    unwatched = client.create(name="unwatched", filter={"datatype": "contact", "where": PAID})
    request = {"audienceId": unwatched.id, "asOf": to_json_time(NOON)}
    refusal = refused(lambda: client.call("StreamMembers", request))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "AUDIENCE_NOT_WATCHED")
    audience = track_paid_audience()
    request["audienceId"] = audience.audience_id
    assert refused(lambda: client.call("StreamMembers", request)).info.reason == "AUDIENCE_NOT_WATCHED"
    audience.reconcile()
    assert client.members(**request) == []
    later = {**request, "asOf": to_json_time(NOON + SECOND)}
    assert refused(lambda: client.call("StreamMembers", later)).info.reason == "TIME_OUT_OF_RANGE"
    assert refused(lambda: client.call("StreamMembers", {**request, "audienceId": "segment-none"})).info.reason == (
        "AUDIENCE_NOT_FOUND"
    )
    theirs = service.client(f"{org}2")
    assert refused(lambda: theirs.call("StreamMembers", request)).info.reason == "AUDIENCE_NOT_FOUND"
    [end] = client.call("StreamMembers", request)
    moved = {**request, "asOf": to_json_time(NOON - SECOND), "cursor": end.cursor}
    assert refused(lambda: client.call("StreamMembers", moved)).info.reason == "INVALID_PAGE_TOKEN"
