"""The times at which time alone changes memberships."""

from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.watch.time_triggers import crossing_ranges, next_trigger

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MONTH_AGO = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}


def test_the_worked_example_of_the_module_holds() -> None:
    """The docstring of time_triggers.py shows the trigger and the ranges of two contacts."""
    opened = {"a": datetime(2026, 1, 30, 13, tzinfo=UTC), "b": datetime(2026, 2, 20, tzinfo=UTC)}
    members = FilterCompiler(["contact"]).compile(Filter("contact", {"lastOpened": {"$gte": MONTH_AGO}}))
    ranges: list[Any] = []

    def find_records(_: str, conditions: Any, paths: Any) -> list[Record]:
        ranges.append(conditions)
        assert paths == ["data.lastOpened"]
        return [{"sk": "a", "data": {"lastOpened": opened["a"]}}]

    trigger = next_trigger(members, NOON, find_records, Deadline(None))
    assert trigger == NOON + timedelta(hours=1)
    assert len(ranges) == 1
    [dates, _] = crossing_ranges(members, NOON, trigger)
    covered = dates["data.lastOpened"]
    assert [covered["$gte"] <= at <= covered["$lte"] for at in opened.values()] == [True, False]
