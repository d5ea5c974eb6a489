"""Sizes of watched audiences over time, of what is known of their past, on every store."""

from collections.abc import Callable, Iterable
from datetime import UTC

import pytest

from audience_service.domain.watches.sizes import SizeHistory, Sizes, Span
from audience_service.pb.audience.v1.reach_service_pb2 import CauseCount
from audience_service.pb.audience.v1.resources_pb2 import ChangeCause
from tests.client import Refusal
from tests.conftest import Service
from tests.midst import Midst
from tests.past import DAY, PAID, SECOND, Tracking, call_of, history, set_plans, stamp
from tests.tracked import NOON, Tracked

pytestmark = pytest.mark.usefixtures("unwatched", "read_by_twos")


def by_cause(counts: Iterable[CauseCount]) -> dict[str, int]:
    """The counts by the name of their cause."""
    return {ChangeCause.Name(counted.cause): counted.count for counted in counts}


def test_sizes_are_counted_anew_where_the_ledger_is_cut_meanwhile(
    service: Service, org: str, tracking: Tracking
) -> None:
    service.insert(org, [{"id": key} for key in "ab"])
    audience = tracking()
    audience.round()
    for day, key in enumerate("ab", 1):
        set_plans(audience, **{key: "paid"})
        audience.round(NOON + day * DAY)
    cut = Midst(service.store.past, "turnovers", before=lambda: audience.round(NOON + 8 * DAY + SECOND))
    found = Sizes(service.store.watches, cut).history(call_of(audience), audience.audience, Span(None, None, 2))
    assert found.known_since == NOON + DAY + SECOND
    assert [(point.size, point.since.entered) for point in found.points] == [(1, 0), (2, 1)]


def test_sizes_are_of_what_is_known_of_the_span_and_of_nothing_else(
    service: Service, org: str, tracking: Tracking
) -> None:
    audience = tracking()
    assert history(audience, None, None) == SizeHistory()
    audience.round()
    assert [point.at for point in history(audience, None, None).points] == [NOON], "there is but one millisecond"
    audience.round(NOON + 3 * SECOND)
    for start, end, points, expected in (
        (NOON - DAY, NOON + DAY, 4, [0, 1, 2, 3]),
        (NOON + SECOND, NOON + 2 * SECOND, 2, [1, 2]),
        (NOON - DAY, NOON + DAY, 1, [3]),
        (NOON - DAY, NOON - SECOND, 4, []),
        (NOON + DAY, None, 4, []),
    ):
        found = history(audience, start, end, points)
        assert [point.at for point in found.points] == [NOON + seconds * SECOND for seconds in expected]
        assert (found.known_since, found.as_of) == (NOON, NOON + 3 * SECOND)


def test_insights_tell_the_sizes_of_a_watched_audience(real_service: Service, refused: Callable[..., Refusal]) -> None:
    org = f"sizes{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, [{"id": "a", "data": PAID}, {"id": "b"}])
    audience = Tracked(real_service, org, PAID)
    ask = {"audienceId": audience.audience, "dimensions": ["source"]}
    assert not client.call("GetInsights", ask).HasField("size_history")
    untracked = client.call("GetInsights", {**ask, "sizeHistory": {}}).size_history
    assert (untracked.tracked, untracked.HasField("earliest_time"), list(untracked.points)) == (False, False, [])
    audience.round()
    set_plans(audience, a="free", b="paid")
    audience.round(NOON + DAY)
    audience.define({"plan": {"$in": ["paid", "free"]}})
    audience.round(NOON + 2 * DAY)
    answer = client.call("GetInsights", {**ask, "sizeHistory": {"startTime": stamp(NOON - DAY), "points": 3}})
    found = answer.size_history
    assert (answer.count, found.tracked, len(found.points)) == (2, True, 3)
    assert (found.earliest_time.ToDatetime(UTC), found.watermark.ToDatetime(UTC)) == (NOON, NOON + 2 * DAY)
    assert [(point.time.ToDatetime(UTC), point.size, point.entered, point.exited) for point in found.points] == [
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
        ({"points": 101}, "size_history.points"),
        ({"points": -1}, "size_history.points"),
        ({"startTime": stamp(NOON + SECOND), "endTime": stamp(NOON)}, "size_history.end_time"),
    ):
        refusal = refused(lambda wrong=wrong: client.call("GetInsights", {**ask, "sizeHistory": wrong}))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])
