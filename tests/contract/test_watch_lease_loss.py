"""Reconciliations that another process takes over, step by step, on every store: every event counts once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.history.model import Cause, ChangeKind, Event, Failure, MembershipChange
from tests.conftest import Service
from tests.support.fault_injection import FailAtStep
from tests.support.watch_harness import NO_DEADLINE, NOON, TrackAudience

pytestmark = pytest.mark.usefixtures("unwatched")


def test_an_epoch_started_by_another_process_is_kept(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = track_audience({"plan": "paid"})

    def take_over() -> None:
        audience.lease_to("theirs")
        audience.reconcile(lease="theirs")

    with pytest.raises(LeaseLost):
        audience.reconcile(event_log=FailAtStep(service.store.event_log, "record_members", after=take_over))
    started = audience.watch().watch_epoch
    audience.lease_to(audience.lease)
    audience.reconcile()
    assert audience.watch().watch_epoch == started
    assert audience.events() == []


def test_an_epoch_removed_by_another_process_does_not_start(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    audience = track_audience({"plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    def take_over_and_die() -> None:
        audience.lease_to("theirs")
        with pytest.raises(RuntimeError):
            audience.reconcile(
                lease="theirs", event_log=FailAtStep(service.store.event_log, "record_members", before=die)
            )

    with pytest.raises(LeaseLost):
        audience.reconcile(event_log=FailAtStep(service.store.event_log, "record_members", after=take_over_and_die))
    assert audience.watch().watch_epoch == ""


def test_a_process_without_the_lease_appends_nothing(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a"}, {"id": "b"}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    audience.update("a", **{"data.plan": "paid"})
    audience.update("b", **{"data.plan": "paid"})

    def take_over() -> None:
        audience.lease_to("theirs")
        audience.update("b", **{"data.plan": "free"})
        audience.reconcile(lease="theirs")

    with pytest.raises(LeaseLost):
        audience.reconcile(event_log=FailAtStep(service.store.event_log, "append", before=take_over))
    assert audience.events() == [("entered", "contact-a")]


def test_a_process_without_the_lease_sets_no_definition(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()

    def take_over() -> None:
        audience.lease_to("theirs")
        audience.define({"plan": "free"})
        audience.reconcile(lease="theirs")
        audience.lease_to("theirs")

    with pytest.raises(LeaseLost):
        audience.reconcile(watches=FailAtStep(service.store.watches, "advance_watermark", before=take_over))
    audience.lease_to(audience.lease)
    service.insert(org, [{"id": "a", "data": {"plan": "free"}}])
    audience.reconcile()
    assert audience.causes() == ["data"]


def test_a_late_advance_reverts_nothing(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    audience.update("a", **{"data.plan": "paid"})

    def take_over() -> None:
        audience.lease_to("theirs")
        audience.update("a", **{"data.plan": "free"})
        audience.reconcile(lease="theirs")

    with pytest.raises(LeaseLost):
        audience.reconcile(watches=FailAtStep(service.store.watches, "advance_seq", before=take_over))
    assert (audience.watch().seq, len(audience.events())) == (2, 2)


def test_a_touched_watch_is_not_closed(service: Service, org: str, track_audience: TrackAudience) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    watch_epoch = audience.watch().watch_epoch
    late = NOON + timedelta(days=2_000)

    def touch_watch() -> None:
        service.store.watches.touch(org, audience.audience_id, late + timedelta(days=1), NO_DEADLINE)

    with pytest.raises(LeaseLost):
        audience.reconcile(late, watches=FailAtStep(service.store.watches, "close_epoch", before=touch_watch))
    assert audience.watch().watch_epoch == watch_epoch


def test_a_process_with_an_old_watermark_keeps_the_order_of_late_events(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    """Between its reads of the watch and of the event log, others answer. They die after postponing the first event."""
    service.insert(org, [{"id": "a"}, {"id": "b"}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    for key in "ab":
        audience.update(key, **{"data.plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.reconcile(
            NOON + timedelta(seconds=1), event_log=FailAtStep(service.store.event_log, "append", after=die)
        )
    postponed = NOON + timedelta(seconds=10, milliseconds=1)

    def run_other_process() -> None:
        answered = NOON + timedelta(seconds=10)
        service.store.watches.advance_watermark(audience.watch(), audience.lease, 0, answered, "", NO_DEADLINE)
        first = {"sk": f"{org}/contact/a"}
        service.store.database["audience_event"].update_one(first, {"$set": {"at": postponed}})

    audience.reconcile(
        NOON + timedelta(seconds=20), event_log=FailAtStep(service.store.event_log, "read", before=run_other_process)
    )
    assert [event.occurred_at for event in audience.event_log()] == [postponed, postponed]


def test_the_watermark_never_decreases_and_later_events_are_after_it(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    watch, minute = audience.watch(), NOON + timedelta(minutes=1)
    for as_of in (minute, NOON):
        service.store.watches.advance_watermark(watch, audience.lease, 0, as_of, watch.definition, NO_DEADLINE)
    assert audience.watch().watermark == minute
    change = MembershipChange("contact-a", f"{org}/contact/a", ChangeKind.ENTERED)
    with pytest.raises(LeaseLost):
        service.store.watches.advance_seq(watch, [Event(1, change, Cause.DATA, minute)], NO_DEADLINE)
    later = minute + timedelta(milliseconds=1)
    service.store.watches.advance_seq(watch, [Event(1, change, Cause.DATA, later)], NO_DEADLINE)
    assert (audience.watch().seq, audience.watch().last_event_at) == (1, later)


def test_a_process_without_the_lease_changes_no_watch(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    watch, watches = audience.watch(), service.store.watches
    late = watch.expires_at + timedelta(days=1)
    says: list[Callable[[], Any]] = [
        lambda: watches.create_epoch(watch, "lost", "watch-1", NO_DEADLINE),
        lambda: watches.start_epoch(watch, "lost", "watch-1", NOON, "", NO_DEADLINE),
        lambda: watches.advance_watermark(watch, "lost", watch.seq, late, "", NO_DEADLINE),
        lambda: watches.fail(watch, "lost", Failure("A_REASON", "why"), NO_DEADLINE),
        lambda: watches.close_epoch(watch, "lost", late, NO_DEADLINE),
        lambda: watches.forget_stale_epoch(watch, "lost", "watch-1", NO_DEADLINE),
    ]
    for say in says:
        with pytest.raises(LeaseLost):
            say()
    assert audience.watch() == watch
