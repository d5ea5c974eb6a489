"""Dates relative to now as time passes: every moment is known at which one comes to another side of a value."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from audience_service.domain.filters.moving import MovingDate
from audience_service.domain.filters.relative import NOW, UNITS, fold

SINCE = datetime(2026, 1, 15, 7, 8, 9, 123_000, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=800)
ZONES = ("UTC", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata", "+05:30")
MILLISECOND = timedelta(milliseconds=1)


def _shift(amount: int, unit: str, start: Any = NOW, **more: Any) -> dict[str, Any]:
    return {"$dateSubtract": {"startDate": start, "unit": unit, "amount": amount, **more}}


def _passing(written: dict[str, Any], value: str) -> list[str]:
    moments = MovingDate(written, SINCE, UNTIL).passing(datetime.fromisoformat(value))
    return [moment.isoformat(timespec="milliseconds").removesuffix("+00:00") for moment in moments]


@pytest.mark.parametrize(
    ("written", "value", "expected"),
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
def test_the_moments_at_which_a_date_passes_a_value(written: dict[str, Any], value: str, expected: list[str]) -> None:
    assert _passing(written, value) == expected


def test_between_two_moments_a_date_stays_on_one_side_of_a_value() -> None:
    dice = random.Random(11)
    for _ in range(300):
        written = _random(dice, dice.randrange(1, 4))
        moving = MovingDate(written, SINCE, UNTIL)
        for _ in range(4):
            value = _at(written, SINCE + dice.random() * (UNTIL - SINCE))
            value += dice.choice((0, 0, 1, -1, 3_600_000, 77_777_777)) * MILLISECOND
            moments = moving.passing(value)
            assert list(moments) == sorted(set(moments))
            edges = [SINCE, *moments, UNTIL]
            for start, end in pairwise(edges):
                middle = start + (end - start) // MILLISECOND // 2 * MILLISECOND
                for moment in (middle, end - MILLISECOND, start + dice.random() * (end - MILLISECOND - start)):
                    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
                    assert _side(_at(written, max(moment, start)), value) == _side(_at(written, start), value), (
                        written,
                        value,
                        start,
                        moment,
                    )


def _random(dice: random.Random, depth: int) -> dict[str, Any]:
    start = _random(dice, depth - 1) if depth > 1 else NOW
    unit, zone = dice.choice(UNITS), dice.choice(ZONES)
    if dice.random() < 0.4:
        return {"$dateTrunc": {"date": start, "unit": unit, "binSize": dice.choice((1, 1, 2, 7)), "timezone": zone}}
    name = dice.choice(("$dateAdd", "$dateSubtract"))
    return {name: {"startDate": start, "unit": unit, "amount": dice.randrange(-40, 40), "timezone": zone}}


def _at(written: dict[str, Any], moment: datetime) -> datetime:
    return fold(written, "", moment)


def _side(moment: datetime, value: datetime) -> int:
    return (moment > value) - (moment < value)
