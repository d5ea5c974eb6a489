"""Lint rules on lists and objects: conditions that other elements meet, and objects that are compared as a whole.

    {"orders.status": "paid", "orders.total": {"$gt": 100}}

matches a contact with one paid order of 5 and one open order of 200. $elemMatch requires one element for both.

    {"orders": {"status": "paid"}}

matches no order that has a total: the whole object must be equal.
"""

from collections.abc import Iterator, Mapping

from audience_service.domain.filters.ast import Condition
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.conjunctions import Conjunction
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_BELOW, _ABOVE = ("$gt", "$gte"), ("$lt", "$lte")
_EQUALITIES, _MEMBERSHIPS = ("$eq", "$ne"), ("$in", "$nin", "$all")


def find_separate_elements(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions on fields of the same list that different elements may meet."""
    for conjunction in linted.conjunctions:
        index = linted.indexes.get(conjunction.datatype)
        if index is None:
            continue
        first_by_list: dict[str, Condition] = {}
        for node in conjunction.nodes:
            if not isinstance(node, Condition):
                continue
            path = _list_of(conjunction, node, index)
            if not path:
                continue
            first = first_by_list.setdefault(path, node)
            if first is not node and _is_meant_together(first, node):
                inner = "the values" if path == conjunction.path(node.path) else "its elements"
                text = (
                    f"may hold for another element of {display_path(path)} than the other condition does;"
                    f" for one element write both in {{$elemMatch: ...}} on {inner}"
                )
                yield FilterWarning(node.field_path, LintRule.SEPARATE_ELEMENTS, text)


def find_whole_objects(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The objects that are compared as a whole, and that lack keys of the objects in the sampled records."""
    for conjunction, node, index in linted.own_conditions():
        if not isinstance(node, Condition) or node.operator.name not in (*_EQUALITIES, *_MEMBERSHIPS):
            continue
        operands = node.operand if node.operator.name in _MEMBERSHIPS else [node.operand]
        objects = [value for value in operands if isinstance(value, Mapping)]
        path = conjunction.path(node.path)
        known = index.keys(path) if objects else set[str]()
        partial = next((value for value in objects if known.intersection(value) and known.difference(value)), None)
        if partial:
            name, key, other = display_path(path), next(iter(partial)), min(known.difference(partial))
            text = (
                f"compares with the whole object, and {name} also has {other} in the sampled records;"
                f" compare {name}.{key} instead, or write $elemMatch for one element of a list"
            )
            yield FilterWarning(node.field_path, LintRule.WHOLE_OBJECT, text)


def _list_of(conjunction: Conjunction, node: Condition, index: FieldIndex) -> str:
    """The path of the innermost list, in the sampled records, that a condition reads an element of; empty if none."""
    steps = conjunction.path(node.path).split(".")
    if any(step.isdecimal() for step in steps):
        return ""
    prefix_length = len(conjunction.prefix.split(".")) if conjunction.prefix else 0
    for length in range(len(steps), prefix_length, -1):
        path = ".".join(steps[:length])
        profile = index.profile(path)
        if profile and profile.types.get("array", 0) > 0 and (length == len(steps) or "object" in profile.types):
            return path
    return ""


def _is_meant_together(first: Condition, second: Condition) -> bool:
    """Whether two conditions are on different fields of an element, or bound one value from both sides."""
    if first.path != second.path:
        return True
    names = first.operator.name, second.operator.name
    return any(one in _BELOW and other in _ABOVE for one, other in (names, names[::-1]))
