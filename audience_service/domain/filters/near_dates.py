"""Text that is almost a date: what people write where the filter language takes ISO 8601, and what to write instead.

    -30 days, $$NOW-30d, 30 days ago    {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
    yesterday, this month               {"$dateTrunc": ...}
    11/01/2026                          "2026-11-01" or "2026-01-11"
    2026-11-01 10:00, 20261101          "2026-11-01T10:00Z", "2026-11-01"
    2026-02-30                          a day that the calendar does not have
    $createdate                         an expression ($expr)

Compared as text, each of these would select everybody or nobody among the dates of the records. Whether such text is
meant as a date depends on the field, which `check_near_dates` knows from a sample.
"""

import json
import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from audience_service.domain.filters.dates import iso_text, read_instant
from audience_service.domain.filters.relative_dates import NOW

_UNITS = {
    "millisecond": ("ms", "millisecond"), "second": ("s", "sec", "second"), "minute": ("min", "minute"),
    "hour": ("h", "hr", "hour"), "day": ("d", "day"), "week": ("w", "wk", "week"), "month": ("m", "mo", "month"),
    "quarter": ("q", "quarter"), "year": ("y", "yr", "year"),
}  # fmt: skip
_UNIT_BY_NAME = {name + plural: unit for unit, names in _UNITS.items() for name in names for plural in ("", "s")}
_UNIT = "|".join(sorted(_UNIT_BY_NAME, key=len, reverse=True))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_SHIFT = re.compile(
    rf"(?:\$*now(?:\(\))?)?\s*(?P<sign>[-+])\s*(?P<amount>\d{{1,6}})\s*(?P<unit>{_UNIT})(?:\s+ago)?"
    rf"|(?P<amount_ago>\d{{1,6}})\s*(?P<unit_ago>{_UNIT})\s+(?P<ago>ago|from now)"
    rf"|(?P<last>last|past|previous|next)\s+(?P<amount_last>\d{{1,6}})\s*(?P<unit_last>{_UNIT})"
    rf"|(?:an?|one)\s+(?P<unit_one>{_UNIT})\s+(?P<one>ago|from now)"
    rf"|(?P<ahead>in\s+)?(?P<amount_bare>\d{{1,6}})\s*(?P<unit_bare>{_UNIT})"
    rf"|now\(\)\s*(?P<sign_sql>[-+])\s*interval\s+'?(?P<amount_sql>\d{{1,6}})\s*(?P<unit_sql>{_UNIT})'?"
    r"|(?P<minus>-?)P(?P<amount_iso>\d{1,6})(?P<unit_iso>[DWMY])",
    re.ASCII | re.IGNORECASE,
)
_DAY_WORDS = {"today": 0, "yesterday": -1, "tomorrow": 1}
_PERIOD = re.compile(r"(this|last|next|start of(?: this| the)?)\s+(day|week|month|quarter|year)", re.IGNORECASE)
_NOW = re.compile(r"\$*now(?:\(\))?|current[_ ]?(?:date|time|timestamp)(?:\(\))?", re.IGNORECASE)
_TIME = (
    r"(?:[T\s]+(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?|\d{2})\s*(?P<zone>Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?)?)?"
)
_YEAR_FIRST = re.compile(
    rf"(?P<year>\d{{4}})(?P<dash>[-/.])(?P<month>\d{{1,2}})(?P=dash)(?P<day>\d{{1,2}}){_TIME}", re.ASCII | re.IGNORECASE
)
_YEAR_LAST = re.compile(
    rf"(?P<first>\d{{1,2}})(?P<dash>[-/.])(?P<second>\d{{1,2}})(?P=dash)(?P<year>\d{{4}}){_TIME}|"
    r"(?P<first2>\d{1,2})/(?P<second2>\d{1,2})/(?P<year2>\d{2})",
    re.ASCII | re.IGNORECASE,
)
_MONTH_ALONE = re.compile(r"(\d{4})[-/](\d{1,2})", re.ASCII)
_WEEK = re.compile(r"(\d{4})-?W(\d{2})(?:-?(\d))?", re.ASCII | re.IGNORECASE)
_ORDINAL = re.compile(r"((?:19|20)\d\d)-([0-3]\d\d)", re.ASCII)
_YEAR = re.compile(r"(?:19|20)\d\d", re.ASCII)
_EPOCH = re.compile(r"1\d{9}(?:\d{3})?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?(Z?)", re.ASCII)
_DAY_WITH_ZONE = re.compile(r"(\d{4}-\d\d-\d\d)(Z|[+-]\d\d:?\d\d)", re.ASCII)
_CALL = re.compile(r"(?:new\s+)?(?:ISODate|Date|Timestamp)\((.*)\)", re.IGNORECASE)
_DIGITS = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)", re.ASCII)
_NAMED = re.compile(rf"\b({'|'.join(_MONTHS)})[a-z]*\b", re.IGNORECASE)
_FIELD = re.compile(r"\$[A-Za-z_][\w.]*")
_QUARTER = re.compile(r"(?P<year>\d{4})-?Q(?P<quarter>[1-4])|Q(?P<quarter2>[1-4])[ -]?(?P<year2>\d{4})", re.ASCII)
_ROUNDED = re.compile(r"(\$*now.*)/([smhdwMy])", re.ASCII)
"""Now, shifted and rounded down, as search engines write it: now-30d/d."""
_ROUNDINGS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "M": "month", "y": "year"}
_BARE = re.compile(rf"\d{{1,6}}\s*(?:{_UNIT})", re.ASCII | re.IGNORECASE)
_AMBIGUOUS = (_DIGITS, _MONTH_ALONE, _ORDINAL, _YEAR, _EPOCH, _QUARTER, _BARE)
"""Forms that numbers, months and versions have, too."""
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")
_MAY_BE_DATE = re.compile(r"\d[-/.年]\d|\d{8}|\d.*[A-Za-z]{3}|[A-Za-z]{3}.*\d", re.ASCII)
_MAX_LENGTH = 60


@lru_cache(maxsize=1_024)
def suggest(text: str) -> str:
    """What to write instead of a text that is almost a date; empty if the text is an ISO date, or no date at all."""
    if len(text) > _MAX_LENGTH or read_instant(text):
        return ""
    plain = " ".join(_INVISIBLE.sub("", text).split())
    if read_instant(plain):
        return json.dumps(plain)
    if call := _CALL.fullmatch(plain):
        inner = call[1].strip("\"' ")
        return json.dumps(inner) if read_instant(inner) else suggest(inner or "now")
    return _relative(plain) or _calendar(plain) or _numbered(plain) or _reference(plain)


def is_other_date(text: str) -> bool:
    """Whether a text spells a day in another form than ISO 8601: `11/20/2026`, `20 Nov 2026`, `20261120`."""
    if len(text) > _MAX_LENGTH or not _MAY_BE_DATE.search(text) or read_instant(text):
        return False
    found = _calendar(" ".join(_INVISIBLE.sub("", text).split()))
    return found.startswith('"')


def is_unmistakable(text: str) -> bool:
    """Whether text with a suggestion can hardly be anything but a date: `20261101` and `2026.10.1` may be."""
    plain = " ".join(_INVISIBLE.sub("", text).split())
    year_first = _YEAR_FIRST.fullmatch(plain)
    has_dots = year_first is not None and year_first["dash"] == "." and not year_first["time"]
    return not has_dots and not any(form.fullmatch(plain) for form in _AMBIGUOUS)


def _relative(text: str) -> str:
    lower = text.lower()
    if (rounded := _ROUNDED.fullmatch(text)) and (inner := _relative(rounded[1].strip())):
        return _json("$dateTrunc", date=json.loads(inner), unit=_ROUNDINGS[rounded[2]])
    if _NOW.fullmatch(text):
        return _json("$dateAdd", startDate=NOW, unit="day", amount=0)
    if lower in _DAY_WORDS:
        return _start_of("day", _DAY_WORDS[lower])
    if period := _PERIOD.fullmatch(text):
        return _start_of(period[2].lower(), {"last": -1, "next": 1}.get(period[1].lower(), 0))
    if not (shift := _SHIFT.fullmatch(text)):
        return ""
    groups = shift.groupdict()
    amount = next((groups[name] for name in groups if name.startswith("amount") and groups[name]), "1")
    unit = next(groups[name] for name in groups if name.startswith("unit") and groups[name])
    is_future = "+" in (groups["sign"], groups["sign_sql"]) or (groups["last"] or "").lower() == "next"
    is_future = is_future or groups["ahead"] is not None or "from now" in (groups["ago"], groups["one"])
    if groups["amount_iso"]:
        is_future = not groups["minus"]
    name = "$dateAdd" if is_future else "$dateSubtract"
    return _json(name, startDate=NOW, unit=_UNIT_BY_NAME[unit.lower()], amount=int(amount))


def _start_of(unit: str, shift: int) -> str:
    moved: Any = NOW
    if shift:
        moved = {"$dateAdd" if shift > 0 else "$dateSubtract": {"startDate": NOW, "unit": unit, "amount": abs(shift)}}
    return _json("$dateTrunc", date=moved, unit=unit)


def _numbered(text: str) -> str:
    """The date of a week, a day of the year, a year, or an epoch number."""
    try:
        if found := _WEEK.fullmatch(text):
            return json.dumps(date.fromisocalendar(int(found[1]), int(found[2]), int(found[3] or 1)).isoformat())
        if found := _ORDINAL.fullmatch(text):
            day = date(int(found[1]), 1, 1) + timedelta(days=int(found[2]) - 1)
            return json.dumps(day.isoformat()) if day.year == int(found[1]) else ""
    except ValueError:
        return ""
    if found := _QUARTER.fullmatch(text):
        return _day(found["year"] or found["year2"], str(3 * int(found["quarter"] or found["quarter2"]) - 2), "1")
    if _YEAR.fullmatch(text):
        return _day(text, "1", "1")
    if _EPOCH.fullmatch(text):
        return json.dumps(iso_text(datetime.fromtimestamp(int(text[:10]), UTC)))
    return ""


def _calendar(text: str) -> str:
    text = text.replace("年", "-").replace("月", "-").replace("日", "")
    if (found := _DAY_WITH_ZONE.fullmatch(text)) and read_instant(f"{found[1]}T00:00{found[2]}"):
        return json.dumps(f"{found[1]}T00:00{found[2]}")
    if found := _COMPACT.fullmatch(text):
        year, month, day, hour, minute, second, zone = found.groups()
        return _day(year, month, day, f"T{hour}:{minute}:{second or '00'}{zone}")
    if found := _YEAR_FIRST.fullmatch(text):
        return _day(found["year"], found["month"], found["day"], _time(found)) or _missing_day(text)
    if found := _YEAR_LAST.fullmatch(text):
        year = found["year"] or f"20{found['year2']}"
        first, second = found["first"] or found["first2"], found["second"] or found["second2"]
        time = _time(found)
        days = [_day(year, first, second, time), _day(year, second, first, time)]
        if found["dash"] in (".", "-"):
            days.reverse()  # customary where the day comes first
        return " or ".join(dict.fromkeys(filter(None, days))) or _missing_day(text)
    if found := _DIGITS.fullmatch(text):
        return _day(*found.groups())
    if (found := _MONTH_ALONE.fullmatch(text)) and 1 <= int(found[2]) <= 12:
        return _day(found[1], found[2], "1")
    if named := _NAMED.search(text):
        numbers = re.findall(r"(?<![\d:])\d{1,4}(?![\d:])", text)
        years = [number for number in numbers if len(number) == 4]
        days = [number for number in numbers if len(number) < 3]
        if years and not re.search(r"[^\w\s,.:+()-]", text):
            return _day(years[0], str(_MONTHS.index(named[1].lower()) + 1), (days or ["1"])[0])
    return ""


def _time(found: re.Match[str]) -> str:
    time, zone = found["time"], found["zone"]
    if not time:
        return ""
    hour, *rest = time.replace(",", ".").split(":")
    text = ":".join([hour.zfill(2), *(rest or ["00"])])
    if not zone or zone.upper() in ("Z", "UTC", "GMT"):
        return f"T{text}Z"
    offset = re.fullmatch(r"([+-])(\d{1,2}):?(\d\d)?", zone)
    return f"T{text}{offset[1]}{offset[2].zfill(2)}:{offset[3] or '00'}" if offset else f"T{text}Z"


def _day(year: str, month: str, day: str, time: str = "") -> str:
    """The date in ISO 8601, in quotes; empty if the calendar does not have it."""
    try:
        written = date(int(year), int(month), int(day)).isoformat() + time
    except ValueError:
        return ""
    return json.dumps(written) if read_instant(written) else ""


def _missing_day(text: str) -> str:
    return f"a day and time that exist, unlike {text}"


def _reference(text: str) -> str:
    return f'{{"$expr": {{"$gte": ["$field", "{text}"]}}}} to compare two fields' if _FIELD.fullmatch(text) else ""


def _json(name: str, **arguments: Any) -> str:
    return json.dumps({name: arguments})
