"""Dates relative to now over time: every timestamp at which one crosses a value is found."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from audience_service.domain.filters.date_timeline import RelativeDateTimeline
from audience_service.domain.filters.relative_dates import NOW, UNITS, evaluate

SINCE = datetime(2026, 1, 15, 7, 8, 9, 123_000, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=800)
ZONES = ("UTC", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata", "+05:30")
MILLISECOND = timedelta(milliseconds=1)


def _shift(amount: int, unit: str, start: Any = NOW, **more: Any) -> dict[str, Any]:
    return {"$dateSubtract": {"startDate": start, "unit": unit, "amount": amount, **more}}


def _crossings(expression: dict[str, Any], value: str) -> list[str]:
    timestamps = RelativeDateTimeline(expression, SINCE, UNTIL).crossings(datetime.fromisoformat(value))
    return [timestamp.isoformat(timespec="milliseconds").removesuffix("+00:00") for timestamp in timestamps]


@pytest.mark.parametrize(
    ("expression", "value", "expected"),
    [
        (_shift(30, "day"), "2026-01-01T00:00Z", ["2026-01-31T00:00:00.000", "2026-01-31T00:00:00.001"]),
        (_shift(30, "day"), "2025-01-01T00:00Z", []),
        ({"$dateTrunc": {"date": _shift(1, "day"), "unit": "day"}}, "2026-02-01T10:00Z", ["2026-02-03T00:00:00.000"]),
        (
            {"$dateTrunc": {"date": NOW, "unit": "month", "timezone": "America/New_York"}},
            "2026-02-01T05:00Z",
            ["2026-02-01T05:00:00.000", "2026-03-01T05:00:00.000"],
        ),
        # On the 29th to the 31st of March, a month before is the 28th of February as on the 28th.
        (
            _shift(1, "month"),
            "2026-02-28T18:00Z",
            [
                f"2026-03-{day}T{time}"
                for day in (28, 29, 30, 31)
                for time in ("00:00:00.000", "18:00:00.000", "18:00:00.001")
            ][1:],
        ),
        # The clocks of New York leave out 02:00 to 03:00 on the 8th of March.
        (
            _shift(-1, "day", timezone="America/New_York"),
            "2026-03-08T07:30Z",
            [
                "2026-03-07T07:30:00.000", "2026-03-07T07:30:00.001", "2026-03-07T08:00:00.000",
                "2026-03-07T08:30:00.000", "2026-03-07T08:30:00.001",
            ],
        ),
    ],
)  # fmt: skip
def test_a_timeline_lists_the_times_of_crossing_a_value(
    expression: dict[str, Any], value: str, expected: list[str]
) -> None:
    assert _crossings(expression, value) == expected


@pytest.mark.slow
def test_between_two_crossings_a_date_stays_on_one_side() -> None:
    rng = random.Random(11)
    for _ in range(300):
        expression = _random(rng, rng.randrange(1, 4))
        timeline = RelativeDateTimeline(expression, SINCE, UNTIL)
        for _ in range(4):
            value = _evaluate_at(expression, SINCE + rng.random() * (UNTIL - SINCE))
            value += rng.choice((0, 0, 1, -1, 3_600_000, 77_777_777)) * MILLISECOND
            timestamps = timeline.crossings(value)
            assert list(timestamps) == sorted(set(timestamps))
            edges = [SINCE, *timestamps, UNTIL]
            for start, end in pairwise(edges):
                middle = start + (end - start) // MILLISECOND // 2 * MILLISECOND
                for timestamp in (middle, end - MILLISECOND, start + rng.random() * (end - MILLISECOND - start)):
                    timestamp = timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)
                    assert _compare(_evaluate_at(expression, max(timestamp, start)), value) == _compare(
                        _evaluate_at(expression, start), value
                    ), (
                        expression,
                        value,
                        start,
                        timestamp,
                    )


def _random(rng: random.Random, depth: int) -> dict[str, Any]:
    start = _random(rng, depth - 1) if depth > 1 else NOW
    unit, zone = rng.choice(UNITS), rng.choice(ZONES)
    if rng.random() < 0.4:
        return {"$dateTrunc": {"date": start, "unit": unit, "binSize": rng.choice((1, 1, 2, 7)), "timezone": zone}}
    name = rng.choice(("$dateAdd", "$dateSubtract"))
    return {name: {"startDate": start, "unit": unit, "amount": rng.randrange(-40, 40), "timezone": zone}}


def _evaluate_at(expression: dict[str, Any], timestamp: datetime) -> datetime:
    return evaluate(expression, "", timestamp)


def _compare(timestamp: datetime, value: datetime) -> int:
    return (timestamp > value) - (timestamp < value)
