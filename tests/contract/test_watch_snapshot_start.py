"""Watches that start from a snapshot: the members at one event, whatever changed after it, on every store."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.errors import SnapshotNotFound
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.watch.errors import WatchTokenExpired
from audience_service.mongo.watch import history as history_module
from tests.conftest import Service
from tests.support.client import Client
from tests.support.watch_harness import NO_DEADLINE, NOON, TrackAudience

pytestmark = pytest.mark.usefixtures("unwatched")


def test_members_at_an_event_are_right_after_later_events(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    """From a snapshot to every event of a random event log, compared with a plain fold of it."""
    rng = random.Random(3)
    keys = "abcdefgh"
    service.insert(org, [{"id": key, "data": {"plan": rng.choice(["paid", "free"])}} for key in keys])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    contacts = service.store.database["contact"]
    states = [{row["pk"] for row in contacts.find({"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}, "data.plan": "paid"})}]
    snapshot = Snapshot(f"snapshot-{org}", "", CreationState.READY, "contact", NOON, NOON, "")
    snapshot_members = {f"contact-{key}" for key in rng.sample(keys, 4)}
    rows = [
        {"audience": snapshot.list_version_id, "pk": pk, "sk": f"{org}/contact/{pk[-1]}"} for pk in snapshot_members
    ]
    service.store.database["audience_member"].insert_many(rows)
    for _ in range(12):
        for key in rng.sample(keys, 3):
            audience.update(key, **{"data.plan": rng.choice(["paid", "free"])})
        audience.reconcile()
    states += [states[0].copy() for _ in audience.event_log()]
    for seq, event in enumerate(audience.event_log(), 1):
        states[seq] = states[seq - 1] ^ {event.change.pk}
    assert len(states) > 10
    for seq, members in enumerate(states):
        expected = {("entered", pk) for pk in members - snapshot_members} | {
            ("exited", pk) for pk in snapshot_members - members
        }
        for after in ("", f"{org}/contact/d"):
            batches = service.store.history.diff_snapshot(
                org, audience.watch().watch_epoch, seq, snapshot, after, NO_DEADLINE
            )
            received = [(difference.kind.value, difference.pk) for changes, _ in batches for difference in changes]
            remaining = {(change, pk) for change, pk in expected if f"{org}/contact/{pk[-1]}" > after}
            assert (set(received), len(received)) == (remaining, len(remaining))


def test_members_at_an_event_need_all_later_events(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    for plan in ("paid", "free"):
        audience.update("a", **{"data.plan": plan})
        audience.reconcile()
    watch_epoch = audience.watch().watch_epoch
    service.store.event_log.trim(org, watch_epoch, NOON + timedelta(days=1), 2, NO_DEADLINE)
    snapshot = Snapshot(f"snapshot-{org}", "", CreationState.READY, "contact", NOON, NOON, "")
    with pytest.raises(LeaseLost):
        list(service.store.history.diff_snapshot(org, watch_epoch, 1, snapshot, "", NO_DEADLINE))
    assert list(service.store.history.diff_snapshot(org, watch_epoch, 2, snapshot, "", NO_DEADLINE)) == []


class InterruptedDiff:
    """A repository that runs an action after a number of batches, when the next batch is already read."""

    def __init__(self, repository: Any, sent: int, happens: Callable[[], None]) -> None:
        self._repository, self._sent, self._happens = repository, sent, happens

    def diff_snapshot(self, *args: Any) -> Iterator[Any]:
        """The batches, with the action after the given number of them."""
        for number, batch in enumerate([*self._repository.diff_snapshot(*args), None]):
            if number == self._sent:
                self._happens()
            if batch:
                yield batch


@pytest.mark.parametrize("sent", [0, 1, 3])
@pytest.mark.parametrize("removed", ["snapshot", "epoch"])
def test_a_bootstrap_fails_if_its_snapshot_or_epoch_is_removed(
    service: Service,
    org: str,
    client: Client,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
    removed: str,
    sent: int,
) -> None:
    monkeypatch.setattr(history_module, "DIFF_BATCH_SIZE", 1)
    service.insert(org, [{"id": key} for key in "abc"])
    snapshot = client.snapshot(filter={"datatype": "contact", "where": {}})
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    watch_epoch = audience.watch().watch_epoch

    def remove() -> None:
        if removed == "snapshot":
            client.call("DeleteSnapshot", {"id": snapshot.id})
        else:
            ended = {
                "$set": {"watch_epoch": "", "seq": 0, "last_event_at": None, "watermark": None, "retained_from": None}
            }
            service.store.database["audience_watch"].update_one({"audience": audience.audience_id}, ended)
            service.store.event_log.remove(org, watch_epoch, NO_DEADLINE)

    stream = audience.stream(
        0, snapshot_id=snapshot.id, snapshot_diff=InterruptedDiff(service.store.history, sent, remove)
    )
    received = [event.change.pk for _ in range(sent) for event in next(stream).events]
    assert received == ["contact-a", "contact-b", "contact-c"][:sent]
    with pytest.raises(SnapshotNotFound if removed == "snapshot" else WatchTokenExpired):
        next(stream)
