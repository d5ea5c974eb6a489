"""Values in plain English.

Dates look the same however they are written. Text stands bare where it is one word that nothing else in a sentence
looks like, else in quotes.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bson import Binary, ObjectId

from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.relative import NOW, FoldedDate, Now, weekday

_MAX_TEXT, _MAX_VALUE, _MAX_BYTES = 80, 300, 16
_MAX_LIST, _SHOWN_OF_MORE = 10, 3

_WORD = re.compile(r"[^\W\d][\w-]*")
_OURS = frozenset(("null", "missing", "true", "false", "and", "or", "not", "now", "is", "has", "none", "everyone"))
_ESCAPED = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_UUID_SUBTYPES = (3, 4)
_UTC_NAMES = ("UTC", "GMT")


def value_words(value: Any) -> str:
    """A value as a condition compares with it."""
    return cut(_words(value), _MAX_VALUE)


def list_words(values: Sequence[Any]) -> str:
    """Values as one may choose among them, null last since it also stands for a missing field; of many, a few."""
    if not values:
        return "an empty list"
    stated = sorted(values, key=lambda value: value is None)
    shown = stated if len(stated) <= _MAX_LIST else stated[:_SHOWN_OF_MORE]
    words = ", ".join("null or missing" if value is None else value_words(value) for value in shown)
    more = len(stated) - len(shown)
    return f"{words} and {more:,} more" if more else words


def date_words(value: Any) -> str | None:
    """A date, relative to now where it was written so; None for what is no date. Whole days in UTC are a day alone."""
    if isinstance(value, FoldedDate):
        return _relative(value.written)
    if isinstance(value, Now):
        return "now"
    if isinstance(value, datetime):
        return _moment(value if value.tzinfo is None else value.astimezone(UTC))
    instant = read_instant(value)
    return _moment(instant.moment) if instant else None


def quoted(text: str) -> str:
    """Text in single quotes, cut off where it is long, characters that would not show spelt out."""
    shown = (_ESCAPED.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in text[:_MAX_TEXT])
    return f"'{''.join(shown)}{'...' if len(text) > _MAX_TEXT else ''}'"


def cut(text: str, length: int) -> str:
    """The text, cut off at a length."""
    return text if len(text) <= length else f"{text[:length]}..."


def counted(number: int, noun: str) -> str:
    """A number of things: 1 day, 30 days."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _words(value: Any) -> str:
    if (date := date_words(value)) is not None:
        return date
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return value if _is_bare(value) else quoted(value)
        case Mapping():
            return _inside("{", [f"{_words(key)}: {_words(item)}" for key, item in _first(value.items())], value, "}")
        case list():
            return _inside("[", [_words(item) for item in _first(value)], value, "]")
        case bytes():
            return _bytes(value)
        case ObjectId():
            return f"ObjectId({value})"
    return str(value)


def _is_bare(text: str) -> bool:
    return len(text) <= _MAX_TEXT and bool(_WORD.fullmatch(text)) and text.lower() not in _OURS


def _first(items: Any) -> list[Any]:
    return [item for item, _ in zip(items, range(_MAX_LIST), strict=False)]


def _inside(start: str, shown: list[str], whole: Any, end: str) -> str:
    more = [f"{len(whole) - len(shown):,} more"] if len(whole) > len(shown) else []
    return f"{start}{', '.join([*shown, *more])}{end}"


def _bytes(value: bytes) -> str:
    if isinstance(value, Binary) and value.subtype in _UUID_SUBTYPES and len(value) == _MAX_BYTES:
        return f"UUID({value.hex()})"
    shown = value[:_MAX_BYTES].hex()
    return f"0x{shown}" if len(value) <= _MAX_BYTES else f"0x{shown}... ({len(value):,} bytes)"


def _moment(moment: datetime) -> str:
    if moment.time() == datetime.min.time():
        return moment.date().isoformat()
    spec = "milliseconds" if moment.microsecond else "seconds" if moment.second else "minutes"
    return f"{moment.replace(tzinfo=None).isoformat(' ', spec)} UTC"


def _relative(written: Any) -> str:
    """A date expression, which the parser has read and found right."""
    if written == NOW:
        return "now"
    if isinstance(written, datetime):
        return date_words(written) or ""
    [(name, arguments)] = written.items()
    return _truncated(arguments) if name == "$dateTrunc" else _shifted(name, arguments)


def _shifted(name: str, arguments: Mapping[str, Any]) -> str:
    amount = int(arguments["amount"]) * (1 if name == "$dateAdd" else -1)
    start = _relative(arguments["startDate"])
    if amount == 0:
        return start
    size = counted(abs(amount), arguments["unit"])
    if arguments["startDate"] == NOW:
        words = f"{size} ago" if amount < 0 else f"{size} from now"
    else:
        words = f"{size} {'before' if amount < 0 else 'after'} {start}"
    return _with_details(words, _zone(arguments))


def _truncated(arguments: Mapping[str, Any]) -> str:
    date, unit, size = arguments["date"], arguments["unit"], int(arguments.get("binSize", 1))
    first_day = weekday(arguments.get("startOfWeek", "sunday"))
    details = [f"from {first_day.capitalize()}"] if unit == "week" and first_day != "sunday" else []
    if date == NOW:
        period = "today" if (unit, size) == ("day", 1) else f"this {_period(unit, size)}"
    else:
        shifted = isinstance(date, Mapping) and "$dateTrunc" not in date
        period = f"the {_period(unit, size)}{' ' if shifted else ' of '}{_relative(date)}"
    return _with_details(f"the start of {period}", [*details, *_zone(arguments)])


def _period(unit: str, size: int) -> str:
    return unit if size == 1 else f"period of {counted(size, unit)}"


def _zone(arguments: Mapping[str, Any]) -> list[str]:
    zone = arguments.get("timezone", "UTC")
    return [] if zone in _UTC_NAMES else [zone]


def _with_details(words: str, details: Sequence[str]) -> str:
    return f"{words} ({', '.join(details)})" if details else words
