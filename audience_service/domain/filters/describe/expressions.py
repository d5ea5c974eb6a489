"""Descriptions of expressions in compact infix form: `score > (age + 3)`, `month(birthday) = 1`.

An operator without a row in a table here is described as a function call. A call lists the required arguments in the
order of their form, then the optional ones by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audience_service.domain.filters.describe.values import describe_value, quote
from audience_service.domain.filters.expressions import EXPRESSIONS
from audience_service.domain.filters.fields import display_path, join_steps
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.relative_dates import TIMEZONES

_INFIX = {
    "$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=", "$in": "in",
    "$and": "and", "$or": "or",
    "$add": "+", "$subtract": "-", "$multiply": "*", "$divide": "/", "$mod": "mod",
}  # fmt: skip

_SPECIAL: dict[str, Callable[[Any], str]] = {
    "$literal": lambda argument: _value(argument),
    "$not": lambda argument: f"not ({_describe(_only(argument))})",
    "$getField": lambda argument: _describe_get_field(**argument),
    "$regexMatch": lambda argument: _describe_regex_match(**argument),
    "$switch": lambda argument: _describe_switch(**argument),
}


def describe_expression(document: Document) -> str:
    """The description of a parsed expression."""
    return _describe(document)


def is_compound(document: Document) -> bool:
    """Whether the description is joined by `and` or `or`, and so needs brackets next to other conditions."""
    [(name, argument)] = document.items()
    return name in ("$and", "$or") and isinstance(argument, list) and len(argument) > 1


def _describe(value: Any) -> str:
    if isinstance(value, str) and value.startswith("$"):
        return display_path(value[1:])
    if isinstance(value, list):
        return f"[{', '.join(_describe(item) for item in value)}]"
    if not isinstance(value, Mapping):
        return _value(value)
    [(name, argument)] = value.items()
    if name == "$cond" and (guarded := _guarded_timezone(argument)):
        return guarded
    if name in _SPECIAL:
        return _SPECIAL[name](argument)
    items = argument if isinstance(argument, list) else [argument]
    if name in _INFIX and items:
        return f" {_INFIX[name]} ".join(map(_operand, items)) if len(items) > 1 else _describe(items[0])
    return f"{name[1:]}({', '.join(_arguments(name, argument))})"


def _guarded_timezone(argument: Any) -> str:
    """The description of $validTimezone in the form that it compiles to; empty for any other $cond."""
    match argument:
        case [{"$in": [value, {"$literal": names}]}, _, other] if names == list(TIMEZONES):
            return f"validTimezone({_describe(value)}, {_describe(other)})"
    return ""


def _operand(value: Any) -> str:
    """An operand of an infix operator, in brackets if it is an infix expression itself."""
    infix = isinstance(value, Mapping) and next(iter(value)) in (*_INFIX, "$regexMatch")
    return f"({_describe(value)})" if infix else _describe(value)


def _arguments(name: str, argument: Any) -> Sequence[str]:
    form = EXPRESSIONS[name]
    if isinstance(argument, list):
        return [_describe(item) for item in argument]
    if not isinstance(argument, Mapping) or next(iter(argument)).startswith("$"):
        return [_describe(argument)]
    required = [_describe(argument[key]) for key in form.required]
    return [*required, *(f"{key}: {_describe(argument[key])}" for key in form.optional if key in argument)]


def _only(argument: Any) -> Any:
    return argument[0] if isinstance(argument, list) else argument


def _value(value: Any) -> str:
    """A constant. Text is always quoted, since a bare word is a field, and never read as a date."""
    return quote(value) if isinstance(value, str) else describe_value(value)


def _describe_get_field(field: Document, input: Any) -> str:  # noqa: A002 - the operator's own name
    name = join_steps(("", field["$literal"])).lstrip(".")
    return name if input == "$data" else f"{_operand(input)}{name if name.startswith('[') else f'.{name}'}"


def _describe_regex_match(input: Any, regex: Document, options: str) -> str:  # noqa: A002 - the operator's own name
    return f"{_operand(input)} matches /{regex['$literal']}/{options}"


def _describe_switch(branches: Sequence[Document], default: Any) -> str:
    cases = (f"if {_describe(branch['case'])} then {_describe(branch['then'])}" for branch in branches)
    return f"switch({', '.join(cases)}, else {_describe(default)})"
