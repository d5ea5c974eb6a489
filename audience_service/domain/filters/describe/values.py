"""Descriptions of values in plain English.

All spellings of a date are described alike. Text that is a single, unambiguous word is bare; other text is quoted.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bson import Binary, ObjectId

from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.record_timezones import RecordTimezone, read_record_timezone
from audience_service.domain.filters.relative_dates import NOW, Now, ResolvedDate, weekday

_MAX_TEXT, _MAX_VALUE, _MAX_BYTES = 80, 300, 16
_MAX_LIST, _SHOWN_OF_MORE = 10, 3
_DAY_LENGTH = len("2026-03-25")

_WORD = re.compile(r"[^\W\d][\w-]*")
_RESERVED_WORDS = frozenset(
    ("null", "missing", "true", "false", "and", "or", "not", "now", "is", "has", "none", "everyone")
)
_ESCAPED = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_UUID_SUBTYPES = (3, 4)
_UTC_NAMES = ("UTC", "GMT")


def describe_value(value: Any, *, exact: bool = False) -> str:
    """The description of a condition's operand; if `exact`, a day alone is shown as the midnight that it means."""
    text = truncate(_describe(value), _MAX_VALUE)
    is_day = exact and isinstance(value, str) and len(text) == _DAY_LENGTH and text == describe_date(value)
    return f"{text} 00:00 UTC" if is_day else text


def describe_list(values: Sequence[Any], *, exact: bool = False) -> str:
    """The description of a list of values; a long list is shortened. Null is last, since it includes missing fields."""
    if not values:
        return "an empty list"
    ordered = sorted(values, key=lambda value: value is None)
    shown = ordered if len(ordered) <= _MAX_LIST else ordered[:_SHOWN_OF_MORE]
    text = ", ".join("null or missing" if value is None else describe_value(value, exact=exact) for value in shown)
    more = len(ordered) - len(shown)
    return f"{text} and {more:,} more" if more else text


def describe_date(value: Any) -> str | None:
    """The description of a date, relative to now if it was written so; None for other values.

    Midnight in UTC is described as the day alone.
    """
    if isinstance(value, ResolvedDate):
        return _describe_relative(value.expression)
    if isinstance(value, Now):
        return "now"
    if isinstance(value, datetime):
        return _format_timestamp(value if value.tzinfo is None else value.astimezone(UTC))
    instant = read_instant(value)
    return _format_timestamp(instant.timestamp) if instant else None


def quote(text: str) -> str:
    """The text in single quotes. Long text is truncated; unprintable characters are escaped."""
    shown = (_ESCAPED.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in text[:_MAX_TEXT])
    return f"'{''.join(shown)}{'...' if len(text) > _MAX_TEXT else ''}'"


def quote_name(text: str) -> str:
    """The text, in single quotes unless it is one word."""
    return text if _is_bare(text) else quote(text)


def truncate(text: str, length: int) -> str:
    """The text, truncated to a length and marked with `...`."""
    return text if len(text) <= length else f"{text[:length]}..."


def format_count(number: int, noun: str) -> str:
    """A number and its noun: 1 day, 30 days."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _describe(value: Any) -> str:
    if (date := describe_date(value)) is not None:
        return date
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quote_name(value)
        case Mapping():
            return _inside(
                "{", [f"{_describe(key)}: {_describe(item)}" for key, item in _first(value.items())], value, "}"
            )
        case list():
            return _inside("[", [_describe(item) for item in _first(value)], value, "]")
        case bytes():
            return _bytes(value)
        case ObjectId():
            return f"ObjectId({value})"
    return str(value)


def _is_bare(text: str) -> bool:
    return len(text) <= _MAX_TEXT and bool(_WORD.fullmatch(text)) and text.lower() not in _RESERVED_WORDS


def _first(items: Any) -> list[Any]:
    return [item for item, _ in zip(items, range(_MAX_LIST), strict=False)]


def _inside(start: str, shown: list[str], items: Any, end: str) -> str:
    more = [f"{len(items) - len(shown):,} more"] if len(items) > len(shown) else []
    return f"{start}{', '.join([*shown, *more])}{end}"


def _bytes(value: bytes) -> str:
    if isinstance(value, Binary) and value.subtype in _UUID_SUBTYPES and len(value) == _MAX_BYTES:
        return f"UUID({value.hex()})"
    shown = value[:_MAX_BYTES].hex()
    return f"0x{shown}" if len(value) <= _MAX_BYTES else f"0x{shown}... ({len(value):,} bytes)"


def _format_timestamp(timestamp: datetime) -> str:
    if timestamp.time() == datetime.min.time():
        return timestamp.date().isoformat()
    spec = "milliseconds" if timestamp.microsecond else "seconds" if timestamp.second else "minutes"
    return f"{timestamp.replace(tzinfo=None).isoformat(' ', spec)} UTC"


def _describe_relative(expression: Any) -> str:
    """The description of a date expression that the parser has checked."""
    if expression == NOW:
        return "now"
    if isinstance(expression, datetime):
        return describe_date(expression) or ""
    [(name, arguments)] = expression.items()
    return _describe_truncation(arguments) if name == "$dateTrunc" else _describe_shift(name, arguments)


def _describe_shift(name: str, arguments: Mapping[str, Any]) -> str:
    amount = int(arguments["amount"]) * (1 if name == "$dateAdd" else -1)
    start = _describe_relative(arguments["startDate"])
    if amount == 0:
        return start
    size = format_count(abs(amount), arguments["unit"])
    if arguments["startDate"] == NOW:
        text = f"{size} ago" if amount < 0 else f"{size} from now"
    else:
        text = f"{size} {'before' if amount < 0 else 'after'} {start}"
    return _with_details(text, _zone(arguments))


def _describe_truncation(arguments: Mapping[str, Any]) -> str:
    date, unit, size = arguments["date"], arguments["unit"], int(arguments.get("binSize", 1))
    first_day = weekday(arguments.get("startOfWeek", "sunday"))
    details = [f"from {first_day.capitalize()}"] if unit == "week" and first_day != "sunday" else []
    if date == NOW:
        period = "today" if (unit, size) == ("day", 1) else f"this {_period(unit, size)}"
    else:
        is_shifted = isinstance(date, Mapping) and "$dateTrunc" not in date
        period = f"the {_period(unit, size)}{' ' if is_shifted else ' of '}{_describe_relative(date)}"
    return _with_details(f"the start of {period}", [*details, *_zone(arguments)])


def _period(unit: str, size: int) -> str:
    return unit if size == 1 else f"period of {format_count(size, unit)}"


def timezone_phrase(timezone: RecordTimezone) -> str:
    """The timezone of each record, like `by timezone, or else UTC`."""
    return f"by {display_path(timezone.path)}, or else {timezone.default}"


def _zone(arguments: Mapping[str, Any]) -> list[str]:
    zone = arguments.get("timezone", "UTC")
    if found := read_record_timezone(zone, ""):
        return [timezone_phrase(found)]
    return [] if zone in _UTC_NAMES else [zone]


def _with_details(text: str, details: Sequence[str]) -> str:
    return f"{text} ({', '.join(details)})" if details else text
