"""Expressions that map a record's stored values to the buckets of a dimension.

A dimension is counted in two steps. First, records are grouped by their stored values (`raw_key`), which is cheap.
Then each group, instead of each record, is mapped to its bucket (`bucket_stages`). Dates rarely repeat, so the first
step already maps them to their bands.

Dates in text have the formats that domain/filters/dates.py accepts in storage. They are compared as text, which for
these formats equals their order in time, to the second.
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
"""The kinds of buckets, as `k`. The value `v` is text, a number, or the number of a band."""

_TEXT_LENGTH = 100
_BLANKS = " \t\r\n\u00a0"
_EMPTY_VALUES: list[Any] = [None, "", [], {}]
_SCALAR_TYPES = ("string", "int", "long", "double", "decimal", "bool", "date")
_MAX_EXACT_INTEGER = 2**53
_MAX_DOUBLE = sys.float_info.max
DATE_TEXT = "^(?!0000)(?=.{5}(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))" + DATE_TEXT_PATTERN
"""The formats of dates with a valid month and day: some stores write 0000-00-00 for no date."""
_FIRST_DATE, _LAST_DATE = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The range of $dateToString. It fails on other dates, which are usually times in the wrong unit."""
_NO_DATE = "-1"
_NUMERAL = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?$"
_PLAIN_NUMERAL = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?$"


def raw_key(dimension: Dimension, as_of: datetime) -> Expression:
    """Return the key of the first grouping: the value at each path, and for dates the number of the band as text."""
    paths = {f"p{number}": f"${path}" for number, path in enumerate(dimension.paths)}
    if dimension.kind is not DimensionKind.DATE:
        return paths
    bands = dimension.bands(as_of)
    first, *rest = paths
    band_texts = {name: _band_text(path, bands) for name, path in paths.items()}
    # After a date at the first path, further paths do not count, and are not read.
    skipped = {name: _cond({"$eq": [{"$type": paths[first]}, "date"]}, None, band_texts[name]) for name in rest}
    return band_texts | skipped


def bucket_stages(dimension: Dimension, as_of: datetime) -> Stages:
    """Return the stages from groups to buckets: `c` is {k, v}, or a list of these for multi-valued dimensions.

    Each step is a stage, because the database may evaluate an expression bound by $let at every use of its name.
    """
    found = [f"$_id.p{number}" for number in range(len(dimension.paths))]
    if dimension.kind is DimensionKind.DATE:
        # Outside lists, text is already the number of a band. In lists, dates are as stored.
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
        # A record with a usable value counts only by its usable values.
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
    """Return whether a value is a finite number within the range of a double. NaN sorts before all numbers."""
    finite = [{"$gte": [value, -_MAX_DOUBLE]}, {"$lte": [value, _MAX_DOUBLE]}]
    return {"$and": [{"$isNumber": value}, *finite]}


def band_number(value: str, bands: Sequence[Band]) -> Expression:
    """Return the number of the band that contains a value."""
    return _switch(value, [band.start for band in bands], list(range(len(bands))))


def _band_text(value: str, bands: Sequence[Band]) -> Expression:
    """Return a date's band number as text; "-1" for text without a date, null for blank text, else the value."""
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
    """Return the lower bound, as text, of all texts of this time or a later one: the shortest such prefix."""
    if start is None:
        return None
    return start.strftime("%Y-%m-%d" if (start.hour, start.minute, start.second) == (0, 0, 0) else "%Y-%m-%dT%H:%M:%S")


def _blank_or_no_date(value: str) -> Expression:
    return _cond({"$eq": [_trim(value), ""]}, None, _NO_DATE)


def _bucket(value: str, kind: DimensionKind) -> Expression:
    """Return the bucket of a value that is neither empty nor a list or object."""
    match kind:
        case DimensionKind.DATE:
            is_band = {"$and": [_is_text(value), {"$ne": [value, _NO_DATE]}]}
            return _cond(is_band, _value({"$toInt": value}), {"k": INVALID})
        case DimensionKind.NUMBER:
            return _cond({"$eq": [value, None]}, {"k": INVALID}, _value(value))
    return _text_bucket(value, kind)


def _text_bucket(value: str, kind: DimensionKind) -> Expression:
    """Return the bucket of a value that forms its own bucket. A numeral in text counts as its number."""
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
    """Return the number of a number or of a numeral in text, else null."""
    spelt = {"$convert": {"input": value, "to": "double", "onError": None}}
    read = _cond({"$regexMatch": {"input": value, "regex": _NUMERAL}}, spelt, None)
    # Guarded by $cond, because $and may evaluate all of its operands.
    return _cond(is_number(value), plain_number(value), _cond(_is_text(value), _unsigned_zero(read), None))


def plain_number(number: Expression) -> Expression:
    """Return a number as a double unless it would lose digits. Inside documents, 1 and 1.0 may differ."""
    exact = {"$and": [{"$gte": [number, -_MAX_EXACT_INTEGER]}, {"$lte": [number, _MAX_EXACT_INTEGER]}]}
    # A decimal may underflow a double.
    return _cond(exact, _unsigned_zero({"$convert": {"input": number, "to": "double", "onError": 0.0}}), number)


def _unsigned_zero(number: Expression) -> Expression:
    """Return a double with -0 replaced by 0: they are equal, but group separately."""
    return {"$add": [number, 0.0]}


def _is_usable(value: str) -> Expression:
    return {"$and": [{"$in": [{"$type": value}, list(_SCALAR_TYPES)]}, {"$ne": [value, ""]}]}


def _is_text(value: str) -> Expression:
    return {"$eq": [{"$type": value}, "string"]}


def _trim(value: str) -> Expression:
    """Return text without surrounding blanks."""
    return {"$trim": {"input": value, "chars": _BLANKS}}


def _value(value: Expression) -> Expression:
    return {"k": VALUE, "v": value}


def _map(values: Expression, to: Expression) -> Expression:
    return {"$map": {"input": values, "as": "this", "in": to}}


def _cond(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}
