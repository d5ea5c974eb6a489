"""Reconciliations step by step, on every store: concurrent changes, and the final state."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.watch import reconciler as reconciler_module
from audience_service.domain.watch import stream as stream_module
from audience_service.domain.watch.errors import WatchTokenExpired
from audience_service.domain.watch.model import FULL_SCAN, ChangedKeys, ScanScope
from audience_service.mongo.watch import event_log as event_log_module
from tests.conftest import Service
from tests.support.fault_injection import FailAtStep
from tests.support.watch_harness import NO_DEADLINE, NOON, OPENED_RECENTLY, TrackAudience, WatchHarness

pytestmark = pytest.mark.usefixtures("unwatched")


def test_a_process_with_a_slow_clock_reverts_nothing(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"lastOpened": NOON - timedelta(days=30)}}])
    audience = track_audience(OPENED_RECENTLY)
    audience.reconcile()
    audience.reconcile(NOON + timedelta(seconds=2))
    assert audience.events() == [("exited", "contact-a")]
    result = audience.reconcile(NOON - timedelta(hours=1))
    assert audience.events() == [("exited", "contact-a")]
    assert audience.watch().watermark == result.evaluated_at == NOON + timedelta(seconds=2, milliseconds=1)


def test_members_recorded_by_a_crashed_process_are_removed(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = track_audience({"plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.reconcile(event_log=FailAtStep(service.store.event_log, "record_members", after=die))
    [stale_epoch] = audience.watch().stale_epochs
    assert (audience.watch().watch_epoch, rows(service, stale_epoch)) == ("", 1)
    audience.reconcile()
    assert (rows(service, stale_epoch), rows(service, audience.watch().watch_epoch)) == (0, 1)
    assert audience.watch().stale_epochs == ()


def test_appended_but_unapplied_events_are_applied_first(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    audience.update("a", **{"data.plan": "paid"})

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.reconcile(event_log=FailAtStep(service.store.event_log, "append", after=die))
    assert (audience.watch().seq, audience.events()) == (0, [("entered", "contact-a")])
    audience.update("a", **{"data.plan": "free"})
    audience.reconcile(NOON + timedelta(seconds=1))
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-a")]
    assert audience.watch().seq == 2


def test_a_watch_is_removed_after_its_epoch_data(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    watch_epoch, late = audience.watch().watch_epoch, NOON + timedelta(days=2_000)

    def die() -> None:
        raise RuntimeError("dies")

    audience.reconcile(late)
    assert (audience.watch().stale_epochs, rows(service, watch_epoch)) == ((watch_epoch,), 1)
    with pytest.raises(RuntimeError):
        audience.reconcile(late, event_log=FailAtStep(service.store.event_log, "remove", before=die))
    with pytest.raises(LeaseLost):
        service.store.watches.close_epoch(audience.watch(), audience.lease, late, NO_DEADLINE)
    audience.reconcile(late)
    assert (service.store.watches.get(org, audience.audience_id, NO_DEADLINE), rows(service, watch_epoch)) == (None, 0)


def test_a_filter_failure_is_recorded_and_cleared_by_the_next_run(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "paid"}}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    audience.define({"plan": {"$near": 1}})
    audience.reconcile()
    failure = audience.watch().failure
    assert failure is not None
    assert failure.reason == "UNUSABLE_AUDIENCE"
    audience.define({"plan": "free"})
    audience.reconcile()
    assert audience.watch().failure is None
    assert audience.events() == [("exited", "contact-a")]


def keys_of(org: str, keys: str) -> frozenset[str]:
    """The sks of contacts."""
    return frozenset(f"{org}/contact/{key}" for key in keys)


def rows(service: Service, watch_epoch: str) -> int:
    """How many members are recorded for a generation."""
    found = service.store.database["audience_member_state"].find({}, {"_id": 1})
    return sum(row["_id"].startswith(f"{watch_epoch}/") for row in found)


def test_an_incremental_scan_evaluates_only_changed_records(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a"}, {"id": "b"}, {"id": "c", "data": {"plan": "paid"}}])
    audience = track_audience({"plan": "paid"})
    result = audience.reconcile()
    assert (result.change_stream_datatype, result.next_trigger) == ("contact", None)
    for key, plan in (("a", "paid"), ("b", "paid"), ("c", "free")):
        audience.update(key, **{"data.plan": plan})
    changed = ChangedKeys(frozenset(f"{org}/contact/{key}" for key in "ac"), is_complete=True, complete_at=NOON)
    event_log = FailAtStep(service.store.event_log, "diff", before=lambda: pytest.fail("everything is compared"))
    audience.reconcile(NOON + timedelta(seconds=5), ScanScope(changed, result), event_log=event_log)
    assert audience.events() == [("entered", "contact-a"), ("exited", "contact-c")]
    assert audience.watch().watermark == NOON


def test_a_run_appends_more_events_than_one_command_holds(
    service: Service,
    org: str,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_log_module, "BATCH_SIZE", 2)
    monkeypatch.setattr(reconciler_module, "BATCH_SIZE", 2)
    service.insert(org, [{"id": key} for key in "abcde"])
    audience = track_audience({"plan": "paid"})
    result = audience.reconcile()
    for plan, scope in (
        ("paid", FULL_SCAN),
        ("free", ScanScope(ChangedKeys(keys_of(org, "abcde"), is_complete=True), result)),
    ):
        for key in "abcde":
            audience.update(key, **{"data.plan": plan})
        audience.reconcile(scope=scope)
    assert [event.seq for event in audience.event_log()] == list(range(1, 11))


@pytest.mark.parametrize("where", [{"$inAudience": "list"}, {"$related": "order"}])
def test_filters_with_joins_use_no_change_stream(real_service: Service, where: Any) -> None:
    org = f"joined{next(real_service.names)}"
    client = real_service.client(org)
    if "$inAudience" in where:
        where = {"$inAudience": client.create(name="list", type="static").id}
    else:
        real_service.insert(org, [{}], "order")
        where = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}}
    audience = WatchHarness(real_service, org, where)
    assert audience.reconcile().change_stream_datatype == ""
    assert audience.watch().failure is None


def test_events_and_tokens_expire_after_the_retention(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": "a"}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    for day, plan in enumerate(["paid", "free", "paid", "free"]):
        audience.update("a", **{"data.plan": plan})
        audience.reconcile(NOON + timedelta(days=day))
    later = NOON + timedelta(days=8, hours=1)
    audience.reconcile(later)
    read = service.store.event_log.read
    watch_epoch = audience.watch().watch_epoch
    assert [event.seq for event in read(org, watch_epoch, 2, None, 10, NO_DEADLINE)] == [3, 4]
    assert read(org, watch_epoch, 1, None, 10, NO_DEADLINE) == []
    for position, why in ((2, ""), (1, "older than the retention period")):
        stream = audience.stream(position)
        if why:
            with pytest.raises(WatchTokenExpired, match=why):
                next(stream)
        else:
            assert [event.seq for event in next(stream).events] == [3, 4]
        stream.close()
    audience.update("a", **{"data.plan": "paid"})
    audience.reconcile(later)
    assert audience.watch().seq == 5


def test_the_retention_start_is_set_before_events_are_trimmed(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()

    def die() -> None:
        raise RuntimeError("dies")

    with pytest.raises(RuntimeError):
        audience.reconcile(NOON + timedelta(days=8), event_log=FailAtStep(service.store.event_log, "trim", before=die))
    assert audience.watch().retained_from == NOON + timedelta(days=1)


def test_a_token_after_the_end_of_the_event_log_is_refused(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    stream = audience.stream(1)
    with pytest.raises(WatchTokenExpired, match="was reset"):
        next(stream)


def test_only_the_last_message_carries_the_watermark(
    service: Service,
    org: str,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "BATCH_SIZE", 2)
    service.insert(org, [{"id": key} for key in "abc"])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    for key in "abc":
        audience.update(key, **{"data.plan": "paid"})
    audience.reconcile()
    stream = audience.stream(0)
    messages = [next(stream) for _ in range(2)]
    stream.close()
    assert [(len(message.events), message.watermark) for message in messages] == [
        (2, None),
        (1, audience.watch().watermark),
    ]


@pytest.mark.slow
def test_an_open_stream_extends_the_watch(service: Service, org: str, track_audience: TrackAudience) -> None:
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    expired = {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}}
    stream = audience.stream(0, heartbeat_seconds=0)
    for _ in range(2):
        service.store.database["audience_watch"].update_one({"audience": audience.audience_id}, expired)
        next(stream)
        assert audience.watch().expires_at > datetime.now(UTC)
    stream.close()
