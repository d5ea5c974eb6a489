"""Who tracks a watched audience, and for how long, on every store."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.history.model import Cause, ChangeKind, Event, MembershipChange, Watch
from audience_service.domain.watch.model import FULL_SCAN, ChangedKeys, ReconcileResult, ScanScope
from audience_service.domain.watch.schedule import PollingConfig
from audience_service.domain.watch.scheduler import WatchScheduler
from audience_service.mongo.store import Store
from tests.conftest import run_service
from tests.contract.test_watch import VIPS, watching
from tests.support.waiting import eventually

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class World:
    """A clock, and reconciliations that the test scripts."""

    def __init__(self, store: Store) -> None:
        self.store, self.seconds, self.subscription_count = store, 0.0, 0
        self.is_streaming = False
        self.scopes: list[tuple[str, ScanScope]] = []
        self.during: Callable[[Watch], ReconcileResult | None] = lambda _: None

    def clock(self) -> datetime:
        """The time of day."""
        return NOON + timedelta(seconds=self.seconds)

    def run(self, watch: Watch, lease: str, scope: ScanScope) -> ReconcileResult:
        """A round."""
        self.scopes.append((watch.audience_id, scope))
        return self.during(watch) or ReconcileResult(self.clock())

    def scheduler(self, **config: float) -> WatchScheduler:
        """Another process."""
        reconciler: Any = self
        change_stream: Any = self
        settings = PollingConfig(**{"poll_seconds": 2, "lease_seconds": 15, **config})
        return WatchScheduler(self.store.watches, reconciler, change_stream, settings, self.clock, lambda: self.seconds)

    def subscribe(self, org: str, datatype: str) -> Any:
        """Subscribe to a stream without changes, or to one that is not streaming."""
        self.subscription_count += 1
        on_close = lambda: setattr(self, "subscription_count", self.subscription_count - 1)  # noqa: E731
        return SimpleNamespace(
            datatype=datatype,
            is_streaming=self.is_streaming,
            has_pending=False,
            is_complete=self.is_streaming,
            drain=lambda: ChangedKeys(is_complete=self.is_streaming),
            close=on_close,
        )

    def add_watch(self, audience_id: str, org: str = "acme") -> None:
        """Watch an audience."""
        add_watch(self.store, org, audience_id, NOON + timedelta(days=1))


def add_watch(store: Store, org: str, audience_id: str, until: datetime) -> Watch:
    """Register the first watch of an audience, until a timestamp."""
    assert store.watches.create_provisional(org, audience_id, "proposed", NOON, NEVER)
    watch = store.watches.confirm(org, audience_id, "proposed", until, NEVER)
    assert watch is not None
    return watch


def events_numbered(seq: int) -> list[Event]:
    """An event of this number."""
    return [
        Event(
            seq,
            MembershipChange("contact-a", "acme/contact/a", ChangeKind.ENTERED),
            Cause.DATA,
            NOON + timedelta(seconds=seq),
        )
    ]


def leased_until(store: Store) -> Any:
    """Until when the one watch is leased."""
    [watch] = store.database["audience_watch"].find({})
    return watch["lease_until"]


@pytest.mark.slow
def test_recording_members_may_take_longer_than_a_lease(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    kind: Any = type(store.event_log)
    recorded: list[str] = []
    record = kind.record_members

    def slowly(self: Any, org: str, watch_epoch: str, *rest: Any) -> None:
        recorded.append(watch_epoch)
        started = leased_until(store)
        eventually(lambda: leased_until(store) > started + timedelta(seconds=3.5))
        record(self, org, watch_epoch, *rest)

    monkeypatch.setattr(kind, "record_members", slowly)
    for service in run_service("", store, watch_lease_seconds=3):
        client = service.client("acme")
        with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
            assert watcher.has_no_events()
    assert len(recorded) == 1


def test_a_renewed_lease_is_never_acquired_by_another_process(store: Store) -> None:
    world = World(store)
    world.add_watch("segment-a")
    one, other = world.scheduler(poll_seconds=100), world.scheduler(poll_seconds=100)
    one.step()
    for _ in range(18):
        world.seconds += one.renew_interval_seconds
        one.renew_leases()
        other.step()
    assert world.scopes == [("segment-a", FULL_SCAN)]


def test_an_expired_lease_is_acquired_by_another_process(store: Store) -> None:
    world = World(store)
    world.add_watch("segment-a")
    one, other = world.scheduler(), world.scheduler()
    one.step()
    world.seconds = 14
    other.step()
    assert len(world.scopes) == 1
    world.seconds = 16
    other.step()
    assert len(world.scopes) == 2
    one.renew_leases()  # too late
    world.seconds = 20
    one.step()
    assert len(world.scopes) == 2
    other.step()
    assert len(world.scopes) == 3


def test_a_stopped_process_releases_its_leases(store: Store) -> None:
    world = World(store)
    for name in ("segment-a", "segment-b"):
        world.add_watch(name)
    one, other = world.scheduler(), world.scheduler()
    for _ in range(3):
        one.step()
    one.release()
    world.scopes.clear()
    for _ in range(3):
        other.step()
    assert sorted(name for name, _ in world.scopes) == ["segment-a", "segment-b"]


def test_all_free_watches_are_acquired_and_scanned(store: Store) -> None:
    world = World(store)
    names = [f"segment-{number}" for number in range(5)]
    for name in names:
        world.add_watch(name)
    scheduler = world.scheduler()
    for _ in range(6):
        scheduler.step()
    assert sorted(name for name, _ in world.scopes) == names


@pytest.mark.parametrize("error", [RuntimeError("a defect"), LeaseLost()])
def test_a_failed_scan_is_retried_without_blocking_others(store: Store, error: Exception) -> None:
    world = World(store)
    for name in ("segment-a", "segment-b"):
        world.add_watch(name)
    scheduler = world.scheduler()

    def run(watch: Watch) -> None:
        if watch.audience_id == "segment-a":
            raise error

    world.during = run
    for _ in range(40):
        scheduler.step()
        world.seconds += 0.5
    counts = [sum(name == each for each, _ in world.scopes) for name in ("segment-a", "segment-b")]
    assert min(counts) >= 8


def test_a_failed_scan_causes_a_full_scan(store: Store) -> None:
    world = World(store)
    world.add_watch("segment-a")
    world.is_streaming = True
    scheduler = world.scheduler()

    def succeed(_: Watch) -> ReconcileResult:
        return ReconcileResult(world.clock(), change_stream_datatype="contact")

    def fail(_: Watch) -> None:
        raise LeaseLost

    for world.during in (succeed, fail, succeed):
        scheduler.step()
        world.seconds += 5
    assert [scope == FULL_SCAN for _, scope in world.scopes] == [True, False, True]


def test_a_subscription_ends_with_its_lease(store: Store) -> None:
    world = World(store)
    for name in ("segment-a", "segment-b"):
        world.add_watch(name)
    world.during = lambda _: ReconcileResult(world.clock(), change_stream_datatype="contact")
    scheduler = world.scheduler()
    for _ in range(3):
        scheduler.step()
    assert world.subscription_count == 2
    store.database["audience_watch"].delete_one({"audience": "segment-a"})
    world.seconds = 5
    for _ in range(3):
        scheduler.step()
    assert world.subscription_count == 1
    scheduler.release()
    assert world.subscription_count == 0


def test_two_threads_never_scan_one_audience_concurrently(store: Store) -> None:
    world = World(store)
    world.add_watch("segment-a")
    scheduler = world.scheduler()
    depth: list[int] = []

    def again(_: Watch) -> None:
        depth.append(1)
        if len(depth) < 3:
            world.seconds += 5
            scheduler.step()

    world.during = again
    scheduler.step()
    assert len(depth) == 1


def test_leases_are_renewed_per_org(store: Store) -> None:
    for org in ("acme", "umbrella"):
        add_watch(store, org, "segment-a", NOON)
    later = NOON + timedelta(hours=1)
    mine, theirs = (store.watches.acquire(lease, NOON, later, NEVER) for lease in ("mine", "theirs"))
    assert mine is not None
    assert theirs is not None
    store.watches.renew_all([(*mine, "mine"), (*theirs, "mine")], later + timedelta(hours=1), NEVER)
    until = {row["lease"]: row["lease_until"] for row in store.database["audience_watch"].find({})}
    assert until == {"mine": later + timedelta(hours=1), "theirs": later}


def test_a_watch_expires_at_the_latest_requested_time(store: Store) -> None:
    later = NOON + timedelta(hours=1)
    add_watch(store, "acme", "segment-a", NOON)
    for until in (later, NOON):
        watch = store.watches.touch("acme", "segment-a", until, NEVER)
        assert watch is not None
        assert watch.expires_at == later


def test_the_progress_of_an_epoch_never_decreases_or_carries_over(store: Store) -> None:
    watch = add_watch(store, "acme", "segment-a", NOON)
    store.watches.acquire("mine", NOON, NOON + timedelta(hours=1), NEVER)
    store.watches.start_epoch(watch, "mine", "watch-1", NOON, "", NEVER)
    first = store.watches.get("acme", "segment-a", NEVER)
    assert first is not None
    for seq in (5, 3):
        store.watches.advance_seq(first, events_numbered(seq), NEVER)
    ended = store.watches.get("acme", "segment-a", NEVER)
    assert ended is not None
    assert ended.seq == 5
    with pytest.raises(LeaseLost):
        store.watches.advance_watermark(first, "mine", 3, NOON + timedelta(hours=1), "", NEVER)
    store.watches.close_epoch(first, "mine", NOON, NEVER)
    with pytest.raises(LeaseLost):
        store.watches.advance_seq(first, events_numbered(6), NEVER)
    with pytest.raises(LeaseLost):
        store.watches.start_epoch(first, "mine", "watch-2", NOON, "", NEVER)
    after = store.watches.get("acme", "segment-a", NEVER)
    assert after is not None
    assert (after.watch_epoch, after.seq, after.stale_epochs) == ("", 0, ("watch-1",))
