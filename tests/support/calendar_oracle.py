"""What $onDay and $anniversary mean, in plain Python."""

import re
from calendar import isleap
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)


def values_at(document: Any, steps: list[str]) -> Iterator[Any]:
    """The values that a condition on a path compares."""
    if not steps:
        yield from document if isinstance(document, list) else [document]
        return
    for inner in document if isinstance(document, list) else [document]:
        if isinstance(inner, Mapping) and steps[0] in inner:
            yield from values_at(inner[steps[0]], steps[1:])


def day_of(value: Any, timezone: str) -> date | None:
    """The day of a stored value: as it is stored, or in a timezone if it has a time."""
    if isinstance(value, str) and (found := _ISO.fullmatch(value)):
        if not timezone or not found[2]:
            return date.fromisoformat(found[1])
        instant = datetime.fromisoformat(value)
        value = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    if isinstance(value, datetime):
        return value.astimezone(ZoneInfo(timezone or "UTC")).date()
    return None


def is_on_day(value: Any, operand: Any) -> bool:
    """Whether a value meets $onDay."""
    arguments = operand if isinstance(operand, Mapping) else {"date": operand}
    return day_of(value, arguments.get("timezone", "")) == date.fromisoformat(arguments["date"])


def has_anniversary(value: Any, operand: Mapping[str, Any], now: datetime) -> bool:
    """Whether a value meets $anniversary at a time."""
    if isinstance(value, str) and re.fullmatch(r"--\d\d-\d\d", value):
        month_day = value[2:]
    elif day := day_of(value, operand.get("fieldTimezone", "")):
        month_day = f"{day:%m-%d}"
    else:
        return False
    today = now.astimezone(ZoneInfo(operand.get("timezone", "UTC"))).date()
    for offset in range(operand["from"], operand["to"] + 1):
        day = today + timedelta(days=offset)
        if f"{day:%m-%d}" == month_day:
            return True
        is_substitute = f"{day:%m-%d}" == operand.get("leapDay", "02-28")
        if month_day == "02-29" and is_substitute and not isleap(day.year):
            return True
    return False
