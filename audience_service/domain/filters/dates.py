"""ISO 8601 operands, right for records that store dates as BSON dates and for those that store ISO text.

The platform writes ISO text with milliseconds and Z (`2026-03-25T00:00:00.000Z`). Understood in storage are also text
without milliseconds, without a zone or with that of UTC, and the date alone for midnight. Text of any other shape is no
date and matches no comparison with one.

Text cannot be compared with dates by $gt and its kin alone: they match "x" too, and `...00Z` sorts after `...00.999Z`.
Bounding both ends does not help where the field is an array, since each bound may then be met by another element. So a
comparison is one pattern, which a single text meets or not, beside a bound that lets an index narrow it down.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)

# What may follow the seconds; a whole time of day; what may follow a fraction's first digits.
_REST = r"(?:\.[0-9]+)?(?:Z|[+-]00:?00)?$"
_TIME = r"(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}" + _REST.removesuffix("$") + ")?$"
_FRACTION = r"[0-9]*(?:Z|[+-]00:?00)?$"
_DAY_LENGTH, _SECOND_LENGTH, _MILLIS_LENGTH = 10, 19, 23

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment, to the millisecond, and its spellings in storage."""

    moment: datetime
    written: str

    @property
    def millis(self) -> str:
        """The platform's spelling."""
        return self.moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0") + f"{self.moment.microsecond // 1000:03d}Z"

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
        return self.moment.microsecond == 0

    @property
    def is_midnight(self) -> bool:
        """Whether `day` spells this very moment."""
        return self.millis.endswith("T00:00:00.000Z")


def read_instant(value: object) -> Instant | None:
    """The instant that a string spells, UTC where it names no zone; None where it is no ISO 8601 date."""
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Instant(moment.replace(microsecond=moment.microsecond // 1000 * 1000), value)


def spellings(value: object) -> list[Any]:
    """The values in storage that equal `value`: itself, and for an ISO date its BSON date and its texts."""
    instant = read_instant(value)
    if instant is None:
        return [value]
    texts = [instant.millis]
    texts += [instant.seconds] if instant.is_whole_second else []
    texts += [instant.day] if instant.is_midnight else []
    return [instant.moment, *dict.fromkeys([*texts, instant.written])]


def ordered(operator: str, value: object) -> list[Condition]:
    """The conditions on one field of which any holds where `operator` ($gt, $gte, $lt, $lte) does."""
    instant = read_instant(value)
    if instant is None:
        return [{operator: value}]
    second = instant.millis[:19]
    # Every text that the pattern matches is within the bound; "~" sorts after all that may follow the seconds.
    bound = {"$gte": instant.day if instant.is_midnight else second} if "g" in operator else {"$lte": f"{second}~"}
    return [{operator: instant.moment}, {**bound, "$regex": _pattern(operator, instant)}]


def _pattern(operator: str, instant: Instant) -> str:
    """The pattern of the texts for whose moment the comparison holds: the first digit that differs decides."""
    greater, or_equal = operator.startswith("$gt"), operator.endswith("e")
    text = instant.millis[:_MILLIS_LENGTH]
    days = _differing(text, 0, _DAY_LENGTH, greater=greater)
    times = _differing(text, _DAY_LENGTH, _SECOND_LENGTH, greater=greater)
    fractions = _differing(text, _SECOND_LENGTH, _MILLIS_LENGTH, greater=greater)
    fractions += [_literal(text)] if or_equal else []
    wholes = []
    # A text that spells out less means zeros: it is this very moment, or one before it.
    if or_equal if instant.is_whole_second else not greater:
        wholes.append(_literal(text[:_SECOND_LENGTH]) + _REST.replace(r"(?:\.[0-9]+)?", ""))
    if or_equal if instant.is_midnight else not greater:
        wholes.append(_literal(text[:_DAY_LENGTH]) + "$")
    tails = ((days, _TIME), (times, _REST), (fractions, _FRACTION), (wholes, ""))
    return "^(?:" + "|".join(f"(?:{'|'.join(cases)}){tail}" for cases, tail in tails if cases) + ")"


def _differing(text: str, start: int, end: int, *, greater: bool) -> list[str]:
    """For each digit between the positions: all before it the same, it itself beyond, and any digits up to the end."""
    cases = []
    for position in range(start, end):
        digit = text[position]
        if digit.isdigit() and digit != ("9" if greater else "0"):
            beyond = f"[{int(digit) + 1}-9]" if greater else f"[0-{int(digit) - 1}]"
            after = "" if end == _MILLIS_LENGTH else re.sub("[0-9]", "[0-9]", text[position + 1 : end])
            cases.append(_literal(text[:position]) + beyond + after)
    return cases


def _literal(text: str) -> str:
    return text.replace(".", r"\.")
