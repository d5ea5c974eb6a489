"""The expressions that $expr takes: pure ones over the record's own fields, by an allow-list.

To add one, write its row: its name and the form of its arguments. What reads other documents, draws random numbers,
runs code or makes a list of arbitrary length has no row. Of the variables there is $$NOW alone, folded to a constant
like every date relative to now.

Source of the forms: MongoDB manual, aggregation operators.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audience_service.domain.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.fields import record_path
from audience_service.domain.filters.filter import at_index, at_key
from audience_service.domain.filters.nodes import Expression
from audience_service.domain.filters.operators import read_pattern
from audience_service.domain.filters.relative import NOW, Now
from audience_service.domain.filters.values import ValueReader


@dataclass(frozen=True, slots=True)
class Form:
    """How an operator takes its arguments: a number of them in a list, or by name, or either.

    `least` to `most` in a list, where a lone one may stand without it if `least` is 1; no list where `most` is 0. By
    name: all of `needed`, and any of `optional`.
    """

    least: int = 0
    most: int = 0
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What the operator takes, for people."""
        number = str(self.least) if self.least == self.most else f"{self.least} to {self.most}"
        number = f"{self.least} or more" if self.most == _MANY else number
        listed = "an expression" if self.least == self.most == 1 else f"a list of {number} expressions"
        named = f"an object of {', '.join(self.needed)}" + "".join(f", {name} (optional)" for name in self.optional)
        return " or ".join([listed] * bool(self.most) + [named] * bool(self.needed))


_MANY = 1_000_000
_ONE, _TWO = Form(1, 1), Form(2, 2)
_DATE_PART = Form(1, 1, ("date",), ("timezone",))
_SHIFT = Form(needed=("startDate", "unit", "amount"), optional=("timezone",))
_TRIM = Form(needed=("input",), optional=("chars",))

EXPRESSIONS: dict[str, Form] = {
    **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp"), _TWO),
    **dict.fromkeys(("$and", "$or"), Form(0, _MANY)),
    "$not": _ONE,
    "$cond": Form(3, 3, ("if", "then", "else")),
    "$ifNull": Form(2, _MANY),
    "$switch": Form(needed=("branches", "default")),
    **dict.fromkeys(("$add", "$multiply"), Form(1, _MANY)),
    **dict.fromkeys(("$subtract", "$divide", "$mod"), _TWO),
    **dict.fromkeys(("$abs", "$ceil", "$floor"), _ONE),
    **dict.fromkeys(("$round", "$trunc"), Form(1, 2)),
    "$concat": Form(1, _MANY),
    **dict.fromkeys(("$toLower", "$toUpper", "$strLenCP"), _ONE),
    **dict.fromkeys(("$strcasecmp", "$split"), _TWO),
    "$substrCP": Form(3, 3),
    "$indexOfCP": Form(2, 4),
    **dict.fromkeys(("$trim", "$ltrim", "$rtrim"), _TRIM),
    "$regexMatch": Form(needed=("input", "regex"), optional=("options",)),
    **dict.fromkeys(("$size", "$isArray", "$first", "$last", "$anyElementTrue", "$allElementsTrue"), _ONE),
    **dict.fromkeys(("$in", "$arrayElemAt", "$setDifference", "$setIsSubset"), _TWO),
    "$slice": Form(2, 3),
    **dict.fromkeys(("$concatArrays", "$setIntersection", "$setUnion"), Form(1, _MANY)),
    "$setEquals": Form(2, _MANY),
    **dict.fromkeys(("$min", "$max", "$sum", "$avg"), Form(1, _MANY)),
    **dict.fromkeys(("$type", "$isNumber", "$toString", "$toInt", "$toLong", "$toDouble"), _ONE),
    **dict.fromkeys(("$toDecimal", "$toBool", "$toDate"), _ONE),
    "$convert": Form(needed=("input", "to"), optional=("onError", "onNull")),
    **dict.fromkeys(("$year", "$month", "$dayOfMonth", "$dayOfWeek", "$dayOfYear"), _DATE_PART),
    **dict.fromkeys(("$isoDayOfWeek", "$isoWeek", "$isoWeekYear", "$week"), _DATE_PART),
    **dict.fromkeys(("$hour", "$minute", "$second", "$millisecond"), _DATE_PART),
    **dict.fromkeys(("$dateAdd", "$dateSubtract"), _SHIFT),
    "$dateTrunc": Form(needed=("date", "unit"), optional=("binSize", "timezone", "startOfWeek")),
    "$dateDiff": Form(needed=("startDate", "endDate", "unit"), optional=("timezone", "startOfWeek")),
    "$dateToString": Form(needed=("date",), optional=("format", "timezone", "onNull")),
    "$dateFromString": Form(needed=("dateString",), optional=("format", "timezone", "onError", "onNull")),
    "$literal": _ONE,
}
"""The table by name. `$literal` takes a value as it is; `$regexMatch` a pattern by the rules of `$regex`."""


@dataclass(slots=True)
class ExpressionParser:
    """Reads one $expr. `count` is told the place of every operator and item, and raises where there are too many."""

    reader: ValueReader
    count: Callable[[str], None]
    _paths: dict[str, None] = field(default_factory=dict)

    def parse(self, operand: Any, place: str) -> Expression:
        """The expression with its paths as they are in the record. Raises InvalidFilter, FilterTooLarge."""
        document = self._expression(operand, place, 1)
        whole = document if isinstance(document, dict) else {"$and": [document]}
        return Expression(whole, tuple(self._paths), place)

    def _expression(self, value: Any, place: str, depth: int) -> Any:
        limit = self.reader.limits.depth
        if depth > limit:
            raise FilterTooLarge.at(place, f"is nested more than {limit} levels deep", limit=str(limit))
        if isinstance(value, str) and value.startswith("$"):
            return self._reference(value, place)
        if isinstance(value, list):
            return self._listed(value, place, depth)
        if isinstance(value, Mapping):
            return self._operator(value, place, depth)
        return self.reader.scalar(value, place)

    def _reference(self, text: str, place: str) -> Any:
        if text == NOW:
            return Now.of(self.reader.now)
        if text.startswith("$$"):
            raise InvalidFilter.at(place, f"is a variable; of these there is {NOW} alone")
        path = record_path(text[1:], place)
        self._paths[path] = None
        return f"${path}"

    def _operator(self, value: Mapping[str, Any], place: str, depth: int) -> dict[str, Any]:
        name = next(iter(value), "")
        if len(value) != 1 or not name.startswith("$"):
            raise InvalidFilter.at(
                place, 'is no expression, which is an object of one operator, like {"$gt": ["$score", 50]}'
            )
        here = at_key(place, name)
        if name not in EXPRESSIONS:
            raise InvalidFilter.at(here, f"is no operator of $expr; there are {', '.join(EXPRESSIONS)}")
        self.count(here)
        argument = value[name]
        if name == "$literal":
            return {name: self.reader.value(argument, here)}
        if name == "$switch":
            return {name: self._switch(argument, here, depth)}
        if name == "$regexMatch":
            return {name: self._regex_match(argument, here, depth)}
        return {name: self._arguments(EXPRESSIONS[name], argument, here, depth)}

    def _arguments(self, form: Form, argument: Any, place: str, depth: int) -> Any:
        if isinstance(argument, Mapping) and form.needed and not any(key.startswith("$") for key in argument):
            self._check_names(form, argument, place)
            return {key: self._expression(item, at_key(place, key), depth + 1) for key, item in argument.items()}
        if isinstance(argument, list) and form.most:
            if not form.least <= len(argument) <= form.most:
                raise InvalidFilter.at(place, f"takes {form}")
            return self._listed(argument, place, depth)
        if not form.least <= 1 <= form.most:
            raise InvalidFilter.at(place, f"takes {form}")
        return self._expression(argument, place, depth + 1)

    def _listed(self, items: list[Any], place: str, depth: int) -> list[Any]:
        read = []
        for index, item in enumerate(items):
            here = at_index(place, index)
            self.count(here)  # or a filter could make texts of any length out of a field
            read.append(self._expression(item, here, depth + 1))
        return read

    def _switch(self, argument: Any, place: str, depth: int) -> dict[str, Any]:
        self._check_names(EXPRESSIONS["$switch"], argument, place)
        branches, there = argument["branches"], at_key(place, "branches")
        if not isinstance(branches, list) or not branches:
            raise InvalidFilter.at(there, 'takes a list of {"case": ..., "then": ...}')
        return {
            "branches": list(self._branches(branches, there, depth)),
            "default": self._expression(argument["default"], at_key(place, "default"), depth + 1),
        }

    def _branches(self, branches: list[Any], place: str, depth: int) -> Iterator[dict[str, Any]]:
        for index, branch in enumerate(branches):
            here = at_index(place, index)
            self.count(here)
            self._check_names(Form(needed=("case", "then")), branch, here)
            yield {key: self._expression(branch[key], at_key(here, key), depth + 1) for key in ("case", "then")}

    def _regex_match(self, argument: Any, place: str, depth: int) -> dict[str, Any]:
        self._check_names(EXPRESSIONS["$regexMatch"], argument, place)
        beside, options = at_key(place, "options"), argument.get("options", "")
        pattern = read_pattern(argument["regex"], options, at_key(place, "regex"), beside, self.reader)
        return {
            "input": self._expression(argument["input"], at_key(place, "input"), depth + 1),
            "regex": {"$literal": pattern.text},
            "options": pattern.options,
        }

    @staticmethod
    def _check_names(form: Form, argument: Any, place: str) -> None:
        if not isinstance(argument, Mapping):
            raise InvalidFilter.at(place, f"takes {form}")
        for name in argument:
            if name not in form.needed and name not in form.optional:
                raise InvalidFilter.at(at_key(place, name), f"is none of {', '.join((*form.needed, *form.optional))}")
        if missing := [name for name in form.needed if name not in argument]:
            raise InvalidFilter.at(place, f"lacks {missing[0]}; it takes {form}")
