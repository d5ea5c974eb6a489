"""ISO 8601 operands, right for records that store dates as BSON dates and for those that store ISO text.

The platform writes ISO text with milliseconds and Z (`2026-03-25T00:00:00.000Z`). Understood in storage are also text
without milliseconds, without a zone or with that of UTC, and the date alone for midnight. Text of any other shape is no
date and matches no comparison with one.

Text cannot be compared with dates by $gt and its kin alone: they match "x" too, and `...00Z` sorts after `...00.999Z`.
Bounding both ends does not help where the field is an array, since each bound may then be met by another element. So a
comparison is one pattern, which a single text meets or not, beside a bound that lets an index narrow it down.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)

_MATCH_NOTHING = "(?!)"
DATE_TEXT_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-]00:?00)?)?(?!\n)$"
"""Text in storage that is a date, to its end."""
_LENGTH = len("2026-03-25T00:00:00.000")
_ENDS = {10: "$", 19: r"(?!\.)", 21: "(?![0-9])", 22: "(?![0-9])"}
"""Where a text may spell out no more, which means zeros, and how that looks: after the day, the seconds, a fraction's
digits."""

_MILLISECOND = timedelta(milliseconds=1)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_MILLISECONDS = range((datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC) - _FIRST) // _MILLISECOND + 1)
"""All moments that a date can be at, as numbers."""
_DATE_TEXT_REGEX = re.compile(DATE_TEXT_PATTERN)
_ZONE = re.compile("(Z|[+-]00:?00)$")
_MIDNIGHT = "0000-00-00T00:00:00.000"

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment, to the millisecond, and its spellings in storage."""

    timestamp: datetime
    spelling: str

    @property
    def millis(self) -> str:
        """The platform's spelling."""
        return iso_text(self.timestamp)

    @property
    def seconds(self) -> str:
        """The spelling without milliseconds, of the second that the moment is in."""
        return self.millis[:19] + "Z"

    @property
    def day(self) -> str:
        """The date alone."""
        return self.millis[:10]

    @property
    def is_whole_second(self) -> bool:
        """Whether `seconds` spells this very moment."""
        return self.timestamp.microsecond == 0

    @property
    def is_midnight(self) -> bool:
        """Whether `day` spells this very moment."""
        return self.millis.endswith("T00:00:00.000Z")


def iso_text(timestamp: datetime) -> str:
    """The platform's spelling of a moment in UTC: with milliseconds and Z."""
    return timestamp.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def read_instant(value: object) -> Instant | None:
    """The instant that a string spells, UTC where it names no zone; None where it is no ISO 8601 date."""
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return None
    try:
        timestamp = datetime.fromisoformat(value)
        timestamp = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Instant(timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000), value)


def spellings(value: object) -> list[Any]:
    """The values in storage that equal `value`: itself, and for an ISO date its BSON date and its texts."""
    instant = read_instant(value)
    if instant is None:
        return [value]
    texts = [instant.millis]
    texts += [instant.seconds] if instant.is_whole_second else []
    texts += [instant.day] if instant.is_midnight else []
    return [instant.timestamp, *dict.fromkeys([*texts, instant.spelling])]


def neighbours(text: str) -> tuple[datetime, ...]:
    """The moment at which comparisons find a date's text in storage, or the two between which; none for other text.

    They go by the digits, also where these make no date of the calendar: 2026-02-30 lies behind the last millisecond of
    February and before March.
    """
    if not _DATE_TEXT_REGEX.match(text):
        return ()
    digits = _ZONE.sub("", text)[:_LENGTH]
    padded = digits + _MIDNIGHT[len(digits) :]
    number = bisect_left(_MILLISECONDS, padded, key=lambda number: _iso_prefix(_timestamp_at(number)))
    around = [_timestamp_at(near) for near in _MILLISECONDS[max(number - 1, 0) : number + 1]]
    return tuple(timestamp for timestamp in around if _iso_prefix(timestamp) == padded) or tuple(around)


def _timestamp_at(number: int) -> datetime:
    return _FIRST + number * _MILLISECOND


def _iso_prefix(timestamp: datetime) -> str:
    return iso_text(timestamp)[:_LENGTH]


def compare_conditions(operator: str, value: object) -> list[Condition]:
    """The conditions on one field of which any holds where `operator` ($gt, $gte, $lt, $lte) does."""
    instant = read_instant(value)
    if instant is None:
        return [{operator: value}]
    second = instant.millis[:19]
    # Every text that the pattern matches is within the bound; "~" sorts after all that may follow the seconds.
    bound = {"$gte": instant.day if instant.is_midnight else second} if "g" in operator else {"$lte": f"{second}~"}
    return [{operator: instant.timestamp}, {**bound, "$regex": _pattern(operator, instant.millis)}]


@lru_cache(maxsize=1_024)
def _pattern(operator: str, millis: str) -> str:
    """The pattern of the texts for whose moment the comparison with `millis` (a spelling) holds."""
    body = _pattern_body(operator, millis[:_LENGTH])
    return f"^(?={DATE_TEXT_PATTERN})(?:{_MATCH_NOTHING if body is None else body})"


def _pattern_body(operator: str, text: str) -> str | None:
    """What texts in the relation to `text` look like; None where there are none.

    The first digit that differs decides, and whatever follows it does not count. It is built from the end: what texts
    that agree with `text` up to a position look like from there on.
    """
    greater, or_equal = operator.startswith("$gt"), operator.endswith("e")
    zeros = len(text.rstrip("T:.0"))  # from here on nothing is left
    body: str | None = "" if or_equal else None
    # What follows in other texts is at least as much, so that all of them do for $gte, and none for $lt.
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
