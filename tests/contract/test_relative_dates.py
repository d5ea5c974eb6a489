"""Dates relative to now: folded as MongoDB itself would, whatever way storage spells dates, and saved as written."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.filters.relative_dates import evaluate
from tests.conftest import Service
from tests.support.client import Client

UNITS = ("millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")
# No zone whose clocks change: what becomes of the hour that a change leaves out is not MongoDB's to say.
ZONES = ("UTC", "Asia/Kolkata", "America/Phoenix")


def _ago(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)


def _days_ago(days: int, **arguments: Any) -> dict[str, Any]:
    return {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": days, **arguments}}


def _ids(found: list[str]) -> set[str]:
    return {name.removeprefix("contact-").rpartition("-")[2] for name in found}


@pytest.fixture
def openers(insert: Callable[..., list[str]], org: str) -> None:
    """Contacts who opened a mail 5, 29 and 31 days ago, in three spellings each; and one who never did."""
    records: list[dict[str, Any]] = [{"id": f"{org}-never", "data": {}}, {"id": f"{org}-x", "data": {"openedAt": "x"}}]
    for days in (5, 29, 31):
        timestamp = _ago(days)
        text = timestamp.strftime("%Y-%m-%dT%H:%M:%S")
        spellings: dict[str, Any] = {"date": timestamp, "ms": f"{text}.000Z", "s": f"{text}Z"}
        records += [
            {"id": f"{org}-{days}{name}", "data": {"openedAt": value, "opens": [value]}}
            for name, value in spellings.items()
        ]
    insert(records)


RECENT = {f"{days}{name}" for days in (5, 29) for name in ("date", "ms", "s")}
OLD = {f"31{name}" for name in ("date", "ms", "s")}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"openedAt": {"$gte": _days_ago(30)}}, RECENT),
        ({"openedAt": {"$lt": _days_ago(30)}}, OLD),
        ({"openedAt": {"$not": {"$gte": _days_ago(30)}}}, {*OLD, "never", "x"}),
        ({"$nor": [{"openedAt": {"$gte": _days_ago(30)}}]}, {*OLD, "never", "x"}),
        (
            {"openedAt": {"$gte": _days_ago(30, timezone="America/New_York"), "$lt": _days_ago(10)}},
            RECENT - {"5date", "5ms", "5s"},
        ),
        ({"openedAt": {"$gte": {"$dateTrunc": {"date": _days_ago(30), "unit": "day"}}}}, RECENT),
        ({"openedAt": {"$gt": {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 0}}}}, set()),
        ({"openedAt": {"$in": [_days_ago(1)]}}, set()),
        ({"opens": {"$gte": _days_ago(30)}}, RECENT),
    ],
)
def test_a_relative_date_is_right_for_every_spelling_in_storage(
    client: Client, openers: None, where: dict[str, Any], expected: set[str]
) -> None:
    written = {"datatype": "contact", "where": where}
    assert _ids(client.members(filter=written)) == expected
    assert client.count(filter=written) == len(expected)


def test_a_segment_stores_a_relative_date_unresolved_as_an_object(client: Client, openers: None) -> None:
    where = {"openedAt": {"$gte": {"$dateTrunc": {"date": _days_ago(30), "unit": "day", "timezone": "+02:00"}}}}
    made = client.create(name="recent", filter={"datatype": "contact", "where": where})
    kept = client.call("GetSegment", {"id": made.id})
    assert MessageToDict(kept)["filter"] == {"datatype": "contact", "where": where}
    assert _ids(client.members(audienceId=made.id)) == RECENT
    assert client.count(audienceId=made.id) == len(RECENT)


def test_dates_are_added_as_the_database_would(real_service: Service) -> None:
    rng = random.Random(3)
    starts = [datetime(2024, 2, 29, tzinfo=UTC), datetime(2026, 3, 31, 10, 20, 30, 456000, tzinfo=UTC)]
    starts += [datetime(1980, 1, 1, tzinfo=UTC) + timedelta(hours=rng.randrange(700_000)) for _ in range(20)]
    cases = [
        {
            rng.choice(("$dateAdd", "$dateSubtract")): {
                "startDate": rng.choice(starts),
                "unit": rng.choice(UNITS),
                "amount": rng.randrange(-60, 60),
                "timezone": rng.choice(ZONES),
            }
        }
        for _ in range(300)
    ]
    collection = real_service.store.database["folded"]
    collection.insert_one({})
    [computed] = collection.aggregate([{"$project": {str(number): case for number, case in enumerate(cases)}}])
    for number, case in enumerate(cases):
        assert evaluate(case, "where", starts[0]) == computed[str(number)], case


# Written from the manual: bins are counted from 2000-01-01, weeks from the first such day on or after it.
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"unit": "year"}, "2026-01-01T00:00:00.000Z"),
        ({"unit": "year", "binSize": 3}, "2024-01-01T00:00:00.000Z"),
        ({"unit": "quarter"}, "2026-01-01T00:00:00.000Z"),
        ({"unit": "quarter", "binSize": 2}, "2026-01-01T00:00:00.000Z"),
        ({"unit": "month"}, "2026-03-01T00:00:00.000Z"),
        ({"unit": "month", "binSize": 5}, "2025-11-01T00:00:00.000Z"),
        ({"unit": "week"}, "2026-03-29T00:00:00.000Z"),
        ({"unit": "week", "startOfWeek": "Monday"}, "2026-03-30T00:00:00.000Z"),
        ({"unit": "week", "startOfWeek": "tue"}, "2026-03-31T00:00:00.000Z"),
        ({"unit": "week", "startOfWeek": "mon", "binSize": 2}, "2026-03-23T00:00:00.000Z"),
        ({"unit": "day"}, "2026-03-31T00:00:00.000Z"),
        ({"unit": "day", "timezone": "America/New_York"}, "2026-03-31T04:00:00.000Z"),
        ({"unit": "day", "timezone": "+14:00"}, "2026-03-31T10:00:00.000Z"),
        ({"unit": "day", "binSize": 10}, "2026-03-25T00:00:00.000Z"),
        ({"unit": "hour"}, "2026-03-31T10:00:00.000Z"),
        ({"unit": "hour", "binSize": 7}, "2026-03-31T05:00:00.000Z"),
        ({"unit": "minute", "binSize": 15}, "2026-03-31T10:15:00.000Z"),
        ({"unit": "second"}, "2026-03-31T10:20:30.000Z"),
        ({"unit": "millisecond", "binSize": 100}, "2026-03-31T10:20:30.400Z"),
    ],
)
def test_dates_are_truncated_as_the_manual_says(arguments: dict[str, Any], expected: str) -> None:
    now = datetime(2026, 3, 31, 10, 20, 30, 456789, tzinfo=UTC)
    resolved = evaluate({"$dateTrunc": {"date": "$$NOW", **arguments}}, "where", now)
    assert resolved == datetime.fromisoformat(expected)


def test_truncation_before_the_year_2000_goes_down_too() -> None:
    timestamp = datetime(1999, 5, 5, 12, tzinfo=UTC)
    expected = {"month": datetime(1999, 3, 1, tzinfo=UTC), "day": datetime(1999, 5, 1, tzinfo=UTC)}
    for unit, moment_of_bin in expected.items():
        assert (
            evaluate({"$dateTrunc": {"date": timestamp, "unit": unit, "binSize": 5}}, "where", timestamp)
            == moment_of_bin
        )


def test_the_clocks_change_as_the_timezone_says() -> None:
    def day_later(now: datetime) -> datetime:
        later = {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 1, "timezone": "America/New_York"}}
        return evaluate(later, "where", now)

    assert day_later(datetime(2026, 3, 7, 17, tzinfo=UTC)) == datetime(2026, 3, 8, 16, tzinfo=UTC)
    assert day_later(datetime(2026, 10, 31, 16, tzinfo=UTC)) == datetime(2026, 11, 1, 17, tzinfo=UTC)
    # 02:30 is left out on the 8th of March, 01:30 comes twice on the 1st of November.
    assert day_later(datetime(2026, 3, 7, 7, 30, tzinfo=UTC)) == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)
    assert day_later(datetime(2026, 10, 31, 5, 30, tzinfo=UTC)) == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
