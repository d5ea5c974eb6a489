"""Audiences that are edited during a reconciliation, on every store."""

from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.watch.model import ChangedKeys, ScanScope
from audience_service.mongo.watch import event_log as event_log_module
from tests.conftest import Service
from tests.support.fault_injection import FailAtStep
from tests.support.watch_harness import NOON, TrackAudience

pytestmark = pytest.mark.usefixtures("unwatched")

SECOND = timedelta(seconds=1)


def test_no_member_is_evaluated_by_a_replaced_filter(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "free", "score": 1}}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()

    def edit_and_pay() -> None:
        audience.define({"score": {"$gte": 5}})
        audience.update("a", **{"data.plan": "paid"})

    service.insert(org, [{"id": "b", "data": {"plan": "paid"}}])
    audience.reconcile(event_log=FailAtStep(service.store.event_log, "evaluate", before=edit_and_pay))
    audience.reconcile()
    assert audience.events() == []


def test_an_edit_causes_a_full_scan(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"plan": "free"}}])
    audience = track_audience({"plan": "paid"})
    result = audience.reconcile()
    audience.define({"plan": "free"})
    audience.reconcile(scope=ScanScope(ChangedKeys(is_complete=True, complete_at=NOON), result))
    assert (audience.events(), audience.causes()) == ([("entered", "contact-a")], ["definition"])


def test_an_audience_edited_during_every_scan_is_still_tracked(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    """Each scan starts with one filter and ends under the next one; the scan after it reports that one's events."""
    service.insert(org, [{"id": f"{number}", "data": {"score": number}} for number in range(6)])
    audience = track_audience({"score": {"$gte": 6}})
    audience.reconcile()
    for number in range(1, 6):
        lower: Any = {"score": {"$gte": 6 - number}}
        timestamp = NOON + number * SECOND
        edit = FailAtStep(service.store.event_log, "diff", after=lambda lower=lower: audience.define(lower))
        audience.reconcile(timestamp, event_log=edit)
        assert audience.events() == [("entered", f"contact-{6 - n}") for n in range(1, number)]
        assert audience.watch().watermark == timestamp
    assert set(audience.causes()) == {"definition"}


def test_candidates_are_evaluated_by_the_latest_filter(
    service: Service,
    org: str,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_log_module, "BATCH_SIZE", 2)
    keys = "abcdef"
    service.insert(org, [{"id": key, "data": {"score": number}} for number, key in enumerate(keys)])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    for key in keys:
        audience.update(key, **{"data.plan": "paid"})
    edit = FailAtStep(
        service.store.event_log, "append", after=lambda: audience.define({"plan": "paid", "score": {"$gte": 3}})
    )
    result = audience.reconcile(event_log=edit)
    entered = [("entered", f"contact-{key}") for key in "abdef"]
    assert audience.events() == entered
    assert audience.causes() == ["data", "data", *["definition"] * 3]
    audience.reconcile(NOON + SECOND, ScanScope(ChangedKeys(is_complete=True, complete_at=NOON), result))
    assert audience.events() == [*entered, ("exited", "contact-a"), ("exited", "contact-b")]


@pytest.mark.parametrize("back", ["within the look", "before the next look"])
def test_a_reverted_edit_causes_a_full_scan(
    service: Service,
    org: str,
    track_audience: TrackAudience,
    monkeypatch: pytest.MonkeyPatch,
    back: str,
) -> None:
    """A part of the scan used a filter that is no longer current, and the filter is the earlier one again."""
    monkeypatch.setattr(event_log_module, "BATCH_SIZE", 1)
    service.insert(org, [{"id": key, "data": {"score": 1}} for key in "abc"])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    for key in "abc":
        audience.update(key, **{"data.plan": "paid"})
    reverted = FailAtStep(service.store.event_log, "append", after=lambda: audience.define({"plan": "paid"}))
    edit = FailAtStep(
        reverted if back == "within the look" else service.store.event_log,
        "evaluate",
        before=lambda: audience.define({"plan": "paid", "score": {"$gte": 2}}),
    )
    for key in "ac":
        audience.update(key, **{"data.score": 2})
    result = audience.reconcile(event_log=edit)
    audience.define({"plan": "paid"})
    audience.reconcile(NOON + SECOND, ScanScope(ChangedKeys(is_complete=True, complete_at=NOON + SECOND), result))
    assert sorted(audience.events()) == [("entered", f"contact-{key}") for key in "abc"]


def test_a_scan_without_a_watermark_records_the_definition_change(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    """As on a sharded cluster whose change stream has not sent a change yet."""
    service.insert(org, [{"id": "a", "data": {"score": 1}}])
    audience = track_audience({"plan": "paid"})
    result = audience.reconcile()
    audience.update("a", **{"data.plan": "paid"})
    edit = FailAtStep(
        service.store.event_log, "evaluate", after=lambda: audience.define({"plan": "paid", "score": {"$gte": 2}})
    )
    received = ChangedKeys(frozenset((f"{org}/contact/a",)), is_complete=True)
    result = audience.reconcile(NOON + SECOND, ScanScope(received, result), event_log=edit)
    assert (audience.events(), audience.watch().watermark) == ([], NOON)
    audience.define({"plan": "paid"})
    audience.reconcile(NOON + 2 * SECOND, ScanScope(ChangedKeys(is_complete=True), result))
    assert audience.events() == [("entered", "contact-a")]


def test_events_of_another_process_by_a_reverted_filter_are_undone(
    service: Service, org: str, track_audience: TrackAudience
) -> None:
    service.insert(org, [{"id": key, "data": {"score": 1}} for key in "ab"])
    audience = track_audience({"plan": "paid"})
    result = audience.reconcile()
    audience.update("a", **{"data.plan": "paid"})

    def run_other_process() -> None:
        """Another process has lost the lease, and knows the event that has just been appended."""
        audience.define({"score": {"$gte": 1}})
        with pytest.raises(LeaseLost):
            audience.reconcile(NOON + SECOND, lease="a lease that was lost")
        audience.define({"plan": "paid"})

    received = ChangedKeys(frozenset((f"{org}/contact/a",)), is_complete=True, complete_at=NOON + SECOND)
    appended = FailAtStep(service.store.event_log, "append", after=run_other_process)
    result = audience.reconcile(NOON + SECOND, ScanScope(received, result), event_log=appended)
    assert audience.events() == [("entered", "contact-a"), ("entered", "contact-b")]
    audience.reconcile(
        NOON + 2 * SECOND, ScanScope(ChangedKeys(is_complete=True, complete_at=NOON + 2 * SECOND), result)
    )
    assert audience.events()[2:] == [("exited", "contact-b")]


def test_constant_edits_abort_and_repeat_the_scan(service: Service, org: str, track_audience: TrackAudience) -> None:
    service.insert(org, [{"id": "a", "data": {"score": 1}}])
    audience = track_audience({"plan": "paid"})
    audience.reconcile()
    audience.update("a", **{"data.plan": "paid"})
    evaluations: list[int] = []

    class Edited:
        """An event log whose audience is edited at each judgement."""

        def __getattr__(self, name: str) -> Any:
            if name == "evaluate":
                evaluations.append(1)
                audience.define({"plan": "paid", "score": {"$gte": -len(evaluations)}})
            return getattr(service.store.event_log, name)

    with pytest.raises(LeaseLost):
        audience.reconcile(event_log=Edited())
    assert (len(evaluations), audience.events()) == (10, [])
    audience.reconcile()
    assert audience.events() == [("entered", "contact-a")]
