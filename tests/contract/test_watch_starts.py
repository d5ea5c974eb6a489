"""Starts from a snapshot, on every store: who was in by one event of the ledger, whatever has come since."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.errors import SnapshotNotFound
from audience_service.domain.snapshots.snapshot import Snapshot, SnapshotState
from audience_service.domain.watches.errors import WatchTokenExpired
from audience_service.domain.watches.ports import Overtaken
from audience_service.mongo import starts as starts_module
from tests.client import Client
from tests.conftest import Service
from tests.tracked import NEVER, NOON

pytestmark = pytest.mark.usefixtures("unwatched")


def test_who_was_in_by_an_event_is_told_though_later_events_have_been_applied(
    service: Service, org: str, tracked: Any
) -> None:
    """From a snapshot to every event of a random ledger, against a plain fold of it."""
    chance = random.Random(3)
    keys = "abcdefgh"
    service.insert(org, [{"id": key, "data": {"plan": chance.choice(["paid", "free"])}} for key in keys])
    audience = tracked({"plan": "paid"})
    audience.round()
    contacts = service.store.database["contact"]
    states = [{row["pk"] for row in contacts.find({"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}, "data.plan": "paid"})}]
    snapshot = Snapshot(f"snapshot-{org}", "", SnapshotState.READY, "contact", NOON, NOON, "")
    frozen = {f"contact-{key}" for key in chance.sample(keys, 4)}
    rows = [{"audience": snapshot.rows_id, "pk": pk, "sk": f"{org}/contact/{pk[-1]}"} for pk in frozen]
    service.store.database["audience_member"].insert_many(rows)
    for _ in range(12):
        for key in chance.sample(keys, 3):
            audience.update(key, **{"data.plan": chance.choice(["paid", "free"])})
        audience.round()
    states += [states[0].copy() for _ in audience.ledger()]
    for seq, event in enumerate(audience.ledger(), 1):
        states[seq] = states[seq - 1] ^ {event.flip.pk}
    assert len(states) > 10
    for seq, members in enumerate(states):
        expected = {("entered", pk) for pk in members - frozen} | {("exited", pk) for pk in frozen - members}
        for after in ("", f"{org}/contact/d"):
            batches = service.store.starts.differences(org, audience.watch().generation, seq, snapshot, after, NEVER)
            told = [(flip.change.value, flip.pk) for flips, _ in batches for flip in flips]
            behind = {(change, pk) for change, pk in expected if f"{org}/contact/{pk[-1]}" > after}
            assert (set(told), len(told)) == (behind, len(behind))


def test_who_was_in_by_an_event_is_not_told_where_later_events_have_gone(
    service: Service, org: str, tracked: Any
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = tracked({"plan": "paid"})
    audience.round()
    for plan in ("paid", "free"):
        audience.update("a", **{"data.plan": plan})
        audience.round()
    generation = audience.watch().generation
    service.store.ledger.forget(org, generation, NOON + timedelta(days=1), 2, NEVER)
    snapshot = Snapshot(f"snapshot-{org}", "", SnapshotState.READY, "contact", NOON, NOON, "")
    with pytest.raises(Overtaken):
        list(service.store.starts.differences(org, generation, 1, snapshot, "", NEVER))
    assert list(service.store.starts.differences(org, generation, 2, snapshot, "", NEVER)) == []


class Cut:
    """A repository that lets something happen behind so many batches, though the next one has been read by then."""

    def __init__(self, starts: Any, sent: int, happens: Callable[[], None]) -> None:
        self._starts, self._sent, self._happens = starts, sent, happens

    def differences(self, *args: Any) -> Iterator[Any]:
        """The batches, and behind them nothing."""
        for number, batch in enumerate([*self._starts.differences(*args), None]):
            if number == self._sent:
                self._happens()
            if batch:
                yield batch


@pytest.mark.parametrize("sent", [0, 1, 3])
@pytest.mark.parametrize("removed", ["snapshot", "generation"])
def test_a_start_whose_snapshot_or_ledger_is_removed_meanwhile_ends_with_an_error(
    service: Service, org: str, client: Client, tracked: Any, monkeypatch: pytest.MonkeyPatch, removed: str, sent: int
) -> None:
    monkeypatch.setattr(starts_module, "_BATCH", 1)
    service.insert(org, [{"id": key} for key in "abc"])
    snapshot = client.snapshot(filter={"datatype": "contact", "where": {}})
    audience = tracked({"plan": "paid"})
    audience.round()
    generation = audience.watch().generation

    def remove() -> None:
        if removed == "snapshot":
            client.call("DeleteSnapshot", {"id": snapshot.id})
        else:
            ended = {"$set": {"generation": "", "seq": 0, "event_at": None, "as_of": None, "known_since": None}}
            service.store.database["audience_watch"].update_one({"audience": audience.audience}, ended)
            service.store.ledger.remove(org, generation, NEVER)

    stream = audience.listen(0, snapshot_id=snapshot.id, starts=Cut(service.store.starts, sent, remove))
    told = [event.flip.pk for _ in range(sent) for event in next(stream).events]
    assert told == ["contact-a", "contact-b", "contact-c"][:sent]
    with pytest.raises(SnapshotNotFound if removed == "snapshot" else WatchTokenExpired):
        next(stream)
