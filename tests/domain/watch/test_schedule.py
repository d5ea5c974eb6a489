"""When a process scans a watch again, and with which scope."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

from audience_service.domain.watch.model import FULL_SCAN, ChangedKeys, ReconcileResult, ScanScope
from audience_service.domain.watch.schedule import PollingConfig, ScheduledWatch

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG = PollingConfig(poll_seconds=2)
KEYS = frozenset(("acme/contact/a",))


@dataclass
class FakeSubscription:
    """A subscription as a test has it."""

    datatype: str = "contact"
    is_streaming: bool = True
    has_pending: bool = False
    is_complete: bool = True
    keys: frozenset[str] = frozenset()

    def drain(self) -> ChangedKeys:
        drained = ChangedKeys(self.keys, self.is_complete)
        self.keys, self.has_pending, self.is_complete = frozenset(), False, self.is_streaming
        return drained

    def close(self) -> None:
        self.is_streaming = False


def run_scan(watch: ScheduledWatch, at: float, result: ReconcileResult | None, duration: float = 0.5) -> ScanScope:
    """Run the scan that is due at a time, and record its result."""
    scope = watch.next_scope(at)
    watch.last_result = result
    watch.record_finish(scope, at, at + duration, CONFIG)
    return scope


def test_the_worked_example_of_the_module_holds() -> None:
    """The docstring of schedule.py shows the scans of twelve seconds."""
    watch = ScheduledWatch("acme", "segment-1", "lease")
    subscription = FakeSubscription(is_complete=False, has_pending=True)
    trigger, changes_at = 8.0, [5.1, 5.12, 8.5]
    scans, clock = [], 0.0
    while clock < 12:
        while changes_at and changes_at[0] <= clock + 1e-6:
            subscription.has_pending, subscription.is_complete = True, changes_at.pop(0) != 8.5
        if watch.seconds_until_due(clock, NOON + timedelta(seconds=clock)) <= 1e-6:
            scope = watch.next_scope(clock + 1e-6)
            scans.append((round(clock, 2), scope == FULL_SCAN))
            duration = 1 if scope == FULL_SCAN else 0
            next_trigger = NOON + timedelta(seconds=trigger if clock + 1e-6 < trigger else 60)
            watch.last_result = ReconcileResult(NOON, next_trigger, search_seconds=duration)
            watch.subscription = subscription
            watch.record_finish(scope, clock, clock + duration, CONFIG)
            clock += duration
        else:
            clock += 0.01
    full = [at for at, is_full_scan in scans if is_full_scan]
    incremental = [at for at, is_full_scan in scans if not is_full_scan]
    assert (full, incremental) == ([0, 1, 11], [4, 5.1, 5.2, 7.2, 8, 10])


def test_a_failed_incremental_scan_keeps_the_cooldown_of_the_full_scan() -> None:
    """Full scans take at most a tenth of the time, whatever fails between them."""
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=FakeSubscription())
    for at in (0, 10):
        watch.full_scan_at = at
        run_scan(watch, at, ReconcileResult(NOON, change_stream_datatype="contact", search_seconds=5), duration=5)
    run_scan(watch, 20, None)
    assert watch.seconds_until_due(20.5, NOON) == 60 - 20.5
    assert watch.next_scope(60) == FULL_SCAN


def test_without_a_change_stream_full_scans_run_at_the_poll_interval() -> None:
    watch = ScheduledWatch("acme", "segment-1", "lease")
    assert watch.seconds_until_due(0, NOON) <= 0
    assert run_scan(watch, 0, ReconcileResult(NOON, search_seconds=0.1)) == FULL_SCAN
    assert watch.seconds_until_due(0.5, NOON) == 2
    assert run_scan(watch, 2.5, ReconcileResult(NOON, search_seconds=0.1)) == FULL_SCAN
    assert watch.seconds_until_due(3, NOON) == 2


def test_full_scans_use_a_tenth_of_the_time_and_the_first_has_no_cooldown() -> None:
    watch = ScheduledWatch("acme", "segment-1", "lease")
    run_scan(watch, 0, ReconcileResult(NOON, search_seconds=5), duration=8)
    assert watch.seconds_until_due(8, NOON) == 2
    run_scan(watch, 10, ReconcileResult(NOON, search_seconds=5), duration=8)
    assert watch.seconds_until_due(18, NOON) == 45


def test_a_time_trigger_starts_an_incremental_scan_on_time() -> None:
    watch = ScheduledWatch("acme", "segment-1", "lease")
    result = ReconcileResult(NOON, next_trigger=NOON + timedelta(seconds=1))
    run_scan(watch, 0, result)
    assert watch.seconds_until_due(0.5, NOON) == 1
    assert watch.next_scope(1.5) == ScanScope(last_result=result)


def test_streamed_changes_are_debounced_and_scanned_incrementally() -> None:
    received, result = FakeSubscription(), ReconcileResult(NOON, change_stream_datatype="contact")
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=received)
    run_scan(watch, 0, result)
    assert watch.full_scan_at == inf
    received.keys, received.has_pending = KEYS, True
    assert 0 < watch.seconds_until_due(0.5, NOON) <= 0.5
    assert run_scan(watch, 1, result) == ScanScope(ChangedKeys(KEYS, is_complete=True), result)
    assert watch.seconds_until_due(1.5, NOON) == 2, "the definition check stays due"
    assert watch.full_scan_at == inf


def test_incomplete_changes_cause_a_full_scan_after_the_cooldown() -> None:
    received, result = FakeSubscription(), ReconcileResult(NOON, change_stream_datatype="contact", search_seconds=1)
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=received)
    for at in (0, 10):
        watch.full_scan_at = at
        run_scan(watch, at, result)
    received.is_complete, received.has_pending = False, True
    assert watch.seconds_until_due(18.5, NOON) == -6, "what defines it is due"
    assert watch.next_scope(18.5) == ScanScope(last_result=result), "but everything is not"
    assert not received.is_complete
    assert watch.next_scope(19.5) == FULL_SCAN
    assert received.is_complete


def test_losing_the_change_stream_schedules_full_scans() -> None:
    received, result = FakeSubscription(), ReconcileResult(NOON, change_stream_datatype="contact")
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=received)
    run_scan(watch, 0, result)
    received.is_streaming = False
    run_scan(watch, 5, result)
    assert watch.full_scan_at < inf


def test_a_failed_scan_is_followed_by_a_delayed_full_scan() -> None:
    received = FakeSubscription()
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=received)
    run_scan(watch, 0, ReconcileResult(NOON, change_stream_datatype="contact"))
    received.keys, received.has_pending = KEYS, True
    run_scan(watch, 5, None)
    received.has_pending = True
    assert watch.seconds_until_due(5.5, NOON) > 1
    assert watch.next_scope(20) == FULL_SCAN


def test_unpredictable_time_causes_a_full_scan_every_minute() -> None:
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=FakeSubscription())
    run_scan(watch, 0, ReconcileResult(NOON, change_stream_datatype="contact", time_unpredictable=True))
    assert watch.full_scan_at == 60.5


def test_an_edit_to_unpredictable_time_starts_full_scans_every_minute() -> None:
    watch = ScheduledWatch("acme", "segment-1", "lease", subscription=FakeSubscription())
    run_scan(watch, 0, ReconcileResult(NOON, change_stream_datatype="contact"))
    edited = ReconcileResult(NOON, change_stream_datatype="contact", time_unpredictable=True)
    assert run_scan(watch, 5, edited) != FULL_SCAN
    assert run_scan(watch, 30, edited) != FULL_SCAN
    assert watch.full_scan_at == 65.5
    assert run_scan(watch, 66, edited) == FULL_SCAN
    assert watch.full_scan_at == 126.5


def test_an_edit_of_the_datatype_changes_the_subscription() -> None:
    contacts, leads = FakeSubscription("contact"), FakeSubscription("lead")
    watch = ScheduledWatch(
        "acme",
        "segment-1",
        "lease",
        subscription=contacts,
        last_result=ReconcileResult(NOON, change_stream_datatype="lead"),
    )
    change_stream: Any = SimpleNamespace(subscribe=lambda org, datatype: {("acme", "lead"): leads}[org, datatype])
    watch.update_subscription(change_stream)
    assert watch.subscription is leads
    assert not contacts.is_streaming
