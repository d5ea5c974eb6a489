"""Expressions for a record's values of a feature, and for their weights.

Worked example. Training finds these weights, in thousandths:

    plan    "pro": 700, "free": -200, missing: -50, any other value: -10
    age     bins from 0: -300, from 30: 120, from 50: 400; missing: -20, any other value: 0

Counting groups records by `group_key`, `$data.plan` here, and maps each group to values by `feature_values`:

    "pro" -> ["pro"]    ["pro", "pro", ""] -> ["pro", null]    42 (age) -> [30.0]

Scoring evaluates `feature_weight` once per record. For `plan` it searches the known values; -1, for an unknown value,
selects the last weight:

    {$arrayElemAt: [[700, -200, -50, -50, -10], {$indexOfArray: [["pro", "free", null, ""], "$data.plan"]}]}

For `age`, a number takes a binary search over the bins, and other values take the search above:

    {$cond: [{$gte: ["$data.age", 50]}, 400, {$cond: [{$gte: ["$data.age", 30]}, 120, -300]}]}

    {plan: "pro", age: 42} scores 700 + 120 = 820

Invariants:

1. A value is single or a list. A list counts each different value once.
2. Dates, and text with a date, become the start of their bin. Numbers do too if the feature has number bins.
3. Counting and scoring map a stored value to the same known value.
4. Per-record expressions are minimal: each test costs a third of a microsecond.
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
"""A prime: the lowest bits of hashes may be unevenly distributed, their remainders by a prime are even."""


def is_holdout() -> Expression:
    """Return whether a record belongs to the holdout, a fifth of all, by the hash of its sk (as in hashed indexes)."""
    return {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, _HOLDOUT_MODULUS]}, 0]}


def is_sampled(share: float) -> Expression:
    """Return whether a record is in a sample of this share, by the hash of its sk. It is independent of the holdout."""
    return {"$lt": [{"$abs": {"$mod": [{"$toHashedIndexKey": "$sk"}, _HASH_MODULUS]}}, share * _HASH_MODULUS]}


def group_key(feature: Feature, as_of: datetime) -> Expression:
    """Return the grouping key of a feature: its stored value or, for date features, the start of the date's bin.

    Dates rarely repeat, so stored dates would form too many groups. The value comes from the first path with a
    non-empty value or list, else from the last path.
    """
    bins = feature.bins(as_of)
    return _at_first_present(feature, lambda path: _bin_start(path, bins, ()) if feature.is_date else path)


def _at_first_present(feature: Feature, read: Callable[[str], Expression]) -> Expression:
    """Return `read` of the first non-empty path. Tests use plain paths, since each use of an expression costs time."""
    *others, last = (f"${path}" for path in feature.paths)
    found = read(last)
    for path in reversed(others):
        is_present = [{"$in": [{"$type": path}, [*_VALUE_TYPES, "array"]]}, {"$not": [{"$in": [path, ["", []]]}]}]
        found = {"$cond": [{"$and": is_present}, read(path), found]}
    return found


def feature_values(stored: str, feature: Feature, as_of: datetime, edges: Sequence[float]) -> Expression:
    """Return the distinct values of a stored value as a list. Missing values, null and empty text become null."""
    listed = {"$cond": [{"$isArray": stored}, {"$cond": [{"$eq": [stored, []]}, [None], stored]}, [stored]]}
    one = {"$cond": [{"$in": [{"$ifNull": ["$$this", None]}, [None, ""]]}, None, _unify_number_type("$$this")]}
    # Bins come last, after the conversion to doubles: the decimal 9.99 is less than the double 9.99.
    each = {"$map": {"input": listed, "as": "this", "in": one}}
    binned = _bin_start("$$each", feature.bins(as_of), edges)
    return {"$setUnion": [{"$map": {"input": each, "as": "each", "in": binned}}, []]}


def is_factor(value: str) -> Expression:
    """Return whether a model may use the value: text of up to 100 characters, a finite number, null, bool or date."""
    short = {"$lte": [{"$strLenCP": value}, _MAX_TEXT_LENGTH]}
    branches = [
        {"case": {"$eq": [{"$type": value}, "string"]}, "then": short},
        {"case": {"$isNumber": value}, "then": is_number(value)},
    ]
    default = {"$in": [{"$type": value}, ["null", "bool", "date"]]}
    return {"$switch": {"branches": branches, "default": default}}


def feature_weight(scored: ScoredFeature) -> Expression:
    """Return the sum of the weights of a record's distinct values."""
    return _at_first_present(scored.feature, lambda path: _weight_at_path(path, scored))


def _weight_at_path(path: str, scored: ScoredFeature) -> Expression:
    one = _weight_of_value(_normalise_number(path, scored), scored)
    if not scored.has_lists:
        return one
    missing_weight = next((weight for value, weight in scored.weights if value is None), scored.other_weight)
    # Two stored forms of one value count once: positions are deduplicated before the sum.
    positions = {"$map": {"input": path, "as": "this", "in": _position("$$this", scored)}}
    weights = {"$literal": [*(weight for _, weight in scored.weights), scored.other_weight]}
    each = {"$map": {"input": {"$setUnion": [positions, []]}, "as": "at", "in": {"$arrayElemAt": [weights, "$$at"]}}}
    list_weight = {"$cond": [{"$eq": [path, []]}, {"$literal": missing_weight}, {"$sum": each}]}
    return {"$cond": [{"$isArray": path}, list_weight, one]}


def _position(value: Expression, scored: ScoredFeature) -> Expression:
    """Return the position of a value among the known ones; -1, which counts from the end, if it is unknown."""
    values = {"$literal": [value for value, _ in scored.weights]}
    value = _normalise_number(value, scored)
    binned = _bin_start(value, scored.feature.bins(scored.as_of), scored.bin_edges)
    return {"$indexOfArray": [values, {"$cond": [{"$in": [value, [None, ""]]}, None, binned]}]}


def _normalise_number(value: Expression, scored: ScoredFeature) -> Expression:
    """Return a number as in counting: a decimal as its nearest double, if the model has numbers."""
    if not scored.bin_edges and not any(isinstance(known, float) for known, _ in scored.weights):
        return value
    return {"$cond": [{"$eq": [{"$type": value}, "decimal"]}, plain_number(value), value]}


def _weight_of_value(value: Expression, scored: ScoredFeature) -> Expression:
    """Return the weight of one value."""
    weights = dict[Any, int]((value, weight) for value, weight in scored.weights if isinstance(value, datetime))
    plain = [(value, weight) for value, weight in scored.weights if not isinstance(value, datetime)]
    plain += [("", weight) for value, weight in plain if value is None]
    values, counts = {"$literal": [v for v, _ in plain]}, {"$literal": [*(w for _, w in plain), scored.other_weight]}
    lookup = {"$arrayElemAt": [counts, {"$indexOfArray": [values, {"$ifNull": [value, None]}]}]}
    if scored.bin_edges:
        by_edge = {float(v): w for v, w in plain if isinstance(v, int | float) and not isinstance(v, bool)}
        lookup = _by_number(
            value, scored.bin_edges, [by_edge.get(edge, scored.other_weight) for edge in scored.bin_edges], lookup
        )
    if not weights:
        return lookup
    bins = scored.feature.bins(scored.as_of)
    results = [weights.get(band.start or EARLIEST, scored.other_weight) for band in bins]
    return _by_date(value, bins, results, lookup)


def _bin_start(value: Expression, bins: Sequence[Band], edges: Sequence[float]) -> Expression:
    """Return the start of the value's bin, or the value itself if it has none."""
    found = _by_number(value, edges, edges, value) if edges else value
    return _by_date(value, bins, [band.start or EARLIEST for band in bins], found)


def _by_number(value: Expression, edges: Sequence[float], results: Sequence[Any], otherwise: Expression) -> Expression:
    """Return the result of the bin that contains a number. In BSON's order, only numbers lie between two numbers."""
    literals = [{"$literal": result} for result in results]
    bin_result = _binary_search(value, edges[1:], literals)
    return {
        "$cond": [{"$and": [{"$gte": [value, -_MAX_DOUBLE]}, {"$lte": [value, _MAX_DOUBLE]}]}, bin_result, otherwise]
    }


def _binary_search(value: Expression, starts: Sequence[Any], results: Sequence[Expression]) -> Expression:
    """Return the result of the last start that is at most the value. There is one more result than starts."""
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
    """Return the result of the bin that contains a date, or a date in text."""
    literals = [{"$literal": result} for result in reversed(results)]
    starts = [band.start for band in reversed(bins)][1:]
    text = _binary_search(value, [date_text(start) for start in starts], literals)
    shaped = {"$cond": [{"$regexMatch": {"input": value, "regex": DATE_TEXT}}, text, otherwise]}
    # Most text begins with a non-digit, which is cheaper to test than the format.
    digit = [{"$gte": [value, "0"]}, {"$lt": [value, ":"]}]
    branches = [
        {"case": {"$eq": [{"$type": value}, "date"]}, "then": _binary_search(value, starts, literals)},
        {"case": {"$and": digit}, "then": shaped},
    ]
    return {"$switch": {"branches": branches, "default": otherwise}}


def _unify_number_type(value: str) -> Expression:
    """Return a number as a double unless it would lose digits. Inside documents, 1 and 1.0 may differ."""
    return {"$cond": [is_number(value), plain_number(value), value]}
