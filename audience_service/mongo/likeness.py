"""A record's values of a field, and what they count for, as expressions of the database.

What stands at a field's place is one value or a list of them. Dates, and text that spells one, are taken for the start
of their band, and so are numbers where they are in bands, which makes of every value one that can be looked up among
those that the model knows. What is looked at in each record is kept short: a test costs a third of a microsecond.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from audience_service.domain.insights.dimensions import Band
from audience_service.domain.lookalikes.fields import LikenessField
from audience_service.domain.lookalikes.tally import Weighed
from audience_service.domain.lookalikes.weights import EARLIEST
from audience_service.mongo.values import DATE_TEXT, Expression, is_number, plain_number, text_of

_VALUES = ["string", "int", "long", "double", "decimal", "bool", "date"]
_LARGEST = sys.float_info.max
_LONGEST = 100
_HELD_OUT = 5
_PRIME = 10_007
"""Hashes need not be even in their lowest bits; their remainders by a prime are."""


def held_out() -> Expression:
    """Whether a record is of the fifth that no model is made from: by the hash of its sk that hashed indexes have."""
    return {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, _HELD_OUT]}, 0]}


def drawn(part: float) -> Expression:
    """Whether a record is in a part of all that a hash of its sk draws, whether it is held out or not."""
    return {"$lt": [{"$abs": {"$mod": [{"$toHashedIndexKey": "$sk"}, _PRIME]}}, part * _PRIME]}


def grouped_by(field: LikenessField, moment: datetime) -> Expression:
    """What stands there, a date as the start of its band where the field holds dates, hardly two of which are the same.

    That is at the first of a field's paths that has a value or a list that is not empty, else at the last.
    """
    bands = field.bands(moment)
    return _at_first(field, lambda path: _in_band(path, bands, ()) if field.dated else path)


def _at_first(field: LikenessField, read: Callable[[str], Expression]) -> Expression:
    """What is read at the path that counts; a path stands in each test, where an expression would be evaluated anew."""
    *others, last = (f"${path}" for path in field.paths)
    found = read(last)
    for path in reversed(others):
        is_there = [{"$in": [{"$type": path}, [*_VALUES, "array"]]}, {"$not": [{"$in": [path, ["", []]]}]}]
        found = {"$cond": [{"$and": is_there}, read(path), found]}
    return found


def values_of(standing: str, field: LikenessField, moment: datetime, cuts: Sequence[float]) -> Expression:
    """The different values of what stands there, as a list: null for nothing, null or empty text."""
    listed = {"$cond": [{"$isArray": standing}, {"$cond": [{"$eq": [standing, []]}, [None], standing]}, [standing]]}
    one = {"$cond": [{"$in": [{"$ifNull": ["$$this", None]}, [None, ""]]}, None, _of_one_type("$$this")]}
    # Bands are found last, since they begin at numbers of that type: the decimal 9.99 is less than the double.
    each = {"$map": {"input": listed, "as": "this", "in": one}}
    banded = _in_band("$$each", field.bands(moment), cuts)
    return {"$setUnion": [{"$map": {"input": each, "as": "each", "in": banded}}, []]}


def is_factor(value: str) -> Expression:
    """Whether a value may be one of a model's: no longer text, no number that is none, nothing without a name."""
    short = {"$lte": [{"$strLenCP": value}, _LONGEST]}
    branches = [
        {"case": {"$eq": [{"$type": value}, "string"]}, "then": short},
        {"case": {"$isNumber": value}, "then": is_number(value)},
    ]
    default = {"$in": [{"$type": value}, ["null", "bool", "date"]]}
    return {"$switch": {"branches": branches, "default": default}}


def weight(weighed: Weighed) -> Expression:
    """The sum of what a record's different values of a field count for."""
    return _at_first(weighed.field, lambda path: _weight_at(path, weighed))


def _weight_at(path: str, weighed: Weighed) -> Expression:
    one = _weight_of(_as_counted(path, weighed), weighed)
    if not weighed.listed:
        return one
    nothing = next((weight for value, weight in weighed.weights if value is None), weighed.other)
    # Of two spellings of one factor one counts: positions are made different before they are summed up.
    places = {"$map": {"input": path, "as": "this", "in": _position("$$this", weighed)}}
    weights = {"$literal": [*(weight for _, weight in weighed.weights), weighed.other]}
    each = {"$map": {"input": {"$setUnion": [places, []]}, "as": "at", "in": {"$arrayElemAt": [weights, "$$at"]}}}
    several = {"$cond": [{"$eq": [path, []]}, {"$literal": nothing}, {"$sum": each}]}
    return {"$cond": [{"$isArray": path}, several, one]}


def _position(value: Expression, weighed: Weighed) -> Expression:
    """The position of a value among those that have weights; -1, which counts from the end, where it is none."""
    values = {"$literal": [value for value, _ in weighed.weights]}
    value = _as_counted(value, weighed)
    banded = _in_band(value, weighed.field.bands(weighed.moment), weighed.cuts)
    return {"$indexOfArray": [values, {"$cond": [{"$in": [value, [None, ""]]}, None, banded]}]}


def _as_counted(value: Expression, weighed: Weighed) -> Expression:
    """A number as it was counted: the double nearest to a decimal, where the model has fractions, which differ."""
    numbers = [*(known for known, _ in weighed.weights if isinstance(known, float)), *weighed.cuts]
    if all(number.is_integer() for number in numbers):
        return value
    double = {"$convert": {"input": value, "to": "double", "onError": value}}
    return {"$cond": [{"$eq": [{"$type": value}, "decimal"]}, double, value]}


def _weight_of(value: Expression, weighed: Weighed) -> Expression:
    """What one value counts for."""
    weights = dict[Any, int]((value, weight) for value, weight in weighed.weights if isinstance(value, datetime))
    plain = [(value, weight) for value, weight in weighed.weights if not isinstance(value, datetime)]
    plain += [("", weight) for value, weight in plain if value is None]
    values, counts = {"$literal": [v for v, _ in plain]}, {"$literal": [*(w for _, w in plain), weighed.other]}
    looked_up = {"$arrayElemAt": [counts, {"$indexOfArray": [values, {"$ifNull": [value, None]}]}]}
    if weighed.cuts:
        by_cut = {float(v): w for v, w in plain if isinstance(v, int | float) and not isinstance(v, bool)}
        looked_up = _of_number(value, weighed.cuts, [by_cut.get(cut, weighed.other) for cut in weighed.cuts], looked_up)
    if not weights:
        return looked_up
    bands = weighed.field.bands(weighed.moment)
    results = [weights.get(band.start or EARLIEST, weighed.other) for band in bands]
    return _of_date(value, bands, results, looked_up)


def _in_band(value: Expression, bands: Sequence[Band], cuts: Sequence[float]) -> Expression:
    """A value, or the start of the band that it is in."""
    found = _of_number(value, cuts, cuts, value) if cuts else value
    return _of_date(value, bands, [band.start or EARLIEST for band in bands], found)


def _of_number(value: Expression, cuts: Sequence[float], results: Sequence[Any], otherwise: Expression) -> Expression:
    """The result of the band that a number is in: whatever lies between two numbers in BSON's order is one."""
    literals = [{"$literal": result} for result in results]
    within = _searched(value, cuts[1:], literals)
    return {"$cond": [{"$and": [{"$gte": [value, -_LARGEST]}, {"$lte": [value, _LARGEST]}]}, within, otherwise]}


def _searched(value: Expression, starts: Sequence[Any], results: Sequence[Expression]) -> Expression:
    """The result after the last start that the value is not less than, found by halves: there is one more of them."""
    if not starts:
        return results[0]
    middle = len(starts) // 2
    above = _searched(value, starts[middle + 1 :], results[middle + 1 :])
    return {
        "$cond": [{"$gte": [value, starts[middle]]}, above, _searched(value, starts[:middle], results[: middle + 1])]
    }


def _of_date(value: Expression, bands: Sequence[Band], results: Sequence[Any], otherwise: Expression) -> Expression:
    """The result of the band that a date is in, or text that spells one."""
    literals = [{"$literal": result} for result in reversed(results)]
    starts = [band.start for band in reversed(bands)][1:]
    text = _searched(value, [text_of(start) for start in starts], literals)
    shaped = {"$cond": [{"$regexMatch": {"input": value, "regex": DATE_TEXT}}, text, otherwise]}
    # Most text begins with no digit, which is cheaper to see than what shape it has.
    digit = [{"$gte": [value, "0"]}, {"$lt": [value, ":"]}]
    branches = [
        {"case": {"$eq": [{"$type": value}, "date"]}, "then": _searched(value, starts, literals)},
        {"case": {"$and": digit}, "then": shaped},
    ]
    return {"$switch": {"branches": branches, "default": otherwise}}


def _of_one_type(value: str) -> Expression:
    """Numbers as doubles where they lose nothing by it: in a document 1 and 1.0 may not be taken for equal."""
    return {"$cond": [is_number(value), plain_number(value), value]}
