"""What a record's value of a dimension is, as expressions of the database.

A dimension is counted in two steps. Records are grouped by what stands at its paths, as it stands there (`raw_key`),
which is cheap; what it means is then found out once for each of these groups and not for each record (`to_cells`).
Dates alone hardly recur, so they are put into their bands at once.

Dates in text are of the shapes that domain/filters/dates.py reads in storage, and compared as text, which for these
shapes is their order in time to the second.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.filters.dates import DATE_TEXT_PATTERN
from audience_service.domain.insights.dimensions import Band, Dimension, DimensionKind

Expression = Any
Stages = list[dict[str, Any]]

VALUE, MISSING, INVALID, OTHER = range(4)
"""The kinds of cells, as `k`; the value is `v`: text, a number, or the number of a band."""

_TEXT_LENGTH = 100
_BLANKS = " \t\r\n\u00a0"
_EMPTY_VALUES: list[Any] = [None, "", [], {}]
_SCALAR_TYPES = ("string", "int", "long", "double", "decimal", "bool", "date")
_MAX_EXACT_INTEGER = 2**53
_MAX_DOUBLE = sys.float_info.max
DATE_TEXT = "^(?!0000)(?=.{5}(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))" + DATE_TEXT_PATTERN
"""The shapes of dates with a month and a day in them: some stores write 0000-00-00 for none."""
_FIRST_DATE, _LAST_DATE = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""What $dateToString can spell; it fails on all others, which are times in other units as a rule."""
_NO_DATE = "-1"
_NUMERAL = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?$"
_PLAIN_NUMERAL = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?$"


def raw_key(dimension: Dimension, as_of: datetime) -> Expression:
    """What records are grouped by first: what stands at each path, dates as the number of their band, in text."""
    paths = {f"p{number}": f"${path}" for number, path in enumerate(dimension.paths)}
    if dimension.kind is not DimensionKind.DATE:
        return paths
    bands = dimension.bands(as_of)
    first, *rest = paths
    band_texts = {name: _band_text(path, bands) for name, path in paths.items()}
    # What comes after a date does not count, and is not looked at.
    skipped = {name: _cond({"$eq": [{"$type": paths[first]}, "date"]}, None, band_texts[name]) for name in rest}
    return band_texts | skipped


def bucket_stages(dimension: Dimension, as_of: datetime) -> Stages:
    """From groups to their cells: `c` is {k, v}, or of dimensions of several values the list of these.

    Each step is a stage: an expression that is given a name by $let may be evaluated wherever the name stands.
    """
    found = [f"$_id.p{number}" for number in range(len(dimension.paths))]
    if dimension.kind is DimensionKind.DATE:
        # Text is a band's number already; in lists dates are still as stored.
        bands = dimension.bands(as_of)
        found = [_cond({"$isArray": path}, _map(path, _band_text("$$this", bands)), path) for path in found]
    lists = [_cond({"$isArray": path}, path, [path]) for path in found]
    candidates = {"$concatArrays": lists} if len(lists) > 1 else lists[0]
    usable = {"$filter": {"input": "$all", "as": "c", "cond": _is_usable("$$c")}}
    present = {"$anyElementTrue": [_map("$all", {"$not": [{"$in": ["$$this", _EMPTY_VALUES]}]})]}
    no_value: Expression = _cond(present, {"k": INVALID}, {"k": MISSING})
    trimmed: Stages = [
        {"$project": {"_id": 0, "n": 1, "all": _map(candidates, _cond(_is_text("$$this"), _trim("$$this"), "$$this"))}}
    ]
    if dimension.is_list:
        buckets = {"$setUnion": [_map("$some", _text_bucket("$$this", dimension.kind)), []]}
        values = {"$filter": {"input": "$some", "as": "c", "cond": {"$eq": ["$$c.k", VALUE]}}}
        # One with a value has one, whatever else stands beside it.
        return [
            *trimmed,
            {"$project": {"n": 1, "all": 1, "some": usable}},
            {"$project": {"n": 1, "all": 1, "some": buckets}},
            {"$project": {"n": 1, "all": 1, "some": values}},
            {"$project": {"n": 1, "c": _cond({"$eq": ["$some", []]}, [no_value], "$some")}},
        ]
    is_present = {"$ne": [{"$type": "$one"}, "missing"]}
    return [
        *trimmed,
        {"$project": {"n": 1, "all": 1, "one": {"$arrayElemAt": [usable, 0]}}},
        *(
            [{"$set": {"one": _cond(is_present, _number("$one"), "$one")}}]
            if dimension.kind is DimensionKind.NUMBER
            else []
        ),
        {"$project": {"n": 1, "c": _cond(is_present, _bucket("$one", dimension.kind), no_value)}},
    ]


def is_number(value: Expression) -> Expression:
    """Whether a value is a number that a double can hold, and neither infinite nor NaN (which is less than all)."""
    finite = [{"$gte": [value, -_MAX_DOUBLE]}, {"$lte": [value, _MAX_DOUBLE]}]
    return {"$and": [{"$isNumber": value}, *finite]}


def band_number(value: str, bands: Sequence[Band]) -> Expression:
    """The number of the band that a value is in."""
    return _switch(value, [band.start for band in bands], list(range(len(bands))))


def _band_text(value: str, bands: Sequence[Band]) -> Expression:
    """The number of a date's band as text, "-1" where text is no date, null for blank text, all else as stored."""
    starts = [band.start for band in bands]
    results = [_NO_DATE if band.label is None else str(number) for number, band in enumerate(bands)]
    shaped = {"$regexMatch": {"input": value, "regex": DATE_TEXT}}
    text = _cond(shaped, _switch(value, [date_text(start) for start in starts], results), _blank_or_no_date(value))
    branches = [
        {"case": {"$eq": [{"$type": value}, "date"]}, "then": _switch(value, starts, results)},
        {"case": {"$eq": [{"$type": value}, "string"]}, "then": text},
    ]
    return {"$switch": {"branches": branches, "default": value}}


def date_text(start: datetime | None) -> str | None:
    """What text that spells the moment, or a later one, is not less than: shorter than all of its spellings."""
    if start is None:
        return None
    return start.strftime("%Y-%m-%d" if (start.hour, start.minute, start.second) == (0, 0, 0) else "%Y-%m-%dT%H:%M:%S")


def _blank_or_no_date(value: str) -> Expression:
    return _cond({"$eq": [_trim(value), ""]}, None, _NO_DATE)


def _bucket(value: str, kind: DimensionKind) -> Expression:
    """The cell of one value, which is neither empty nor a list or object."""
    match kind:
        case DimensionKind.DATE:
            is_band = {"$and": [_is_text(value), {"$ne": [value, _NO_DATE]}]}
            return _cond(is_band, _value({"$toInt": value}), {"k": INVALID})
        case DimensionKind.NUMBER:
            return _cond({"$eq": [value, None]}, {"k": INVALID}, _value(value))
    return _text_bucket(value, kind)


def _text_bucket(value: str, kind: DimensionKind) -> Expression:
    """The cell of a value that is a bucket of its own; a numeral in text is the number that it spells."""
    is_numeral = {"$regexMatch": {"input": value, "regex": _PLAIN_NUMERAL}}
    text = _cond(is_numeral, _unsigned_zero({"$toDouble": value}), {"$substrCP": [value, 0, _TEXT_LENGTH]})
    if kind is DimensionKind.ANY:
        is_date = {"$regexMatch": {"input": value, "regex": DATE_TEXT}}
        text = _cond(is_date, {"$substrBytes": [value, 0, 7]}, text)
    branches = [
        {"case": _is_text(value), "then": _value(text)},
        {"case": is_number(value), "then": _value(plain_number(value))},
        {"case": {"$eq": [{"$type": value}, "bool"]}, "then": _value(_cond(value, "true", "false"))},
        {"case": _has_month(value), "then": _value(_month(value))},
    ]
    return {"$switch": {"branches": branches, "default": {"k": INVALID}}}


def _month(value: str) -> Expression:
    return {"$dateToString": {"date": value, "format": "%Y-%m"}}


def _has_month(value: str) -> Expression:
    return _cond(
        {"$eq": [{"$type": value}, "date"]},
        {"$and": [{"$gte": [value, _FIRST_DATE]}, {"$lte": [value, _LAST_DATE]}]},
        False,
    )


def _switch(value: str, starts: Sequence[Any], results: Sequence[Any]) -> Expression:
    above = zip(starts[:-1], results[:-1], strict=True)
    branches = [{"case": {"$gte": [value, start]}, "then": result} for start, result in above]
    return {"$switch": {"branches": branches, "default": results[-1]}}


def _number(value: str) -> Expression:
    """A number, or text that spells one, as a number; else null."""
    spelt = {"$convert": {"input": value, "to": "double", "onError": None}}
    read = _cond({"$regexMatch": {"input": value, "regex": _NUMERAL}}, spelt, None)
    # Guarded by $cond: all of $and may be evaluated, whatever comes first.
    return _cond(is_number(value), plain_number(value), _cond(_is_text(value), _unsigned_zero(read), None))


def plain_number(number: str) -> Expression:
    """A number of one type, unless it would lose digits: inside a document 1 and 1.0 may not be taken for equal."""
    exact = {"$and": [{"$gte": [number, -_MAX_EXACT_INTEGER]}, {"$lte": [number, _MAX_EXACT_INTEGER]}]}
    # A decimal may be too small for a double.
    return _cond(exact, _unsigned_zero({"$convert": {"input": number, "to": "double", "onError": 0.0}}), number)


def _unsigned_zero(number: Expression) -> Expression:
    """A double of which 0 and -0, which are equal and not the same, are one."""
    return {"$add": [number, 0.0]}


def _is_usable(value: str) -> Expression:
    return {"$and": [{"$in": [{"$type": value}, list(_SCALAR_TYPES)]}, {"$ne": [value, ""]}]}


def _is_text(value: str) -> Expression:
    return {"$eq": [{"$type": value}, "string"]}


def _trim(value: str) -> Expression:
    """Text without blanks around it."""
    return {"$trim": {"input": value, "chars": _BLANKS}}


def _value(value: Expression) -> Expression:
    return {"k": VALUE, "v": value}


def _map(values: Expression, to: Expression) -> Expression:
    return {"$map": {"input": values, "as": "this", "in": to}}


def _cond(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}
