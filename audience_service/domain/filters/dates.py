"""ISO 8601 operands that match dates stored as BSON dates as well as dates stored as ISO text.

For example, {"openedAt": {"$gte": "2026-03-25"}} matches if one of these conditions holds:

    {"$gte": datetime(2026, 3, 25)}                        for BSON dates
    {"$gte": "2026-03-25", "$regex": "^(?=...)(?:...)"}    for text

1. The platform writes text with milliseconds and Z (`2026-03-25T00:00:00.000Z`). Stored text may also lack the
   milliseconds or the zone, have the zone of UTC, or be the date alone for midnight. Other text matches no comparison.
2. The pattern decides. $gt and $lt alone would match "x", too, and sort `...00Z` after `...00.999Z`.
3. The bound only helps an index. It cannot decide, since in an array two elements may meet two bounds.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from audience_service.domain.core.clock import MILLISECOND, truncate_to_milliseconds

_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)

_MATCH_NOTHING = "(?!)"
DATE_TEXT_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-]00:?00)?)?(?!\n)$"
"""Stored text that is a date, up to its end."""
_LENGTH = len("2026-03-25T00:00:00.000")
_ENDS = {10: "$", 19: r"(?!\.)", 21: "(?![0-9])", 22: "(?![0-9])"}
"""The lengths at which a text may end, and the pattern of that end: after the day, the seconds, or a digit of the
fraction. The omitted digits are zeros."""

_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_MILLISECONDS = range((datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC) - _FIRST) // MILLISECOND + 1)
"""All instants of the calendar, as numbers of milliseconds."""
_DATE_TEXT_REGEX = re.compile(DATE_TEXT_PATTERN)
_ZONE = re.compile("(Z|[+-]00:?00)$")
_MIDNIGHT = "0000-00-00T00:00:00.000"

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Instant:
    """An instant in whole milliseconds, and its spellings in storage."""

    timestamp: datetime
    spelling: str

    @property
    def millis(self) -> str:
        """The platform's spelling."""
        return iso_text(self.timestamp)

    @property
    def seconds(self) -> str:
        """The spelling without milliseconds."""
        return self.millis[:19] + "Z"

    @property
    def day(self) -> str:
        """The date alone."""
        return self.millis[:10]

    @property
    def is_whole_second(self) -> bool:
        """Whether `seconds` spells exactly this instant."""
        return self.timestamp.microsecond == 0

    @property
    def is_midnight(self) -> bool:
        """Whether `day` spells exactly this instant."""
        return self.millis.endswith("T00:00:00.000Z")


def iso_text(timestamp: datetime) -> str:
    """The platform's spelling of a UTC timestamp: with milliseconds and Z."""
    return timestamp.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def read_instant(value: object) -> Instant | None:
    """The instant that a string spells, in UTC if it has no zone; None if it is not an ISO 8601 date."""
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return None
    try:
        timestamp = datetime.fromisoformat(value)
        timestamp = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Instant(truncate_to_milliseconds(timestamp), value)


def is_comparable(text: str) -> bool:
    """Whether comparisons of dates match a stored text: it spells a date, in UTC, with seconds or as the day alone."""
    return bool(_DATE_TEXT_REGEX.match(text))


def spellings(value: object) -> list[Any]:
    """The stored values that equal `value`: the value itself, and for an ISO date also its BSON date and its texts."""
    instant = read_instant(value)
    if instant is None:
        return [value]
    texts = [instant.millis]
    texts += [instant.seconds] if instant.is_whole_second else []
    texts += [instant.day] if instant.is_midnight else []
    return [instant.timestamp, *dict.fromkeys([*texts, instant.spelling])]


def neighbours(text: str) -> tuple[datetime, ...]:
    """The instant of a stored date text, or the two instants next to it; none for other text.

    Comparisons go by digits, even for dates that the calendar does not have. 2026-02-30 is between the last millisecond
    of February and the first of March.
    """
    if not _DATE_TEXT_REGEX.match(text):
        return ()
    digits = _ZONE.sub("", text)[:_LENGTH]
    padded = digits + _MIDNIGHT[len(digits) :]
    number = bisect_left(_MILLISECONDS, padded, key=lambda number: _iso_prefix(_timestamp_at(number)))
    neighbouring = [_timestamp_at(nearby) for nearby in _MILLISECONDS[max(number - 1, 0) : number + 1]]
    return tuple(timestamp for timestamp in neighbouring if _iso_prefix(timestamp) == padded) or tuple(neighbouring)


def _timestamp_at(number: int) -> datetime:
    return _FIRST + number * MILLISECOND


def _iso_prefix(timestamp: datetime) -> str:
    return iso_text(timestamp)[:_LENGTH]


def compare_conditions(operator: str, value: object) -> list[Condition]:
    """The alternative conditions on one field for `operator` ($gt, $gte, $lt, $lte): one of them must hold."""
    instant = read_instant(value)
    if instant is None:
        return [{operator: value}]
    second = instant.millis[:19]
    # The bound includes every text that the pattern matches; "~" sorts after all that may follow the seconds.
    bound = {"$gte": instant.day if instant.is_midnight else second} if "g" in operator else {"$lte": f"{second}~"}
    return [{operator: instant.timestamp}, {**bound, "$regex": _pattern(operator, instant.millis)}]


@lru_cache(maxsize=1_024)
def _pattern(operator: str, millis: str) -> str:
    """The pattern of the texts whose instant meets the comparison with `millis`, a spelling."""
    body = _pattern_body(operator, millis[:_LENGTH])
    return f"^(?={DATE_TEXT_PATTERN})(?:{_MATCH_NOTHING if body is None else body})"


def _pattern_body(operator: str, text: str) -> str | None:
    """The pattern of the texts that meet the comparison with `text`; None if there are none.

    The first digit that differs decides; the digits after it do not matter. The loop builds the pattern from the end:
    `body` matches the rest of the texts that agree with `text` up to a position.
    """
    greater, or_equal = operator.startswith("$gt"), operator.endswith("e")
    zeros = len(text.rstrip("T:.0"))  # from here on all digits are zeros
    body: str | None = "" if or_equal else None
    # The rest of any text is at least zeros: always right for $gte, never for $lt.
    for position in reversed(range(zeros if greater is or_equal else _LENGTH)):
        cases = []
        if position in _ENDS and (or_equal if position >= zeros else not greater):
            cases.append(_ENDS[position])
        digit = text[position]
        if digit.isdigit() and digit != ("9" if greater else "0"):
            cases.append(f"[{int(digit) + 1}-9]" if greater else f"[0-{int(digit) - 1}]")
        if body is not None:
            cases.append((r"\." if digit == "." else digit) + body)
        body = f"(?:{'|'.join(cases)})" if len(cases) > 1 else cases[0] if cases else None
    return body
