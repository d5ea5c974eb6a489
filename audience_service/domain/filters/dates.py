"""ISO 8601 operands, right for records that store dates as BSON dates and for those that store ISO text.

The platform writes ISO text with milliseconds and Z (`2026-03-25T00:00:00.000Z`). Two more spellings are understood in
storage: without milliseconds, and the date alone for midnight UTC. Text of other shapes (offsets, say) is compared as
text. As text, `...00Z` sorts after `...00.999Z`, which is why an order comparison may take two ranges.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)

# ISO text begins with a digit. Bounding both ends keeps other text in the same field out.
_FIRST, _PAST = "0", ":"

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
    millis, seconds = instant.millis, instant.seconds
    earliest = instant.day if instant.is_midnight else millis
    if operator == "$gte" and instant.is_whole_second:
        texts: list[Condition] = [{"$gte": earliest, "$lt": _PAST}]
    elif operator in ("$gt", "$gte"):
        texts = [{operator: millis, "$lt": seconds}, {"$gt": seconds, "$lt": _PAST}]
    elif operator == "$lt" and instant.is_whole_second:
        texts = [{"$gte": _FIRST, "$lt": earliest}]
    else:
        texts = [{"$gte": _FIRST, operator: millis}, {"$eq": seconds}]
    return [{operator: instant.moment}, *texts]
