"""The predicates of conditions in plain English: a verb, and the value that it compares with.

The rows of operators.py use these functions. `negate` turns a predicate with a known verb into its negation; any other
predicate is negated as "not (...)".
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from audience_service.domain.filters.anniversaries import Anniversary
from audience_service.domain.filters.buckets import BucketRange
from audience_service.domain.filters.calendar_days import OnDay
from audience_service.domain.filters.describe.values import (
    describe_date,
    describe_list,
    describe_value,
    format_count,
    quote,
    quote_name,
    timezone_phrase,
)
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.geometry import EARTH_RADIUS, Shape, count_points
from audience_service.domain.filters.near_city import NearCity
from audience_service.domain.filters.relative_dates import NOW, ResolvedDate
from audience_service.domain.filters.zoned_operands import ZonedOperand

Describe = Callable[[Any], str]
"""Describes a condition's predicate, given its operand."""

_NEGATIONS = {
    "is": "is not",
    "has": "does not have",
    "exists": "does not exist",
    "contains": "does not contain",
    "starts": "does not start",
    "ends": "does not end",
    "matches": "does not match",
    "leaves": "does not leave",
}
_NEGATIVE = ("not", "neither", "none", "no")

# The phrases for numbers, for timestamps and text, and for days if a day alone is exact; "" if it is not.
_ORDERS = {
    "$gt": ("more than", "after", ""),
    "$gte": ("at least", "at or after", "on or after"),
    "$lt": ("less than", "before", "before"),
    "$lte": ("at most", "at or before", ""),
}
_DAY_LENGTH = len("2026-03-25")
_MAX_MASK_BYTES = 8


def negate(phrase: str) -> str:
    """The negation of a phrase by its verb, empty if that would be unclear."""
    verb, _, rest = phrase.partition(" ")
    if verb not in _NEGATIONS or rest.partition(" ")[0] in _NEGATIVE or " or " in rest:
        return ""
    return f"{_NEGATIONS[verb]} {rest}".rstrip()


def value_phrase(template: str, null: str = "") -> Describe:
    """A phrase about one value; `null` replaces it if the value is null. A day alone is shown with its time."""
    return lambda operand: null if operand is None and null else template.format(describe_value(operand, exact=True))


def list_phrase(template: str) -> Describe:
    """A phrase about a list of values."""
    return lambda operand: template.format(describe_list(operand, exact=True))


def order_phrase(name: str) -> Describe:
    """The phrase of a comparison: `$gt`, `$gte`, `$lt` or `$lte`."""
    plain, instant, day = _ORDERS[name]

    def describe(operand: Any) -> str:
        if name == "$gte" and (window := _last(operand)):
            return f"is in the last {window} or later"  # future dates meet the condition, too
        date = describe_date(operand)
        if date is None:
            return f"is {instant if isinstance(operand, str) else plain} {describe_value(operand)}"
        if isinstance(operand, ResolvedDate) or len(date) > _DAY_LENGTH:
            return f"is {instant} {date}"
        return f"is {day} {date}" if day else f"is {instant} {date} 00:00 UTC"

    return describe


def day_phrase(operand: OnDay) -> str:
    """The phrase of $onDay."""
    day = describe_date(operand.source) or ""
    zone = f" ({operand.timezone})" if operand.timezone else ""
    return f"is on {'the day of ' if operand.is_moving else ''}{day}{zone}"


def zoned_phrase(phrase: Callable[[Any], str]) -> Describe:
    """The phrase of an operand that may be in the timezones of records."""

    def describe(operand: Any) -> str:
        if not isinstance(operand, ZonedOperand):
            return phrase(operand)
        return phrase(replace(operand.operand, timezone=timezone_phrase(operand.timezone)))

    return describe


def anniversary_phrase(operand: Anniversary) -> str:
    """The phrase of $anniversary."""
    first, last = _day_from_today(operand.first), _day_from_today(operand.last)
    details = [operand.timezone] if operand.timezone != "UTC" else []
    details += [f"dates in {operand.field_timezone}"] if operand.field_timezone else []
    details += ["29 February counts as 1 March"] if operand.leap_day == "03-01" else []
    text = f"has its anniversary {first}" if first == last else f"has its anniversary from {first} to {last}"
    return f"{text} ({', '.join(details)})" if details else text


def _day_from_today(offset: int) -> str:
    if offset == 0:
        return "today"
    return f"{format_count(abs(offset), 'day')} {'from now' if offset > 0 else 'ago'}"


def bucket_phrase(operand: BucketRange) -> str:
    """The phrase of $bucket."""
    last = operand.below - 1
    buckets = f"bucket {last}" if operand.first == last else f"buckets {operand.first} to {last}"
    return f"is in {buckets} of {operand.count:,} by the salt {quote(operand.salt)}"


def near_city_phrase(operand: NearCity) -> str:
    """The phrase of $nearCity."""
    country = f", by {display_path(operand.country)}" if operand.country else ""
    cities = format_count(operand.cities.city_count, "city").replace("citys", "cities")
    return f"is within {operand.kilometers:g} km of {quote_name(operand.cities.name)} ({cities}{country})"


def shape_phrase(shape: Shape) -> str:
    """The phrase of $geoWithin."""
    [(name, argument)] = shape.items()
    if name == "$centerSphere":
        [[longitude, latitude], radius] = argument
        return f"is within {radius * EARTH_RADIUS:.4g} km of latitude {latitude:g}, longitude {longitude:g}"
    if name == "$box":
        [[west, south], [east, north]] = argument
        return f"is within latitude {south:g} to {north:g}, longitude {west:g} to {east:g}"
    return f"is within a shape of {format_count(count_points(shape), 'point')}"


def text_phrase(verb: str) -> Describe:
    """A phrase about one or more texts, in any case and with any accents."""
    return lambda texts: f"{verb} {'any of ' if len(texts) > 1 else ''}{describe_list(texts)} in any case and accents"


def bits_phrase(template: str) -> Describe:
    """A phrase about the bits of a mask or a list, by their positions."""
    return lambda operand: template.format(_positions(operand))


def _last(operand: Any) -> str:
    """The length of the window from a relative date up to now; empty if the operand is not such a date."""
    if not isinstance(operand, ResolvedDate):
        return ""
    shift = operand.expression.get("$dateSubtract", {})
    if shift.get("startDate") != NOW or shift["amount"] <= 0:
        return ""
    window, ago, details = (describe_date(operand) or "").partition(" ago")
    return (window.removeprefix("1 ") if ago else "") + details


def _positions(operand: Any) -> str:
    if isinstance(operand, bytes):
        if len(operand) > _MAX_MASK_BYTES:
            return describe_value(operand)
        operand = int.from_bytes(operand, "little")
    if isinstance(operand, int):
        operand = [position for position in range(operand.bit_length()) if operand >> position & 1]
    return describe_list(operand) if operand else "(none)"
