"""Random filters, each valid, over all operators; and random records for them to meet."""

import random
from datetime import UTC, datetime
from typing import Any

from bson import Int64, ObjectId
from hypothesis import strategies as st

_IDS = [ObjectId("65f000000000000000000001"), ObjectId("65f000000000000000000002")]
_DATES = [datetime(2026, 3, 25, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)]
PLAIN: list[Any] = [
    None, True, False, 0, 1, 2, 5, -1, -7, 5.0, 0.5, -7.5, 1e300, float("inf"), Int64(5), Int64(2**60), "", "a", "b",
    "A", "5", "é", "日本", "a b", "x\ny", *_DATES, *_IDS, b"", b"\x06",
]  # fmt: skip
ISO = [
    "2026-03-25",
    "2026-03-25T00:00:00.000Z",
    "2026-03-25T00:00:00Z",
    "2026-03-25T00:00:00",
    "2026-03-26T10:00:00+02:00",
]
PATHS = ["a", "b", "c", "a.b", "b.a", "a.0", "a.0.b", "a.b.c", "b.1", "data.a", "日本", "a b", "name", "version",
         "owner.a", "createdate", "pk"]  # fmt: skip
_INNER = ["a", "b", "c", "a.b", "b.0"]
_PATTERNS = ["", "a", "^a", "b$", "^$", ".", "[a-z]", "é", "^x.y", "(?!)", "5|日"]
_TYPES: list[str | int] = ["double", "string", "object", "array", "bool", "date", "null", "int", "long", "number", 7, 5]
_BITS = ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear")
_ORDERS = ("$gt", "$gte", "$lt", "$lte")

Strategy = st.SearchStrategy[dict[str, Any]]

plain = st.sampled_from(PLAIN)
scalars = plain | st.sampled_from(ISO)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)


def _operand(names: tuple[str, ...], operands: st.SearchStrategy[Any]) -> Strategy:
    return st.builds(lambda name, operand: {name: operand}, st.sampled_from(names), operands)


def _patterns() -> Strategy:
    options = st.sampled_from(["", "i", "m", "s", "im"])
    return st.builds(lambda p, o: {"$regex": p, "$options": o}, st.sampled_from(_PATTERNS), options)


def _conditions(scalar: st.SearchStrategy[Any], value: st.SearchStrategy[Any]) -> Strategy:
    """One operator on a field, or on an element itself."""
    divisors, bits = st.sampled_from([1, 2, 3, -4, 5]), st.lists(st.integers(0, 70), max_size=3)
    return st.one_of(
        _operand(("$eq", "$ne"), value),
        _operand(_ORDERS, scalar),
        _operand(("$in", "$nin"), st.lists(value, max_size=3)),
        _operand(("$type",), st.sampled_from(_TYPES) | st.lists(st.sampled_from(_TYPES), min_size=1, max_size=3)),
        _operand(("$size",), st.integers(0, 3)),
        _operand(("$mod",), st.tuples(divisors, st.integers(-2, 2)).map(list)),
        _operand(_BITS, st.integers(0, 15) | bits | st.sampled_from([b"\x06", b"\x01\x01"])),
        _patterns(),
    )


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Operators side by side."""
    return {name: operand for part in parts for name, operand in part.items()}


def _operators(inner: Strategy) -> Strategy:
    """The operator object of a field; `inner` are the filters that $elemMatch may contain."""
    elements = _conditions(plain, plain)
    matched = inner | st.lists(elements | _operand(("$not",), elements), min_size=1, max_size=2).map(_merged)
    simple = (
        _conditions(scalars, values)
        | _operand(("$exists",), st.booleans())
        | _operand(("$all",), st.lists(values, max_size=3))
        | _operand(("$elemMatch",), matched)
    )
    several = st.lists(simple, min_size=1, max_size=2).map(_merged)
    return several | _operand(("$not",), several) | _operand(("$not",), _operand(("$not",), simple))


def _queries(paths: list[str], inner: Strategy) -> Strategy:
    """Fields with their conditions."""
    on_field = values | _operators(inner)
    return st.dictionaries(st.sampled_from(paths), on_field, min_size=1, max_size=2)


def _logical(inner: Strategy) -> Strategy:
    return _operand(("$and", "$or", "$nor"), st.lists(inner, min_size=1, max_size=3))


_within: Strategy = st.deferred(lambda: _queries(_INNER, _within) | _logical(_within))
"""Filters inside $elemMatch."""

_leaves: Strategy = st.deferred(lambda: _queries(PATHS, _within) | _stated)
_stated: Strategy = st.deferred(
    lambda: _operand(("$or", "$nor"), st.tuples(st.just({"state": "archived"}), _leaves).map(list))
)

filters: Strategy = st.deferred(lambda: _leaves | _leaves | _logical(filters))
"""Filters of which none names `state` where it would lift the guard on records that are no longer in use."""


def record(rng: random.Random) -> dict[str, Any]:
    """A record's payload and some envelope fields, out of the values that filters compare with."""
    made: dict[str, Any] = {
        "data": {name: _value(rng, 3) for name in ("a", "b", "c", "日本", "a b") if rng.random() < 0.6}
    }
    if rng.random() < 0.5:
        made["state"] = rng.choice(["active", "archived", "deleted", None])
    for name in ("name", "version", "owner", "createdate"):
        if rng.random() < 0.3:
            made[name] = _value(rng, 2)
    return made


def _value(rng: random.Random, depth: int) -> Any:
    kind = rng.random()
    if depth and kind < 0.25:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and kind < 0.5:
        return {name: _value(rng, depth - 1) for name in "abc" if rng.random() < 0.6}
    return rng.choice(PLAIN if rng.random() < 0.8 else ISO)
