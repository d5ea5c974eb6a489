"""Rounds of tracking run step by step, on every store: what happens in the midst of one, and at its end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.watches import rounds as rounds_module
from audience_service.domain.watches import watching as watching_module
from audience_service.domain.watches.errors import WatchTokenExpired
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import EVERYTHING, Changes, Look
from audience_service.mongo import ledger as ledger_module
from tests.conftest import Service
from tests.midst import Midst
from tests.tracked import LATELY, NEVER, NOON, Tracked

pytestmark = pytest.mark.usefixtures("unwatched")


def test_a_process_whose_clock_is_behind_takes_nothing_back(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"lastOpened": NOON - timedelta(days=30)}}])
    audience = tracked(LATELY)
    audience.round()
    audience.round(NOON + timedelta(seconds=2))
    assert audience.events() == [("exited", "contact-a")]
    outlook = audience.round(NOON - timedelta(hours=1))
    assert audience.events() == [("exited", "contact-a")]
    assert audience.watch().as_of == outlook.looked_at == NOON + timedelta(seconds=2, milliseconds=1)


def test_what_a_process_recorded_that_died_meanwhile_is_removed(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.round(ledger=Midst(service.store.ledger, "record", after=die))
    [left_behind] = audience.watch().garbage
    assert (audience.watch().generation, rows(service, left_behind)) == ("", 1)
    audience.round()
    assert (rows(service, left_behind), rows(service, audience.watch().generation)) == (0, 1)
    assert audience.watch().garbage == ()


def test_events_that_were_appended_and_not_applied_are_applied_first(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.update("a", **{"data.plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.round(ledger=Midst(service.store.ledger, "append", after=die))
    assert (audience.watch().seq, audience.events()) == (0, [("entered", "contact-a")])
    audience.update("a", **{"data.plan": "free"})
    audience.round(NOON + timedelta(seconds=1))
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]
    assert audience.watch().seq == 2


def test_a_watch_is_removed_behind_all_that_was_recorded_for_it(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})
    audience.round()
    generation, late = audience.watch().generation, NOON + timedelta(days=2_000)

    def die() -> None:
        raise RuntimeError("dies")

    audience.round(late)
    assert (audience.watch().garbage, rows(service, generation)) == ((generation,), 1)
    with pytest.raises(RuntimeError):
        audience.round(late, ledger=Midst(service.store.ledger, "remove", before=die))
    with pytest.raises(Overtaken):
        service.store.watches.end(audience.watch(), audience.lease, late, NEVER)
    audience.round(late)
    assert (service.store.watches.get(org, audience.audience, NEVER), rows(service, generation)) == (None, 0)


def test_a_filter_that_fails_is_told_and_mended_by_the_next_round(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})
    audience.round()
    audience.define({"plan": {"$near": 1}})
    audience.round()
    failure = audience.watch().failure
    assert failure is not None
    assert failure.reason == "UNUSABLE_AUDIENCE"
    audience.define({"plan": "free"})
    audience.round()
    assert audience.watch().failure is None
    assert audience.events() == [("exited", "contact-a")]


def keys_of(org: str, keys: str) -> frozenset[str]:
    """The sks of contacts."""
    return frozenset(f"{org}/contact/{key}" for key in keys)


def rows(service: Service, generation: str) -> int:
    """How many members are recorded for a generation."""
    found = service.store.database["audience_tracked"].find({}, {"_id": 1})
    return sum(row["_id"].startswith(f"{generation}/") for row in found)


def test_what_changed_is_looked_at_alone(service: Service, org: str, tracked: Any) -> None:
    service.insert(org, [{"id": "a"}, {"id": "b"}, {"id": "c", "data": {"plan": "paid"}}])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    assert (outlook.follows, outlook.next_passage) == ("contact", None)
    for key, plan in (("a", "paid"), ("b", "paid"), ("c", "free")):
        audience.update(key, **{"data.plan": plan})
    changed = Changes(frozenset(f"{org}/contact/{key}" for key in "ac"), complete=True, complete_at=NOON)
    ledger = Midst(service.store.ledger, "differences", before=lambda: pytest.fail("everything is compared"))
    audience.round(NOON + timedelta(seconds=5), Look(changed, outlook), ledger=ledger)
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-c")]
    assert audience.watch().as_of == NOON


def test_a_round_tells_all_that_it_finds_though_that_is_more_than_one_command_takes(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_JUDGED", 2)
    monkeypatch.setattr(rounds_module, "_PAGE", 2)
    service.insert(org, [{"id": key} for key in "abcde"])
    audience = tracked({"plan": "paid"})
    outlook = audience.round()
    for plan, look in (("paid", EVERYTHING), ("free", Look(Changes(keys_of(org, "abcde"), complete=True), outlook))):
        for key in "abcde":
            audience.update(key, **{"data.plan": plan})
        audience.round(look=look)
    assert [event.seq for event in audience.ledger()] == list(range(1, 11))


@pytest.mark.parametrize("where", [{"$inAudience": "list"}, {"$related": "order"}])
def test_filters_that_look_into_other_collections_follow_no_changes(real_service: Service, where: Any) -> None:
    org = f"joined{next(real_service.names)}"
    client = real_service.client(org)
    if "$inAudience" in where:
        where = {"$inAudience": client.create(name="list", type="static").id}
    else:
        real_service.insert(org, [{}], "order")
        where = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}}
    audience = Tracked(real_service, org, where)
    assert audience.round().follows == ""
    assert audience.watch().failure is None


def test_events_go_when_they_have_been_kept_for_their_time_and_tokens_with_them(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    for day, plan in enumerate(["paid", "free", "paid", "free"]):
        audience.update("a", **{"data.plan": plan})
        audience.round(NOON + timedelta(days=day))
    later = NOON + timedelta(days=8, hours=1)
    audience.round(later)
    read = service.store.ledger.read
    generation = audience.watch().generation
    assert [event.seq for event in read(org, generation, 2, None, 10, NEVER)] == [3, 4]
    assert read(org, generation, 1, None, 10, NEVER) == []
    for position, why in ((2, ""), (1, "older than the retention period")):
        stream = audience.listen(position)
        if why:
            with pytest.raises(WatchTokenExpired, match=why):
                next(stream)
        else:
            assert [event.seq for event in next(stream).events] == [3, 4]
        stream.close()
    audience.update("a", **{"data.plan": "paid"})
    audience.round(later)
    assert audience.watch().seq == 5


def test_it_is_noted_that_events_may_be_gone_before_any_is(service: Service, org: str, tracked: Any) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.round(NOON + timedelta(days=8), ledger=Midst(service.store.ledger, "forget", before=die))
    assert audience.watch().known_since == NOON + timedelta(days=1)


def test_a_token_from_behind_the_ledgers_end_is_refused(service: Service, org: str, tracked: Any) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    stream = audience.listen(1)
    with pytest.raises(WatchTokenExpired, match="was reset"):
        next(stream)


def test_messages_before_the_last_that_is_known_of_do_not_say_that_nothing_is_missing(
    service: Service, org: str, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_module, "_BATCH", 2)
    service.insert(org, [{"id": key} for key in "abc"])
    audience = tracked({"plan": "paid"})
    audience.round()
    for key in "abc":
        audience.update(key, **{"data.plan": "paid"})
    audience.round()
    stream = audience.listen(0)
    messages = [next(stream) for _ in range(2)]
    stream.close()
    assert [(len(message.events), message.as_of) for message in messages] == [(2, None), (1, audience.watch().as_of)]


def test_an_audience_is_wanted_for_as_long_as_somebody_listens(service: Service, org: str, tracked: Any) -> None:
    audience = tracked({"plan": "paid"})
    audience.round()
    long_ago = {"$set": {"wanted_until": datetime(2020, 1, 1, tzinfo=UTC)}}
    stream = audience.listen(0, checkpoint_seconds=0)
    for _ in range(2):
        service.store.database["audience_watch"].update_one({"audience": audience.audience}, long_ago)
        next(stream)
        assert audience.watch().wanted_until > datetime.now(UTC)
    stream.close()
