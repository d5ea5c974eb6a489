"""Sizes of watched audiences over time, of what is known of their past, on every store."""

from collections.abc import Callable, Iterable
from datetime import UTC

import pytest

from audience_service.domain.history.size_history import SizeHistory, SizeHistoryReader, TimeRange
from audience_service.pb.audience.v1.reach_service_pb2 import CauseCount
from audience_service.pb.audience.v1.resources_pb2 import ChangeCause
from tests.conftest import Service
from tests.support.client import Refusal
from tests.support.fault_injection import FailAtStep
from tests.support.history import DAY, PAID, SECOND, MakeHarness, context_of, history, set_plans, to_json_time
from tests.support.watch_harness import NOON, WatchHarness

pytestmark = pytest.mark.usefixtures("unwatched", "read_by_twos")


def by_cause(counts: Iterable[CauseCount]) -> dict[str, int]:
    """The counts by the name of their cause."""
    return {ChangeCause.Name(counted.cause): counted.count for counted in counts}


def test_sizes_are_recounted_if_the_event_log_is_trimmed(
    service: Service, org: str, track_paid_audience: MakeHarness
) -> None:
    service.insert(org, [{"id": key} for key in "ab"])
    audience = track_paid_audience()
    audience.reconcile()
    for day, key in enumerate("ab", 1):
        set_plans(audience, **{key: "paid"})
        audience.reconcile(NOON + day * DAY)
    cut = FailAtStep(service.store.history, "event_counts", before=lambda: audience.reconcile(NOON + 8 * DAY + SECOND))
    found = SizeHistoryReader(service.store.watches, cut).history(
        context_of(audience), audience.audience_id, TimeRange(None, None, 2)
    )
    assert found.retained_from == NOON + DAY + SECOND
    assert [(point.size, point.event_counts.entered) for point in found.points] == [(1, 0), (2, 1)]


def test_sizes_cover_only_the_retained_part_of_the_range(
    service: Service, org: str, track_paid_audience: MakeHarness
) -> None:
    audience = track_paid_audience()
    assert history(audience, None, None) == SizeHistory()
    audience.reconcile()
    assert [point.at for point in history(audience, None, None).points] == [NOON], "there is but one millisecond"
    audience.reconcile(NOON + 3 * SECOND)
    for start, end, points, expected in (
        (NOON - DAY, NOON + DAY, 4, [0, 1, 2, 3]),
        (NOON + SECOND, NOON + 2 * SECOND, 2, [1, 2]),
        (NOON - DAY, NOON + DAY, 1, [3]),
        (NOON - DAY, NOON - SECOND, 4, []),
        (NOON + DAY, None, 4, []),
    ):
        found = history(audience, start, end, points)
        assert [point.at for point in found.points] == [NOON + seconds * SECOND for seconds in expected]
        assert (found.retained_from, found.watermark) == (NOON, NOON + 3 * SECOND)


def test_insights_contain_the_sizes_of_a_watched_audience(
    real_service: Service, refused: Callable[..., Refusal]
) -> None:
    org = f"sizes{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, [{"id": "a", "data": PAID}, {"id": "b"}])
    audience = WatchHarness(real_service, org, PAID)
    request = {"audienceId": audience.audience_id, "dimensions": ["source"]}
    assert not client.call("GetInsights", request).HasField("size_history")
    untracked = client.call("GetInsights", {**request, "sizeHistory": {}}).size_history
    assert (untracked.watched, untracked.HasField("earliest_time"), list(untracked.points)) == (False, False, [])
    audience.reconcile()
    set_plans(audience, a="free", b="paid")
    audience.reconcile(NOON + DAY)
    audience.define({"plan": {"$in": ["paid", "free"]}})
    audience.reconcile(NOON + 2 * DAY)
    answer = client.call(
        "GetInsights", {**request, "sizeHistory": {"startTime": to_json_time(NOON - DAY), "pointCount": 3}}
    )
    found = answer.size_history
    assert (answer.count, found.watched, len(found.points)) == (2, True, 3)
    assert (found.earliest_time.ToDatetime(UTC), found.watermark.ToDatetime(UTC)) == (NOON, NOON + 2 * DAY)
    points = [(each.time.ToDatetime(UTC), each.size, each.entered_count, each.exited_count) for each in found.points]
    assert points == [
        (NOON, 1, 0, 0),
        (NOON + DAY, 1, 1, 1),
        (NOON + 2 * DAY, 2, 1, 0),
    ]
    assert [(by_cause(point.entered_by_cause), by_cause(point.exited_by_cause)) for point in found.points] == [
        ({}, {}),
        ({"CHANGE_CAUSE_DATA": 1}, {"CHANGE_CAUSE_DATA": 1}),
        ({"CHANGE_CAUSE_DEFINITION": 1}, {}),
    ]
    for wrong, field in (
        ({"pointCount": 101}, "size_history.point_count"),
        ({"pointCount": -1}, "size_history.point_count"),
        ({"startTime": to_json_time(NOON + SECOND), "endTime": to_json_time(NOON)}, "size_history.end_time"),
    ):
        refusal = refused(lambda wrong=wrong: client.call("GetInsights", {**request, "sizeHistory": wrong}))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])
