"""Insights computed in Python from the records, as docs/reference/insights.md defines them.

Shares no code with the service.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Decimal128
from bson.datetime_ms import DatetimeMS

PATHS: dict[str, list[str]] = {
    "country": ["data.country", "data.address.country"],
    "region": ["data.region", "data.address.region"],
    "city": ["data.city", "data.address.city"],
    "language": ["data.language"],
    "ageBand": ["data.birthday"],
    "gender": ["data.sex", "data.gender"],
    "company": ["data.company", "data.company.name"],
    "job": ["data.jobTitle"],
    "lifecycleStage": ["data.leadStage"],
    "lastOpened": ["data.lastEmailOpenedAt"],
    "lastClicked": ["data.lastEmailClickedAt"],
    "created": ["data.createdAt", "createdate"],
    "score": ["data.score", "data.leadScore"],
    "source": ["data.source"],
    "tags": ["data.tags"],
}
DATES = ("lastOpened", "lastClicked", "created")
ISO = re.compile(r"(?!0000)(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|[+-]00:?00)?)?", re.ASCII)
ABSENT = object()


def value_at(value: Any, steps: list[str]) -> Any:
    """What a path leads to, through lists to a list."""
    if not steps:
        return value
    if isinstance(value, dict):
        return value_at(value[steps[0]], steps[1:]) if steps[0] in value else ABSENT
    if isinstance(value, list):
        return [found for item in value if (found := value_at(item, steps)) is not ABSENT]
    return ABSENT


def candidates(record: dict[str, Any], paths: list[str]) -> list[Any]:
    """The values at the paths, those of lists one by one."""
    found: list[Any] = []
    for path in paths:
        value = value_at(record, path.split("."))
        if value is not ABSENT:
            found += value if isinstance(value, list) else [value]
    return [value for value in found if value is not None and value not in ([], {}) and not is_blank(value)]


def trim(text: str) -> str:
    """Without blanks around it."""
    return text.strip(" \t\r\n\u00a0")


def is_blank(value: Any) -> bool:
    """Whether it is text without a visible character."""
    return isinstance(value, str) and not trim(value)


def number_of(value: Any) -> float | None:
    """The number that a value is or spells."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        spelt = re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", trim(value), re.ASCII)
        return float(trim(value)) + 0.0 if spelt else None
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, datetime | DatetimeMS):
        return None
    return float(value) + 0.0 if math.isfinite(float(value)) else None


def second_of(value: Any) -> datetime | None:
    """The second that a date is in, or text spells."""
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    if isinstance(value, DatetimeMS):  # beyond what Python has: as good as its ends
        return (datetime.max if int(value) > 0 else datetime.min).replace(tzinfo=UTC)
    if is_date_string(value) and (found := ISO.fullmatch(value)):
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return None


def is_date_string(value: Any) -> bool:
    """Whether it is text that spells a date."""
    found = ISO.fullmatch(value) if isinstance(value, str) else None
    return bool(found and 1 <= int(found[2]) <= 12 and 1 <= int(found[3]) <= 31)


def recency(value: datetime, now: datetime) -> str:
    """The band of a timestamp."""
    if value > now:
        return "in the future"
    for days, label in (
        (7, "last 7 days"),
        (30, "8 to 30 days ago"),
        (90, "31 to 90 days ago"),
        (180, "91 to 180 days ago"),
        (365, "181 to 365 days ago"),
    ):
        if now - value <= timedelta(days=days):
            return label
    return "over 365 days ago"


def age_band(birthday: datetime, now: datetime) -> str | None:
    """The band of an age, None for a birthday in the future."""
    if birthday.date() > now.date():
        return None
    age = now.year - birthday.year - ((now.month, now.day) < (birthday.month, birthday.day))
    for below, label in ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64")):
        if age < below:
            return label
    return "65+"


def score_band(number: float) -> str:
    """The band of a score."""
    if number < 20:
        return "under 20"
    return "80 and over" if number >= 80 else f"{int(number // 20 * 20)} to under {int(number // 20 * 20 + 20)}"


def number_label(number: float) -> str:
    """A number as it is shown."""
    return str(int(number)) if number == int(number) else repr(number)


def text_label(value: Any, *, dates_as_months: bool) -> str | None:
    """The bucket of a value that is one of its own."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m}"
    if isinstance(value, DatetimeMS):
        return None
    if isinstance(value, str):
        text = trim(value)
        if dates_as_months and is_date_string(text):
            return text[:7]
        if re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d{1,6})?", text, re.ASCII):
            return number_label(float(text))
        return text[:100]
    number = number_of(value)
    return None if number is None else number_label(number)


def labels(name: str, record: dict[str, Any], now: datetime) -> list[str]:
    """The buckets of one record; a label that is no value's begins with a NUL."""
    found = candidates(record, PATHS.get(name, [name]))
    scalars = [value for value in found if not isinstance(value, list | dict)]
    if not scalars:
        return ["\0invalid" if found else "\0missing"]
    if name == "tags" or name not in PATHS:
        every = [text_label(value, dates_as_months=name not in PATHS) for value in scalars]
        return sorted({label for label in every if label is not None}) or ["\0invalid"]
    first = scalars[0]
    label: str | None
    if name == "score":
        number = number_of(first)
        label = None if number is None else score_band(number)
    elif name in DATES or name == "ageBand":
        timestamp = second_of(first)
        band = age_band if name == "ageBand" else recency
        label = None if timestamp is None else band(timestamp, now)
    else:
        label = text_label(first, dates_as_months=False)
    return ["\0invalid" if label is None else label]


def counts(name: str, records: Iterable[dict[str, Any]], now: datetime) -> Counter[str]:
    """How many records are in each bucket."""
    return Counter(label for record in records for label in labels(name, record, now))


def numbers(name: str, records: Iterable[dict[str, Any]]) -> list[float]:
    """The numbers of a dimension in order: the first one of a score, each one once of a path."""
    found: list[float] = []
    for record in records:
        scalars = [v for v in candidates(record, PATHS.get(name, [name])) if not isinstance(v, list | dict)]
        if name in PATHS:
            found += [number for value in scalars[:1] if (number := number_of(value)) is not None]
        else:
            own = {text_label(v, dates_as_months=True): number_of(v) for v in scalars if is_numeral(v)}
            found += [number for number in own.values() if number is not None]
    return sorted(found)


def is_numeral(value: Any) -> bool:
    """Whether a value at a path is a number, or text that is shown as one."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d{1,6})?", trim(value), re.ASCII))
    return number_of(value) is not None


def quantile(ordered: list[float], percent: int) -> float:
    """By nearest rank."""
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]
