"""Lint rules on comparisons whose order surprises: text that spells numbers, and missing fields in expressions."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from audience_service.domain.filters.ast import Condition, ElementIs, Expression, Node
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.conjunctions import unwrap_negation
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.literals import literal
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_ORDERS = ("$gt", "$gte", "$lt", "$lte")
_NUMBER = re.compile(r"\s*v?[$€£¥]?\s?[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?\s?(?:[%$€£¥]|[a-z]{1,3})?\s*", re.IGNORECASE)
"""A number, also with a currency or a unit of a few letters: `€50`, `100 EUR`, `1k`."""
_LESS, _GREATER = ("$lt", "$lte"), ("$gt", "$gte")


def find_text_order(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The order comparisons with text that spells a number or a version, unless the field never holds text."""
    for conjunction in linted.conjunctions:
        index = linted.indexes.get(conjunction.datatype)
        for node in conjunction.nodes:
            inner = unwrap_negation(node)[0]
            if not _is_number_text_bound(inner):
                continue
            profile = index.profile(conjunction.path(inner.path)) if index else None
            is_number = profile is None or (profile.types.get("string", 0) > 0 and profile.date_texts == 0)
            if is_number:
                text = (
                    'compares text by its characters: "9" is greater than "10"; write numbers without quotes, and '
                    "compare the parts of versions in $expr"
                )
                yield FilterWarning(inner.field_path, LintRule.TEXT_ORDER, text)


def _is_number_text_bound(node: Node) -> TypeGuard[Condition]:
    if not isinstance(node, Condition) or node.operator.name not in _ORDERS:
        return False
    return isinstance(node.operand, str) and bool(_NUMBER.fullmatch(node.operand))


def find_null_bounds(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The bounds that are null, which only null and missing fields meet."""
    for conjunction in linted.conjunctions:
        for node in conjunction.nodes:
            if isinstance(node, Condition) and node.operator.name in ("$gte", "$lte") and node.operand is None:
                text = "compares with null, which only null and missing fields meet; write a value, or null itself"
                yield FilterWarning(node.field_path, LintRule.MISSING_IS_LESS, text)


def find_missing_less(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The comparisons in expressions that a missing field meets, since it is less than every value."""
    for conjunction in linted.conjunctions:
        required = {path for node in conjunction.nodes for path in _required(node)}
        index = linted.indexes.get(conjunction.datatype)
        for node in conjunction.nodes:
            if not isinstance(node, Expression):
                continue
            guarded = required | set(_guarded(node.document))
            for path in dict.fromkeys(_lesser_paths(node.document)):
                profile = index.profile(path) if index else None
                always_filled = profile is not None and profile.fill_rate == 1.0
                if path not in guarded and not always_filled:
                    name = display_path(path)
                    text = (
                        f"also holds if {name} is missing or null, which is less than every value; "
                        f'add {{"$isNumber": "${name}"}} to the expression, or {{"{name}": {{"$ne": null}}}} next to it'
                    )
                    yield FilterWarning(node.field_path, LintRule.MISSING_IS_LESS, text)


def find_list_comparisons(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The comparisons in expressions of a list as a whole with a single value."""
    for _, node, index in linted.own_conditions():
        if isinstance(node, Expression):
            for path in dict.fromkeys(path for path in _compared_paths(node.document) if index.has_lists(path)):
                name = display_path(path)
                text = (
                    f"compares {name}, a list in sampled records, as a whole: no list equals a single value, and every "
                    f'list is greater; write a condition on the field, or compare {{"$max": "${name}"}} or one element'
                )
                yield FilterWarning(node.field_path, LintRule.TYPE_NEVER_OCCURS, text)


def _compared_paths(value: Any) -> Iterator[str]:
    """The bare paths that an expression compares with a single constant value."""
    if isinstance(value, Mapping):
        for name, argument in value.items():
            if name in ("$eq", "$ne", *_LESS, *_GREATER) and isinstance(argument, list) and len(argument) == 2:
                for side, other in (argument, argument[::-1]):
                    if _is_path(side) and _is_constant(other) and not isinstance(other, list | Mapping):
                        yield side[1:]
            yield from _compared_paths(argument)
    elif isinstance(value, list):
        for item in value:
            yield from _compared_paths(item)


def _required(node: Node) -> Iterator[str]:
    """The path of a field that must have a value for a condition to hold."""
    found = literal(node)
    is_not_null = found is not None and found.name == "$eq" and not found.is_positive and found.operand is None
    if found and (is_not_null or (found.requires_field and found.name != "$exists")):
        yield found.path
    elif isinstance(node, ElementIs):
        yield node.path


def _lesser_paths(value: Any) -> Iterator[str]:
    """The bare paths on the lesser side of a comparison: what a missing field meets."""
    if isinstance(value, Mapping):
        for name, argument in value.items():
            if name in ("$not", "$nor"):
                continue
            if isinstance(argument, list) and len(argument) == 2 and name in (*_LESS, *_GREATER):
                lesser = argument[0] if name in _LESS else argument[1]
                if isinstance(lesser, str) and lesser.startswith("$"):
                    yield lesser[1:]
            yield from _lesser_paths(argument)
    elif isinstance(value, list):
        for item in value:
            yield from _lesser_paths(item)


def _guarded(value: Any) -> Iterator[str]:
    """The paths that an expression tests by $isNumber or $type, or compares with null."""
    if isinstance(value, Mapping):
        for name, argument in value.items():
            items = argument if isinstance(argument, list) else [argument]
            if name in ("$isNumber", "$type", "$isArray") or (name in ("$ne", "$gt") and None in items):
                yield from (item[1:] for item in items if isinstance(item, str) and item.startswith("$"))
            if name in _GREATER and len(items) == 2 and _is_path(items[0]) and _is_constant(items[1]):
                yield items[0][1:]  # a lower bound
            yield from _guarded(argument)
    elif isinstance(value, list):
        for item in value:
            yield from _guarded(item)


def _is_path(item: Any) -> bool:
    return isinstance(item, str) and item.startswith("$")


def _is_constant(item: Any) -> bool:
    return item is not None and not _is_path(item)
