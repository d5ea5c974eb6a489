"""Comparisons with ISO dates: a text matches exactly if its timestamp does, in any spelling."""

import operator
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.filters.dates import compare_conditions, iso_text, neighbours, read_instant
from tests.support.examples import examples

ORDERS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
BASE = datetime(2026, 3, 25, tzinfo=UTC)
TIMESTAMPS = st.one_of(
    st.sampled_from([0, 1, 499, 500, 999, 1_000, -1, -1_000, 59_000, 60_000, 86_400_000, -86_400_000]),
    st.integers(-(10**11), 10**11),
).map(lambda millis: BASE + timedelta(milliseconds=millis))


def spellings_of(timestamp: datetime) -> list[str]:
    """Every spelling of a timestamp that storage may hold."""
    second, millis = timestamp.strftime("%Y-%m-%dT%H:%M:%S"), timestamp.microsecond // 1000
    zones = ["Z", "", "+00:00", "+0000"]
    texts = [f"{second}.{millis:03d}{zone}" for zone in zones]
    texts += [f"{second}.{millis:03d}000Z"]
    texts += [f"{second}.{f'{millis:03d}'.rstrip('0')}Z"] if millis else [f"{second}.0Z"]
    if millis == 0:
        texts += [second + zone for zone in zones]
        texts += [second[:10]] if second.endswith("T00:00:00") else []
    return texts


def matches(condition: dict[str, Any], text: str) -> bool:
    """Whether a text meets a condition, as MongoDB would say."""
    bound = text >= condition["$gte"] if "$gte" in condition else text <= condition["$lte"]
    return bound and re.search(condition["$regex"], text) is not None


@examples(1_500)
@given(st.sampled_from(sorted(ORDERS)), TIMESTAMPS, TIMESTAMPS)
def test_a_text_matches_a_comparison_like_its_timestamp(name: str, timestamp: datetime, stored: datetime) -> None:
    [as_date, as_text] = compare_conditions(name, spellings_of(timestamp)[0])
    assert as_date == {name: timestamp}
    for text in spellings_of(stored):
        assert matches(as_text, text) is ORDERS[name](stored, timestamp), text


@pytest.mark.parametrize(
    "text", ["x", "", "2026", "2026-3-25", "9999", "2026-03-25T10:00", "2026-03-25T10:00:00+02:00"]
)
def test_text_that_is_no_date_matches_no_comparison(text: str) -> None:
    for name in ORDERS:
        assert not matches(compare_conditions(name, "2026-03-20")[1], text)
        assert not matches(compare_conditions(name, "2026-03-30")[1], text)


def test_operands_default_to_utc() -> None:
    for text in ("2026-03-25", "2026-03-25T00:00", "2026-03-25T00:00:00Z", "2026-03-25T02:00:00.000+02:00"):
        instant = read_instant(text)
        assert instant is not None
        assert instant.timestamp == BASE
    assert read_instant("0001-01-01T00:00:00+05:00") is None
    assert read_instant(5) is None


@pytest.mark.parametrize(
    ("text", "around"),
    [
        ("2026-03-25T10:00:00.5+00:00", ["2026-03-25T10:00:00.500Z"]),
        ("2026-03-25T10:00:00.1234567890Z", ["2026-03-25T10:00:00.123Z"]),
        ("2026-02-30", ["2026-02-28T23:59:59.999Z", "2026-03-01T00:00:00.000Z"]),
        ("2026-03-25T24:00:00Z", ["2026-03-25T23:59:59.999Z", "2026-03-26T00:00:00.000Z"]),
        ("2026-12-31T23:59:60.5", ["2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00.000Z"]),
        ("0000-00-00", ["0001-01-01T00:00:00.000Z"]),
        ("9999-99-99", ["9999-12-31T23:59:59.999Z"]),
        ("2026-03-25T10:00:00+02:00", []),
        ("2026-03-25 10:00", []),
    ],
)
def test_a_text_maps_to_one_timestamp_or_lies_between_two(text: str, around: list[str]) -> None:
    assert [iso_text(timestamp) for timestamp in neighbours(text)] == around
    if len(around) == 2:
        for name in ORDERS:
            before_and_after = [matches(compare_conditions(name, nearby)[1], text) for nearby in around]
            assert before_and_after == [name.startswith("$g"), name.startswith("$l")]
