"""The guards of $tryExpr: an expression that fails on a record is false there.

MongoDB cannot catch an error. So the compiled expression first tests whatever its operators need:

    {"$gt": [{"$divide": ["$a", "$b"]}, 1]}

    $switch  a is neither a number nor null      false
             b is neither a number nor null      false
             b is 0, and a is not null           false
             default                             {"$gt": [{"$divide": ["$a", "$b"]}, 1]}

1. A requirement is an expression that never fails, if the requirements before it hold.
2. The requirements of an operand come before those of its operator, so each operand is evaluated only if it can be.
3. A branch that is not evaluated ($cond, $switch, $and, $or) has no requirements, as in MongoDB.
4. A requirement may exclude more than MongoDB refuses, never less: dates outside the years 1 to 9999, steps of more
   than 10,000 years, and operands that fail next to one that is null. All operands of $ifNull must be valid, since some
   engines evaluate all of them.

To add an operator, write its row in _RULES: a function from its operands to its own requirements. An operator without a
row fails on no value. Source of the failures: MongoDB manual, aggregation operators, and its server's sources.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bson import Int64

from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.relative_dates import TIMEZONES

_NULL = ("missing", "null", "undefined")
_NUMBER = ("int", "long", "double", "decimal")
_TEXT = (*_NULL, "string")
_PRINTABLE = (*_TEXT, *_NUMBER, "date", "timestamp", "symbol", "javascript")
_DATE = (*_NULL, "date", "timestamp", "objectId")
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
_MAX_STEP, _MAX_ROUNDED = 10**15, 4 * 10**18
"""The greatest number that is added to a date, in milliseconds, and that is rounded to the left of the point."""
_MAX_AMOUNTS = {
    "year": 10_000, "quarter": 40_000, "month": 120_000, "week": 520_000, "day": 3_650_000, "hour": 87_600_000,
    "minute": 5_256_000_000, "second": 315_360_000_000, "millisecond": 315_360_000_000_000,
}  # fmt: skip
_OFFSET = r"^[+-](0[0-9]|1[0-9]|2[0-3])(:?[0-5][0-9])?$"
_FAILED: Document = {"$literal": []}
"""What a conversion gives if it fails: no conversion gives a list."""

Rule = Callable[[Sequence[Any]], Iterator[Any]]


class UnguardedArgument(ValueError):
    """An argument that only the database can check, because it is no constant."""


def guarded(document: Any) -> Any:
    """The expression, or false on a record on which it fails. Raises UnguardedArgument."""
    needed = list(_requirements(document))
    return _switch(_refusals(needed), document) if needed else document


def can_evaluate(document: Any) -> Any:
    """Whether an expression can evaluate a record, as an expression. Raises UnguardedArgument."""
    return _all(_requirements(document))


def _requirements(value: Any) -> Iterator[Any]:
    """What must hold so that an expression does not fail on a record, in order."""
    if isinstance(value, list):
        for item in value:
            yield from _requirements(item)
    if not isinstance(value, Mapping):
        return
    [(name, argument)] = value.items()
    if name == "$literal":
        return
    if name in _LAZY:
        yield from _LAZY[name](argument)
    elif isinstance(argument, Mapping) and name in _NAMED and not any(key.startswith("$") for key in argument):
        for item in argument.values():
            yield from _requirements(item)
        yield from _NAMED[name](name, argument)
    else:
        operands = argument if isinstance(argument, list) else [argument]
        yield from _requirements(operands)
        if name in _CONVERSIONS:
            yield _converts(operands[0], _CONVERSIONS[name])
        elif name in _NAMED:
            yield from _NAMED[name](name, {"date": operands[0]})
        elif name in _RULES:
            yield from _RULES[name](operands)


def _all(needed: Iterator[Any]) -> Any:
    requirements = list(needed)
    if len(requirements) < 2:
        return requirements[0] if requirements else True
    return _switch(_refusals(requirements[:-1]), requirements[-1])


def _refusals(needed: Sequence[Any]) -> list[Document]:
    return [{"case": {"$not": [requirement]}, "then": False} for requirement in needed]


def _switch(branches: list[Document], default: Any) -> Any:
    return {"$switch": {"branches": branches, "default": default}} if branches else default


def _type(value: Any) -> Document:
    return {"$type": [value]}


def _is(value: Any, *types: str) -> Document:
    return {"$in": [_type(value), list(types)]}


def _of_type(*types: str) -> Rule:
    def rule(operands: Sequence[Any]) -> Iterator[Any]:
        for operand in operands:
            if not _is_constant_number(operand) or "int" not in types:
                yield _is(operand, *types)

    return rule


def _is_constant_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(value: Any, low: Any, high: Any) -> Document:
    return {"$and": [{"$gte": [value, low]}, {"$lte": [value, high]}]}


def _in_calendar(value: Any) -> Document:
    return {"$or": [{"$ne": [_type(value), "date"]}, _between(value, _FIRST, _LAST)]}


def _is_whole(value: Any, low: int, high: int, *, or_null: bool) -> Document:
    number = {"$and": [{"$eq": [value, {"$trunc": [value]}]}, _between(value, low, high)]}
    return {"$cond": [_is(value, *_NUMBER), number, _is(value, *_NULL) if or_null else False]}


def _converts(value: Any, to: Any) -> Document:
    converted = {"$convert": {"input": value, "to": to, "onError": _FAILED, "onNull": None}}
    return {"$not": [{"$isArray": [converted]}]}


def _printable(operands: Sequence[Any]) -> Iterator[Any]:
    for operand in operands:
        if not isinstance(operand, int | float | datetime) or isinstance(operand, bool):
            yield _is(operand, *_PRINTABLE)
            yield _in_calendar(operand)


def _substring(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _printable(operands[:1])
    for position in operands[1:]:
        yield _is_whole(position, 0, 2**31 - 1, or_null=False)


def _index_of(operands: Sequence[Any]) -> Iterator[Any]:
    yield _is(operands[0], *_TEXT)
    yield _is(operands[1], "string")
    for position in operands[2:]:
        yield _is_whole(position, 0, 2**31 - 1, or_null=False)


def _split(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _of_type(*_TEXT)(operands)
    yield {"$ne": [operands[1], ""]}


def _add(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _of_type(*_NULL, *_NUMBER, "date")(operands)
    others = [operand for operand in operands if not _is_constant_number(operand)]
    dates = [{"$cond": [_is(operand, "date"), 1, 0]} for operand in others]
    steps = [{"$or": [{"$not": [_is(value, *_NUMBER)]}, _between(value, -_MAX_STEP, _MAX_STEP)]} for value in operands]
    if others:
        yield {"$lte": [{"$add": dates}, 1]}
        yield {"$or": [{"$eq": [{"$add": dates}, 0]}, {"$and": [*map(_in_calendar, others), *steps]}]}


def _subtract(operands: Sequence[Any]) -> Iterator[Any]:
    left, right = operands
    step = {"$and": [_is(right, *_NUMBER), _between(right, -_MAX_STEP, _MAX_STEP)]}
    date = {"$and": [_is(right, "date"), _in_calendar(right)]}
    yield {
        "$or": [
            _is(left, *_NULL),
            _is(right, *_NULL),
            {"$and": [_is(left, *_NUMBER), _is(right, *_NUMBER)]},
            {"$and": [_is(left, "date"), _in_calendar(left), {"$or": [step, date]}]},
        ]
    }


def _divide(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _of_type(*_NULL, *_NUMBER)(operands)
    yield {"$or": [{"$ne": [operands[1], 0]}, _is(operands[0], *_NULL)]}


def _absolute(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _of_type(*_NULL, *_NUMBER)(operands)
    yield {"$ne": [operands[0], Int64(-(2**63))]}


def _round(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _of_type(*_NULL, *_NUMBER)(operands[:1])
    for place in operands[1:]:
        yield _is_whole(place, -20, 100, or_null=True)
        in_range = _between(operands[0], -_MAX_ROUNDED, _MAX_ROUNDED)
        yield {"$or": [{"$gte": [place, 0]}, _is(operands[0], *_NULL), in_range]}


def _in(operands: Sequence[Any]) -> Iterator[Any]:
    yield _is(operands[1], "array")


def _element_at(operands: Sequence[Any]) -> Iterator[Any]:
    yield _is(operands[0], *_NULL, "array")
    yield _is_whole(operands[1], -(2**31), 2**31 - 1, or_null=True)


def _slice(operands: Sequence[Any]) -> Iterator[Any]:
    yield from _element_at(operands[:2])
    for count in operands[2:]:
        yield _is_whole(count, 1, 2**31 - 1, or_null=True)


def _date(value: Any) -> Iterator[Any]:
    yield _is(value, *_DATE)
    yield _in_calendar(value)


def _timezone(argument: Mapping[str, Any]) -> Iterator[Any]:
    zone = argument.get("timezone")
    if not _is_constant(zone):
        offset = {"$regexMatch": {"input": zone, "regex": _OFFSET}}
        is_zone = {"$or": [{"$in": [zone, {"$literal": list(TIMEZONES)}]}, offset]}
        yield {"$cond": [_is(zone, "string"), is_zone, _is(zone, *_NULL)]}


def _is_constant(value: Any) -> bool:
    return not isinstance(value, Mapping | list) and not (isinstance(value, str) and value.startswith("$"))


def _constants(name: str, argument: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if not _is_constant(argument.get(key)):
            raise UnguardedArgument(f"needs a written {key} in {name}, not an expression")


def _dates(*keys: str) -> Callable[[str, Mapping[str, Any]], Iterator[Any]]:
    def rule(name: str, argument: Mapping[str, Any]) -> Iterator[Any]:
        _constants(name, argument, "unit", "binSize", "startOfWeek", "format")
        for key in keys:
            yield from _date(argument[key])
        yield from _timezone(argument)

    return rule


def _shift(name: str, argument: Mapping[str, Any]) -> Iterator[Any]:
    yield from _dates("startDate")(name, argument)
    limit = _MAX_AMOUNTS[argument["unit"]]
    yield _is_whole(argument["amount"], -limit, limit, or_null=True)


def _convert(name: str, argument: Mapping[str, Any]) -> Iterator[Any]:
    _constants(name, argument, "to")
    if "onError" not in argument:
        yield _converts(argument["input"], argument["to"])


def _from_text(name: str, argument: Mapping[str, Any]) -> Iterator[Any]:
    _constants(name, argument, "format")
    yield from _timezone(argument)
    if "onError" not in argument:
        parsed = {"$dateFromString": {**argument, "onError": _FAILED, "onNull": None}}
        yield {"$not": [{"$isArray": [parsed]}]}


def _texts(name: str, argument: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG001 - the form of a row
    yield from _of_type(*_TEXT)([argument[key] for key in ("input", "chars") if key in argument])


def _and(items: Any) -> Iterator[Any]:
    yield from _until(items, lambda item: {"$not": [item]})


def _or(items: Any) -> Iterator[Any]:
    yield from _until(items, lambda item: item)


def _until(items: Any, decides: Callable[[Any], Any]) -> Iterator[Any]:
    """The requirement of operands that are evaluated in order, until one decides the result."""
    branches: list[Document] = []
    for item in items if isinstance(items, list) else [items]:
        branches += [*_refusals(list(_requirements(item))), {"case": decides(item), "then": True}]
    while branches and branches[-1]["then"]:
        branches.pop()
    if branches:
        yield _switch(branches, True)


def _choose(argument: Any) -> Iterator[Any]:
    items = [argument[key] for key in ("if", "then", "else")] if isinstance(argument, Mapping) else argument
    condition, then, other = items
    yield from _requirements(condition)
    chosen = {"$cond": [condition, _all(_requirements(then)), _all(_requirements(other))]}
    if chosen["$cond"][1:] != [True, True]:
        yield chosen


def _choose_many(argument: Mapping[str, Any]) -> Iterator[Any]:
    branches: list[Document] = []
    for branch in argument["branches"]:
        branches += _refusals(list(_requirements(branch["case"])))
        branches.append({"case": branch["case"], "then": _all(_requirements(branch["then"]))})
    yield _switch(branches, _all(_requirements(argument["default"])))


_LAZY: dict[str, Callable[[Any], Iterator[Any]]] = {
    "$and": _and, "$or": _or, "$cond": _choose, "$switch": _choose_many,
}  # fmt: skip
"""Operators that do not evaluate all of their operands."""

_CONVERSIONS = {
    "$toString": "string", "$toInt": "int", "$toLong": "long", "$toDouble": "double", "$toDecimal": "decimal",
    "$toBool": "bool", "$toDate": "date",
}  # fmt: skip

_NAMED: dict[str, Callable[[str, Mapping[str, Any]], Iterator[Any]]] = {
    **dict.fromkeys(("$year", "$month", "$dayOfMonth", "$dayOfWeek", "$dayOfYear", "$week"), _dates("date")),
    **dict.fromkeys(("$isoDayOfWeek", "$isoWeek", "$isoWeekYear"), _dates("date")),
    **dict.fromkeys(("$hour", "$minute", "$second", "$millisecond", "$dateTrunc", "$dateToString"), _dates("date")),
    "$dateDiff": _dates("startDate", "endDate"),
    **dict.fromkeys(("$dateAdd", "$dateSubtract"), _shift),
    "$dateFromString": _from_text,
    "$convert": _convert,
    **dict.fromkeys(("$trim", "$ltrim", "$rtrim", "$regexMatch"), _texts),
    "$getField": lambda _name, _argument: iter(()),
}
"""The requirements of operators whose arguments have names."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("$toLower", "$toUpper", "$strcasecmp"), _printable),
    "$concat": _of_type(*_TEXT),
    "$strLenCP": _of_type("string"),
    "$substrCP": _substring,
    "$indexOfCP": _index_of,
    "$split": _split,
    "$add": _add,
    "$subtract": _subtract,
    **dict.fromkeys(("$divide", "$mod"), _divide),
    **dict.fromkeys(("$multiply", "$ceil", "$floor"), _of_type(*_NULL, *_NUMBER)),
    "$abs": _absolute,
    **dict.fromkeys(("$round", "$trunc"), _round),
    **dict.fromkeys(("$size", "$anyElementTrue", "$allElementsTrue", "$setEquals", "$setIsSubset"), _of_type("array")),
    **dict.fromkeys(("$concatArrays", "$setUnion", "$setIntersection"), _of_type(*_NULL, "array")),
    **dict.fromkeys(("$setDifference", "$first", "$last"), _of_type(*_NULL, "array")),
    "$in": _in,
    "$arrayElemAt": _element_at,
    "$slice": _slice,
}
"""The requirements of operators whose arguments are a list."""
