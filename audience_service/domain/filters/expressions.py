"""The expressions that $expr takes: an allow-list of pure functions over the record's own fields.

To add an operator, write its row: its name and the form of its arguments. Operators that read other documents, draw
random numbers, run code or create lists of arbitrary length have no row. The only variable is $$NOW, which becomes a
constant like every relative date.

Source of the forms: MongoDB manual, aggregation operators.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.argument_checks import check_list_arguments, check_named_argument
from audience_service.domain.filters.ast import Expression
from audience_service.domain.filters.fields import join_steps, plain_path
from audience_service.domain.filters.operators import read_pattern
from audience_service.domain.filters.relative_dates import NOW, TIMEZONES, Now
from audience_service.domain.filters.values import ValueReader


@dataclass(frozen=True, slots=True)
class Form:
    """The arguments of an operator: a list of them, an object of named ones, or either.

    A list has `min_args` to `max_args` items; a single argument needs no list if `min_args` is 1; with `max_args` 0
    there is no list. An object has all of `required`, and any of `optional`.
    """

    min_args: int = 0
    max_args: int = 0
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The form in plain words, for error messages."""
        number = str(self.min_args) if self.min_args == self.max_args else f"{self.min_args} to {self.max_args}"
        number = f"{self.min_args} or more" if self.max_args == _UNLIMITED else number
        list_form = "an expression" if self.min_args == self.max_args == 1 else f"a list of {number} expressions"
        object_form = f"an object of {', '.join(self.required)}" + "".join(
            f", {name} (optional)" for name in self.optional
        )
        return " or ".join([list_form] * bool(self.max_args) + [object_form] * bool(self.required))


_UNLIMITED = 1_000_000
_ONE, _TWO = Form(1, 1), Form(2, 2)
_DATE_PART = Form(1, 1, ("date",), ("timezone",))
_SHIFT = Form(required=("startDate", "unit", "amount"), optional=("timezone",))
_TRIM = Form(required=("input",), optional=("chars",))

_GROWING = frozenset(("$concat", "$concatArrays", "$setUnion", "$split"))
"""Operators whose result may be longer than the record's values. Each of their items counts as many conditions."""
_COST_OF_GROWTH = 25

EXPRESSIONS: dict[str, Form] = {
    **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp"), _TWO),
    **dict.fromkeys(("$and", "$or"), Form(0, _UNLIMITED)),
    "$not": _ONE,
    "$cond": Form(3, 3, ("if", "then", "else")),
    "$ifNull": Form(2, _UNLIMITED),
    "$switch": Form(required=("branches", "default")),
    **dict.fromkeys(("$add", "$multiply"), Form(1, _UNLIMITED)),
    **dict.fromkeys(("$subtract", "$divide", "$mod"), _TWO),
    **dict.fromkeys(("$abs", "$ceil", "$floor"), _ONE),
    **dict.fromkeys(("$round", "$trunc"), Form(1, 2)),
    "$concat": Form(1, _UNLIMITED),
    **dict.fromkeys(("$toLower", "$toUpper", "$strLenCP"), _ONE),
    **dict.fromkeys(("$strcasecmp", "$split"), _TWO),
    "$substrCP": Form(3, 3),
    "$indexOfCP": Form(2, 4),
    **dict.fromkeys(("$trim", "$ltrim", "$rtrim"), _TRIM),
    "$regexMatch": Form(required=("input", "regex"), optional=("options",)),
    **dict.fromkeys(("$size", "$isArray", "$first", "$last", "$anyElementTrue", "$allElementsTrue"), _ONE),
    **dict.fromkeys(("$in", "$arrayElemAt", "$setDifference", "$setIsSubset"), _TWO),
    "$slice": Form(2, 3),
    **dict.fromkeys(("$concatArrays", "$setIntersection", "$setUnion"), Form(1, _UNLIMITED)),
    "$setEquals": Form(2, _UNLIMITED),
    **dict.fromkeys(("$min", "$max", "$sum", "$avg"), Form(1, _UNLIMITED)),
    **dict.fromkeys(("$type", "$isNumber", "$toString", "$toInt", "$toLong", "$toDouble"), _ONE),
    **dict.fromkeys(("$toDecimal", "$toBool", "$toDate"), _ONE),
    "$convert": Form(required=("input", "to"), optional=("onError", "onNull")),
    **dict.fromkeys(("$year", "$month", "$dayOfMonth", "$dayOfWeek", "$dayOfYear"), _DATE_PART),
    **dict.fromkeys(("$isoDayOfWeek", "$isoWeek", "$isoWeekYear", "$week"), _DATE_PART),
    **dict.fromkeys(("$hour", "$minute", "$second", "$millisecond"), _DATE_PART),
    **dict.fromkeys(("$dateAdd", "$dateSubtract"), _SHIFT),
    "$dateTrunc": Form(required=("date", "unit"), optional=("binSize", "timezone", "startOfWeek")),
    "$dateDiff": Form(required=("startDate", "endDate", "unit"), optional=("timezone", "startOfWeek")),
    "$dateToString": Form(required=("date",), optional=("format", "timezone", "onNull")),
    "$dateFromString": Form(required=("dateString",), optional=("format", "timezone", "onError", "onNull")),
    "$validTimezone": _TWO,
    "$getField": Form(1, 1, ("field", "input")),
    "$literal": _ONE,
}
"""The rows by name. `$literal` takes any value unchanged; `$regexMatch` takes a pattern by the rules of `$regex`."""


@dataclass(slots=True)
class ExpressionParser:
    """Parses one $expr. `count` receives the path and cost of each operator and item, and raises above the limit."""

    reader: ValueReader
    count: Callable[..., None]
    _paths: dict[str, None] = field(default_factory=dict)

    def parse(self, operand: Any, field_path: str) -> Expression:
        """The expression, with paths as in the record. Raises InvalidFilter, FilterTooLarge."""
        document = self._expression(operand, field_path, 1)
        condition = document if isinstance(document, dict) else {"$and": [document]}
        return Expression(condition, tuple(self._paths), field_path)

    def _expression(self, value: Any, field_path: str, depth: int) -> Any:
        limit = self.reader.limits.depth
        if depth > limit:
            raise FilterTooLarge.at(field_path, f"is nested more than {limit} levels deep", limit=str(limit))
        if isinstance(value, str) and value.startswith("$"):
            return self._reference(value, field_path)
        if isinstance(value, list):
            return self._parse_list(value, field_path, depth)
        if isinstance(value, Mapping):
            return self._operator(value, field_path, depth)
        return self.reader.scalar(value, field_path)

    def _reference(self, text: str, field_path: str) -> Any:
        if text == NOW:
            return Now.of(self.reader.now)
        if text.startswith("$$"):
            raise InvalidFilter.at(field_path, f"is not a variable of the filter language; the only one is {NOW}")
        path = plain_path(text[1:], field_path)
        self._paths[path] = None
        return f"${path}"

    def _operator(self, value: Mapping[str, Any], field_path: str, depth: int) -> dict[str, Any]:
        name = next(iter(value), "")
        if len(value) != 1 or not name.startswith("$"):
            raise InvalidFilter.at(
                field_path, 'is not an expression; write an object of one operator, like {"$gt": ["$score", 50]}'
            )
        here = at_key(field_path, name)
        if name not in EXPRESSIONS:
            raise InvalidFilter.at(here, f"is not an operator of $expr; the operators are {', '.join(EXPRESSIONS)}")
        self.count(here)
        argument = value[name]
        if name == "$literal":
            return {name: self.reader.value(argument, here, 1)}  # unchanged: even a relative date stays an object
        if name == "$switch":
            return {name: self._switch(argument, here, depth)}
        if name == "$getField":
            return {name: self._get_field(argument, here, depth)}
        if name == "$validTimezone":
            return self._valid_timezone(argument, here, depth)
        if name == "$regexMatch":
            return {name: self._regex_match(argument, here, depth)}
        if name in _GROWING:
            self.count(here, _COST_OF_GROWTH)
        if isinstance(argument, list):
            check_list_arguments(name, argument, here)
        return {name: self._arguments(name, argument, here, depth)}

    def _arguments(self, name: str, argument: Any, field_path: str, depth: int) -> Any:
        form = EXPRESSIONS[name]
        if isinstance(argument, Mapping) and form.required and not any(key.startswith("$") for key in argument):
            self._check_names(form, argument, field_path)
            for key, item in argument.items():
                check_named_argument(key, item, at_key(field_path, key))
            return {key: self._expression(item, at_key(field_path, key), depth + 1) for key, item in argument.items()}
        if isinstance(argument, list) and form.max_args:
            if not form.min_args <= len(argument) <= form.max_args:
                raise InvalidFilter.at(field_path, f"takes {form}")
            return self._parse_list(argument, field_path, depth, _COST_OF_GROWTH if name in _GROWING else 1)
        if not form.min_args <= 1 <= form.max_args:
            raise InvalidFilter.at(field_path, f"takes {form}")
        return self._expression(argument, field_path, depth + 1)

    def _parse_list(self, items: list[Any], field_path: str, depth: int, cost: int = 1) -> list[Any]:
        parsed = []
        for index, item in enumerate(items):
            here = at_index(field_path, index)
            self.count(here, cost)
            parsed.append(self._expression(item, here, depth + 1))
        return parsed

    def _switch(self, argument: Any, field_path: str, depth: int) -> dict[str, Any]:
        self._check_names(EXPRESSIONS["$switch"], argument, field_path)
        branches, branches_path = argument["branches"], at_key(field_path, "branches")
        if not isinstance(branches, list) or not branches:
            raise InvalidFilter.at(branches_path, 'takes a list of {"case": ..., "then": ...}')
        return {
            "branches": list(self._branches(branches, branches_path, depth)),
            "default": self._expression(argument["default"], at_key(field_path, "default"), depth + 1),
        }

    def _branches(self, branches: list[Any], field_path: str, depth: int) -> Iterator[dict[str, Any]]:
        for index, branch in enumerate(branches):
            here = at_index(field_path, index)
            self.count(here)
            self._check_names(Form(required=("case", "then")), branch, here)
            yield {key: self._expression(branch[key], at_key(here, key), depth + 1) for key in ("case", "then")}

    def _get_field(self, argument: Any, field_path: str, depth: int) -> dict[str, Any]:
        """$getField of the payload, or of an object: it reads keys with dots or dollars, which paths cannot name."""
        field, source = argument, "$data"
        if isinstance(argument, Mapping):
            self._check_names(EXPRESSIONS["$getField"], argument, field_path)
            field = argument["field"]
            source = self._expression(argument["input"], at_key(field_path, "input"), depth + 1)
        if not isinstance(field, str) or not field or "\0" in field:
            raise InvalidFilter.at(field_path, 'takes the name of a key, like "utm.source"')
        if source == "$data":
            self._paths[join_steps(("data", field))] = None
        return {"field": {"$literal": field}, "input": source}

    def _valid_timezone(self, argument: Any, field_path: str, depth: int) -> dict[str, Any]:
        """The service's own $validTimezone: the first argument if it is a timezone, or else the second one.

        MongoDB cannot test a timezone, and an unknown one fails.
        """
        if not isinstance(argument, list) or len(argument) != 2:
            raise InvalidFilter.at(
                field_path, 'takes [a timezone, another if it is not valid], like ["$timezone", "UTC"]'
            )
        check_named_argument("timezone", argument[1], at_index(field_path, 1))
        value, other = self._parse_list(argument, field_path, depth)
        return {"$cond": [{"$in": [value, {"$literal": list(TIMEZONES)}]}, value, other]}

    def _regex_match(self, argument: Any, field_path: str, depth: int) -> dict[str, Any]:
        self._check_names(EXPRESSIONS["$regexMatch"], argument, field_path)
        options_path, options = at_key(field_path, "options"), argument.get("options", "")
        pattern = read_pattern(argument["regex"], options, at_key(field_path, "regex"), options_path, self.reader)
        return {
            "input": self._expression(argument["input"], at_key(field_path, "input"), depth + 1),
            "regex": {"$literal": pattern.text},
            "options": pattern.options,
        }

    @staticmethod
    def _check_names(form: Form, argument: Any, field_path: str) -> None:
        if not isinstance(argument, Mapping):
            raise InvalidFilter.at(field_path, f"takes {form}")
        for name in argument:
            if name not in form.required and name not in form.optional:
                raise InvalidFilter.at(
                    at_key(field_path, name), f"is not one of {', '.join((*form.required, *form.optional))}"
                )
        if missing := [name for name in form.required if name not in argument]:
            raise InvalidFilter.at(field_path, f"lacks {missing[0]}; it takes {form}")
