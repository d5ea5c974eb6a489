"""Events that come late, since who has found them stood still: what was answered meanwhile stays, on every store."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.context import Caller, RequestContext
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.history.size_history import SizeHistoryReader, TimeRange
from audience_service.domain.watch import reconciler as reconciler_module
from audience_service.domain.watch.model import ChangedKeys, ScanScope
from audience_service.mongo.watch import event_log as event_log_module
from tests.conftest import Service
from tests.support.audiences import segment_resolver
from tests.support.fault_injection import FailAtStep
from tests.support.watch_harness import NO_DEADLINE, NOON, OPENED_RECENTLY, TrackAudience, WatchHarness

pytestmark = pytest.mark.usefixtures("unwatched")

PAID: dict[str, Any] = {"plan": "paid"}
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)


def members(audience: WatchHarness, at: datetime) -> list[str]:
    """The members that the history returns at a timestamp."""
    store, ctx = audience.store, RequestContext(Caller("test", audience.org, frozenset()), NO_DEADLINE)
    history = MembershipHistory(
        store.watches, store.history, segment_resolver(store.segments, FilterCompiler(["contact"]))
    )
    batches = history.members(ctx, history.find(ctx, audience.audience_id, at), [], 10, "")
    [point] = (
        SizeHistoryReader(store.watches, store.history).history(ctx, audience.audience_id, TimeRange(at, at, 1)).points
    )
    found = [record["pk"] for batch in batches for record in batch]
    assert point.size == len(found)
    return found


def times(audience: WatchHarness) -> list[timedelta]:
    """When events happened, since noon."""
    return [event.occurred_at - NOON for event in audience.event_log()]


def plans(audience: WatchHarness, keys: str, plan: str) -> None:
    """Change the plans of contacts."""
    for key in keys:
        audience.update(key, **{"data.plan": plan})


def die() -> None:
    """End the process here."""
    raise RuntimeError("dies")


class SlowEventLog:
    """An event log that runs an action after each of its first appends."""

    def __init__(self, event_log: Any, happens: list[Callable[[], None]]) -> None:
        self._event_log, self._happens = event_log, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event_log, name)

    def append(self, *args: Any) -> None:
        """Append, and let it happen."""
        self._event_log.append(*args)
        if self._happens:
            self._happens.pop(0)()


@pytest.mark.parametrize("method", ["append", "advance_seq"])
def test_a_late_event_changes_no_earlier_answer(
    service: Service, org: str, track_audience: TrackAudience, method: str
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "a", "paid")
    answers: list[list[str]] = []

    def run_other_process() -> None:
        """Another process finds nothing any more, and says so; for an event that stands there already, all the same."""
        audience.lease_to("theirs")
        plans(audience, "a", "free")
        service.store.watches.advance_watermark(audience.watch(), "theirs", 0, NOON + 10 * SECOND, "", NO_DEADLINE)
        answers.append(members(audience, NOON + 5 * SECOND))

    parts = {"event_log": service.store.event_log, "watches": service.store.watches}
    name = "event_log" if method == "append" else "watches"
    with pytest.raises(LeaseLost):
        replaced: dict[str, Any] = {name: FailAtStep(parts[name], method, before=run_other_process)}
        audience.reconcile(NOON + SECOND, **replaced)
    assert (answers, audience.watch().seq) == ([[]], 0)
    audience.lease_to(audience.lease)
    audience.reconcile(NOON + 20 * SECOND)
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]
    assert times(audience) == [10 * SECOND + MILLISECOND, 20 * SECOND]
    assert members(audience, NOON + 5 * SECOND) == []
    assert members(audience, NOON + 15 * SECOND) == ["contact-a"]


@pytest.mark.parametrize("settled_by", ["the next look", "who appended it"])
def test_an_outdated_late_event_is_undone_without_a_change(
    service: Service, org: str, track_audience: TrackAudience, settled_by: str
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "a", "paid")
    results: list[Any] = []

    def run_other_process() -> None:
        """Another process looks at everything while this one stands still: the contact is out again."""
        plans(audience, "a", "free")
        results.append(audience.reconcile(NOON + 10 * SECOND))

    after = die if settled_by == "the next look" else lambda: None
    stalled = FailAtStep(service.store.event_log, "append", before=run_other_process, after=after)
    with pytest.raises((RuntimeError, LeaseLost)):
        audience.reconcile(NOON + SECOND, event_log=stalled, lease="a lease that was lost")
    assert audience.events() == [("entered", "contact-a")]
    changed_keys = ChangedKeys(is_complete=True, complete_at=NOON + 20 * SECOND)
    audience.reconcile(NOON + 20 * SECOND, ScanScope(changed_keys, results[0]))
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]


def test_events_after_adjusted_events_are_not_earlier(
    service: Service,
    org: str,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_log_module, "BATCH_SIZE", 1)
    service.insert(org, [{"id": key} for key in "abc"])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "abc", "paid")

    def run_other_process(until: int) -> None:
        """Another process has looked, and settles what has come late meanwhile."""
        audience.lease_to("theirs")
        watch = audience.watch()
        service.store.watches.advance_watermark(watch, "theirs", watch.seq, NOON + until * SECOND, "", NO_DEADLINE)
        dying = FailAtStep(service.store.event_log, "diff", before=die)
        with pytest.raises(RuntimeError):
            audience.reconcile(NOON + (until + 5) * SECOND, lease="theirs", event_log=dying)
        assert audience.watch().seq == watch.seq + 1

    with pytest.raises(LeaseLost):
        audience.reconcile(
            NOON + SECOND,
            event_log=SlowEventLog(
                service.store.event_log, [lambda: run_other_process(10), lambda: run_other_process(20)]
            ),
        )
    audience.lease_to(audience.lease)
    audience.reconcile(NOON + 40 * SECOND)
    assert audience.events() == [("entered", f"contact-{key}") for key in "abc"]
    assert times(audience) == [10 * SECOND + MILLISECOND, *[20 * SECOND + MILLISECOND] * 2]


def test_partly_adjusted_late_events_keep_their_order(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": key} for key in "abc"])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "abc", "paid")

    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + SECOND, event_log=FailAtStep(service.store.event_log, "append", after=die))
    service.store.watches.advance_watermark(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NO_DEADLINE)
    postponed = {"$set": {"at": NOON + 10 * SECOND + MILLISECOND}}
    for seq in (1, 3):  # and the process that did it died
        service.store.database["audience_event"].update_one(
            {"seq": seq, "sk": f"{org}/contact/{'abc'[seq - 1]}"}, postponed
        )
    audience.reconcile(NOON + 20 * SECOND)
    assert times(audience) == [10 * SECOND + MILLISECOND] * 3


def test_a_later_adjustment_by_another_process_is_kept(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "a", "paid")
    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + SECOND, event_log=FailAtStep(service.store.event_log, "append", after=die))
    service.store.watches.advance_watermark(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NO_DEADLINE)

    def run_other_process() -> None:
        audience.lease_to("theirs")
        service.store.watches.advance_watermark(audience.watch(), "theirs", 0, NOON + 15 * SECOND, "", NO_DEADLINE)
        audience.reconcile(NOON + 30 * SECOND, lease="theirs")

    with pytest.raises(LeaseLost):
        audience.reconcile(
            NOON + 20 * SECOND,
            event_log=FailAtStep(service.store.event_log, "adjust_timestamps", before=run_other_process),
        )
    assert times(audience) == [15 * SECOND + MILLISECOND]


def test_a_process_with_an_old_watermark_advances_nothing(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    """After it has read the watch, other processes scan, and crash with one event of three postponed."""
    service.insert(org, [{"id": key} for key in "abc"])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "abc", "paid")
    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + SECOND, event_log=FailAtStep(service.store.event_log, "append", after=die))

    def run_other_process() -> None:
        service.store.watches.advance_watermark(
            audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NO_DEADLINE
        )
        postponed = {"$set": {"at": NOON + 10 * SECOND + MILLISECOND}}
        service.store.database["audience_event"].update_one({"sk": f"{org}/contact/b"}, postponed)

    with pytest.raises(LeaseLost):
        audience.reconcile(
            NOON + 20 * SECOND, event_log=FailAtStep(service.store.event_log, "read", before=run_other_process)
        )
    assert audience.watch().seq == 0
    audience.reconcile(NOON + 30 * SECOND)
    assert times(audience) == [10 * SECOND + MILLISECOND] * 3


def test_the_last_event_bounds_the_next_event_time(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience(PAID)
    audience.reconcile()

    def run_other_process() -> None:
        """Two rounds that die, one when its event is known, the other before."""
        plans(audience, "a", "paid")
        with pytest.raises(RuntimeError):
            audience.reconcile(NOON + 9 * SECOND, watches=FailAtStep(service.store.watches, "advance_seq", after=die))
        plans(audience, "a", "free")
        with pytest.raises(RuntimeError):
            audience.reconcile(NOON + 12 * SECOND, event_log=FailAtStep(service.store.event_log, "append", after=die))

    late = FailAtStep(service.store.event_log, "read", before=run_other_process)
    with pytest.raises(RuntimeError):
        audience.reconcile(
            NOON + SECOND, event_log=late, watches=FailAtStep(service.store.watches, "advance_watermark", before=die)
        )
    watch = audience.watch()
    assert (watch.seq, watch.last_event_at) == (2, NOON + 12 * SECOND)


def test_a_slow_clock_reverts_no_exit_by_time(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"lastOpened": NOON + 5 * SECOND - timedelta(days=30)}}])
    audience = track_audience(OPENED_RECENTLY)
    audience.reconcile()
    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + 9 * SECOND, event_log=FailAtStep(service.store.event_log, "append", after=die))
    audience.reconcile(NOON + SECOND)
    assert audience.events() == [("exited", "contact-a")]


def test_late_events_may_need_several_reads(
    service: Service,
    org: str,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler_module, "BATCH_SIZE", 2)
    service.insert(org, [{"id": key} for key in "abcde"])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "abcde", "paid")

    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + SECOND, event_log=FailAtStep(service.store.event_log, "append", after=die))
    service.store.watches.advance_watermark(audience.watch(), audience.lease, 0, NOON + 10 * SECOND, "", NO_DEADLINE)
    audience.reconcile(NOON + 20 * SECOND)
    assert times(audience) == [10 * SECOND + MILLISECOND] * 5
    assert audience.watch().last_event_at == NOON + 10 * SECOND + MILLISECOND


def test_an_event_at_the_watermark_happens_after_it(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience(PAID)
    audience.reconcile()
    assert members(audience, NOON) == []
    plans(audience, "a", "paid")
    audience.reconcile(NOON)
    assert (times(audience), members(audience, NOON)) == ([MILLISECOND], [])


def test_no_event_precedes_the_last_event_of_an_unfinished_run(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience(PAID)
    audience.reconcile()
    plans(audience, "a", "paid")

    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + 9 * SECOND, watches=FailAtStep(service.store.watches, "advance_seq", after=die))
    plans(audience, "a", "free")
    audience.reconcile(NOON + SECOND)  # by a clock that is behind
    assert times(audience) == [9 * SECOND, 9 * SECOND]
