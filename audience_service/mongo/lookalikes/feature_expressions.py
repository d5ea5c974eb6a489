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
from audience_service.domain.lookalikes.counts import ScoredFeature
from audience_service.domain.lookalikes.features import Feature
from audience_service.domain.lookalikes.weights import EARLIEST
from audience_service.mongo.insights.value_expressions import DATE_TEXT, Expression, date_text, is_number, plain_number

_VALUE_TYPES = ["string", "int", "long", "double", "decimal", "bool", "date"]
_MAX_DOUBLE = sys.float_info.max
_MAX_TEXT_LENGTH = 100
_HOLDOUT_MODULUS = 5
_HASH_MODULUS = 10_007
"""Hashes need not be even in their lowest bits; their remainders by a prime are."""


def is_holdout() -> Expression:
    """Whether a record is of the fifth that no model is made from: by the hash of its sk that hashed indexes have."""
    return {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, _HOLDOUT_MODULUS]}, 0]}


def is_sampled(share: float) -> Expression:
    """Whether a record is in a part of all that a hash of its sk draws, whether it is held out or not."""
    return {"$lt": [{"$abs": {"$mod": [{"$toHashedIndexKey": "$sk"}, _HASH_MODULUS]}}, share * _HASH_MODULUS]}


def group_key(feature: Feature, as_of: datetime) -> Expression:
    """What stands there, a date as the start of its band where the field holds dates, hardly two of which are the same.

    That is at the first of a field's paths that has a value or a list that is not empty, else at the last.
    """
    bins = feature.bins(as_of)
    return _at_first_present(feature, lambda path: _bin_start(path, bins, ()) if feature.is_date else path)


def _at_first_present(feature: Feature, read: Callable[[str], Expression]) -> Expression:
    """What is read at the path that counts; a path stands in each test, where an expression would be evaluated anew."""
    *others, last = (f"${path}" for path in feature.paths)
    found = read(last)
    for path in reversed(others):
        is_present = [{"$in": [{"$type": path}, [*_VALUE_TYPES, "array"]]}, {"$not": [{"$in": [path, ["", []]]}]}]
        found = {"$cond": [{"$and": is_present}, read(path), found]}
    return found


def feature_values(stored: str, feature: Feature, as_of: datetime, cuts: Sequence[float]) -> Expression:
    """The different values of what stands there, as a list: null for nothing, null or empty text."""
    listed = {"$cond": [{"$isArray": stored}, {"$cond": [{"$eq": [stored, []]}, [None], stored]}, [stored]]}
    one = {"$cond": [{"$in": [{"$ifNull": ["$$this", None]}, [None, ""]]}, None, _unify_number_type("$$this")]}
    # Bands are found last, since they begin at numbers of that type: the decimal 9.99 is less than the double.
    each = {"$map": {"input": listed, "as": "this", "in": one}}
    binned = _bin_start("$$each", feature.bins(as_of), cuts)
    return {"$setUnion": [{"$map": {"input": each, "as": "each", "in": binned}}, []]}


def is_factor(value: str) -> Expression:
    """Whether a value may be one of a model's: no longer text, no number that is none, nothing without a name."""
    short = {"$lte": [{"$strLenCP": value}, _MAX_TEXT_LENGTH]}
    branches = [
        {"case": {"$eq": [{"$type": value}, "string"]}, "then": short},
        {"case": {"$isNumber": value}, "then": is_number(value)},
    ]
    default = {"$in": [{"$type": value}, ["null", "bool", "date"]]}
    return {"$switch": {"branches": branches, "default": default}}


def feature_weight(scored: ScoredFeature) -> Expression:
    """The sum of what a record's different values of a field count for."""
    return _at_first_present(scored.feature, lambda path: _weight_at_path(path, scored))


def _weight_at_path(path: str, scored: ScoredFeature) -> Expression:
    one = _weight_of_value(_normalise_number(path, scored), scored)
    if not scored.has_lists:
        return one
    missing_weight = next((weight for value, weight in scored.weights if value is None), scored.other_weight)
    # Of two spellings of one factor one counts: positions are made different before they are summed up.
    positions = {"$map": {"input": path, "as": "this", "in": _position("$$this", scored)}}
    weights = {"$literal": [*(weight for _, weight in scored.weights), scored.other_weight]}
    each = {"$map": {"input": {"$setUnion": [positions, []]}, "as": "at", "in": {"$arrayElemAt": [weights, "$$at"]}}}
    list_weight = {"$cond": [{"$eq": [path, []]}, {"$literal": missing_weight}, {"$sum": each}]}
    return {"$cond": [{"$isArray": path}, list_weight, one]}


def _position(value: Expression, scored: ScoredFeature) -> Expression:
    """The position of a value among those that have weights; -1, which counts from the end, where it is none."""
    values = {"$literal": [value for value, _ in scored.weights]}
    value = _normalise_number(value, scored)
    binned = _bin_start(value, scored.feature.bins(scored.as_of), scored.bin_edges)
    return {"$indexOfArray": [values, {"$cond": [{"$in": [value, [None, ""]]}, None, binned]}]}


def _normalise_number(value: Expression, scored: ScoredFeature) -> Expression:
    """A number as it was counted: the double nearest to a decimal, where the model has fractions, which differ."""
    numbers = [*(known for known, _ in scored.weights if isinstance(known, float)), *scored.bin_edges]
    if all(number.is_integer() for number in numbers):
        return value
    double = {"$convert": {"input": value, "to": "double", "onError": value}}
    return {"$cond": [{"$eq": [{"$type": value}, "decimal"]}, double, value]}


def _weight_of_value(value: Expression, scored: ScoredFeature) -> Expression:
    """What one value counts for."""
    weights = dict[Any, int]((value, weight) for value, weight in scored.weights if isinstance(value, datetime))
    plain = [(value, weight) for value, weight in scored.weights if not isinstance(value, datetime)]
    plain += [("", weight) for value, weight in plain if value is None]
    values, counts = {"$literal": [v for v, _ in plain]}, {"$literal": [*(w for _, w in plain), scored.other_weight]}
    lookup = {"$arrayElemAt": [counts, {"$indexOfArray": [values, {"$ifNull": [value, None]}]}]}
    if scored.bin_edges:
        by_cut = {float(v): w for v, w in plain if isinstance(v, int | float) and not isinstance(v, bool)}
        lookup = _by_number(
            value, scored.bin_edges, [by_cut.get(cut, scored.other_weight) for cut in scored.bin_edges], lookup
        )
    if not weights:
        return lookup
    bins = scored.feature.bins(scored.as_of)
    results = [weights.get(band.start or EARLIEST, scored.other_weight) for band in bins]
    return _by_date(value, bins, results, lookup)


def _bin_start(value: Expression, bins: Sequence[Band], cuts: Sequence[float]) -> Expression:
    """A value, or the start of the band that it is in."""
    found = _by_number(value, cuts, cuts, value) if cuts else value
    return _by_date(value, bins, [band.start or EARLIEST for band in bins], found)


def _by_number(value: Expression, cuts: Sequence[float], results: Sequence[Any], otherwise: Expression) -> Expression:
    """The result of the band that a number is in: whatever lies between two numbers in BSON's order is one."""
    literals = [{"$literal": result} for result in results]
    bin_result = _binary_search(value, cuts[1:], literals)
    return {
        "$cond": [{"$and": [{"$gte": [value, -_MAX_DOUBLE]}, {"$lte": [value, _MAX_DOUBLE]}]}, bin_result, otherwise]
    }


def _binary_search(value: Expression, starts: Sequence[Any], results: Sequence[Expression]) -> Expression:
    """The result after the last start that the value is not less than, found by halves: there is one more of them."""
    if not starts:
        return results[0]
    middle = len(starts) // 2
    above = _binary_search(value, starts[middle + 1 :], results[middle + 1 :])
    return {
        "$cond": [
            {"$gte": [value, starts[middle]]},
            above,
            _binary_search(value, starts[:middle], results[: middle + 1]),
        ]
    }


def _by_date(value: Expression, bins: Sequence[Band], results: Sequence[Any], otherwise: Expression) -> Expression:
    """The result of the band that a date is in, or text that spells one."""
    literals = [{"$literal": result} for result in reversed(results)]
    starts = [band.start for band in reversed(bins)][1:]
    text = _binary_search(value, [date_text(start) for start in starts], literals)
    shaped = {"$cond": [{"$regexMatch": {"input": value, "regex": DATE_TEXT}}, text, otherwise]}
    # Most text begins with no digit, which is cheaper to see than what shape it has.
    digit = [{"$gte": [value, "0"]}, {"$lt": [value, ":"]}]
    branches = [
        {"case": {"$eq": [{"$type": value}, "date"]}, "then": _binary_search(value, starts, literals)},
        {"case": {"$and": digit}, "then": shaped},
    ]
    return {"$switch": {"branches": branches, "default": otherwise}}


def _unify_number_type(value: str) -> Expression:
    """Numbers as doubles where they lose nothing by it: in a document 1 and 1.0 may not be taken for equal."""
    return {"$cond": [is_number(value), plain_number(value), value]}
