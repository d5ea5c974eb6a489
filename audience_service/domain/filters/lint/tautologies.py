"""Lint rules that need no records: a condition that always holds, or never does.

Only certain findings are reported. For example, {"score": {"$gt": 5, "$lt": 3}} may match an array with two elements.
So bounds are compared only on single values: an element itself, or a field of the envelope.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Having,
    Node,
    Nor,
    Or,
    Related,
    Slice,
    selects_states,
)
from audience_service.domain.filters.lint.conjunctions import Subject, flatten
from audience_service.domain.filters.lint.intervals import find_contradiction
from audience_service.domain.filters.lint.linted_filter import LintedFilter, group_by_path
from audience_service.domain.filters.lint.literals import Literal, literal
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.operators import TEXT_OPERATORS

_SINGLE_VALUED = frozenset(("pk", "sk", "name", "datatype", "version", "state", "createdate", "modifydate"))
"""The envelope's fields that have one value each, by the platform's record model."""
_BOUNDS = ("$gt", "$gte", "$lt", "$lte", "$eq")
_TEXTS = ("$regex", *TEXT_OPERATORS)
_ARCHIVED_STATES = frozenset(("archived", "deleted"))


def _always_true(field_path: str, why: str) -> FilterWarning:
    return FilterWarning(field_path, LintRule.ALWAYS_TRUE, f"always holds: {why}")


def _always_false(field_path: str, why: str) -> FilterWarning:
    return FilterWarning(field_path, LintRule.ALWAYS_FALSE, f"never holds: {why}")


_Row = tuple[str, Callable[[Any], bool], Callable[[str, str], FilterWarning], str]

_BY_OPERAND: tuple[_Row, ...] = (
    ("$in", lambda values: not values, _always_false, "the list of allowed values is empty"),
    ("$nin", lambda values: not values, _always_true, "the list of excluded values is empty"),
    ("$all", lambda values: not values, _always_false, "no record matches an empty list"),
    ("$mod", lambda pair: abs(pair[1]) >= abs(pair[0]), _always_false, "the remainder must be less than the divisor"),
    ("$bitsAnySet", lambda bits: _no_bits(bits), _always_false, "the mask has no bits"),
    ("$bitsAnyClear", lambda bits: _no_bits(bits), _always_false, "the mask has no bits"),
    ("$gt", lambda value: value is None or value is True, _always_false, "no value is greater"),
    ("$lt", lambda value: value is None or value is False or value == "", _always_false, "no value is less"),
)
"""Operators whose operand alone decides them: the operator, the test of its operand, the warning and its cause."""


def find_constant_operands(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions whose operand alone decides them."""
    for node in linted.nodes:
        if isinstance(node, Condition):
            for name, predicate, warning, why in _BY_OPERAND:
                if name == node.operator.name and predicate(node.operand):
                    yield warning(node.field_path, why)


def find_constant_groups(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The $or and $nor that contain an empty condition, and the $or that contain a condition and its negation."""
    for node in linted.nodes:
        match node:
            case Or(nodes, field_path):
                if any(_is_everything(child) for child in nodes):
                    yield _always_true(field_path, "it has an empty condition, which every record meets")
                elif _covers_all(nodes):
                    yield _always_true(field_path, "it has a condition and the negation of that condition")
            case Nor(nodes, field_path) if any(_is_everything(child) for child in nodes):
                yield _always_false(field_path, "it excludes an empty condition, which every record meets")


def find_alternative_negations(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The $or that negates different conditions on one field: a value that one alternative excludes, another allows."""
    for node in linted.nodes:
        if not isinstance(node, Or) or _covers_all(node.children):
            continue
        alternatives = [_negations(child) for child in node.children]
        paths = dict.fromkeys(found[0].path for found in alternatives if found)
        for path in paths:
            negated = [found for found in alternatives if found and found[0].path == path]
            if len(negated) > 1 and _rarely_hold_together(negated):
                text = (
                    "matches nearly every record: no single value is excluded by all alternatives; write $nin, or $nor"
                )
                yield FilterWarning(node.field_path, LintRule.NEARLY_ALWAYS_TRUE, text)
                break


def _negations(node: Node) -> list[Literal]:
    """The negated conditions of which a node consists, without their negation, if all are on one field."""
    literals = [literal(part) for part in flatten(node)]
    found = [each for each in literals if each and not each.is_positive]
    return found if len(found) == len(literals) and len({each.path for each in found}) == 1 else []


def _rarely_hold_together(alternatives: Sequence[Sequence[Literal]]) -> bool:
    """Whether hardly a value meets one of the conditions of each alternative, without their negation."""
    values = [[each.values for each in found] for found in alternatives]
    if all(each for found in values for each in found):
        excluded = [frozenset[Hashable]().union(*(each or () for each in found)) for found in values]
        return not frozenset.intersection(*excluded)
    conditions = [each for found in alternatives for each in found]
    if all(each.name in _BOUNDS for each in conditions) and all(len(found) == 1 for found in alternatives):
        positive = [dataclasses.replace(each, is_positive=True) for each in conditions]
        return find_contradiction(positive) is not None
    is_text = all(each.name in (*_TEXTS, "$eq", "$in") for each in conditions)
    return is_text and len({each.identity or id(each) for each in conditions}) > 1


def find_constant_counts(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The counts of related records that allow every number, or none."""
    later = {id(step) for node in linted.nodes if isinstance(node, Related) for step in node.steps[1:]}
    for node in linted.nodes:
        if isinstance(node, Related):
            count_path = f"{node.test.field_path if isinstance(node.test, Slice) else node.field_path}.count"
            if node.max_count is not None and node.max_count < node.min_count:
                yield _always_false(count_path, "its minimum is greater than its maximum")
            elif isinstance(node.test, Having):
                yield from _disjoint_aggregates(node.test)
            elif node.min_count == 0 and node.max_count is None and id(node) not in later:  # a first record is needed
                yield _always_true(count_path, "it allows every number of records")


def _disjoint_aggregates(having: Having) -> Iterator[FilterWarning]:
    """The bounds on an aggregate that contradict the bounds before them."""
    for aggregate in having.aggregates:
        if found := find_contradiction([each for bound in aggregate.bounds if (each := literal(bound))]):
            yield _always_false(found.condition.field_path, "the other bounds on this value leave no value for it")


def find_contradictions(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions whose values other conditions exclude, alone or together."""
    for _, literals in linted.literals_by_path:
        negated = _negated_identities(literals)
        if not negated:
            continue
        values = frozenset[Hashable]().union(*(found.values or () for found in literals if not found.is_positive))
        for found in literals:
            if found.is_positive and (found.identity in negated or (found.values and found.values <= values)):
                yield _always_false(found.condition.field_path, "another condition excludes what it requires")


def find_disjoint_bounds(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The bounds on a single value that contradict the bounds before them."""
    for conjunction, literals in linted.literals_by_path:
        is_envelope_field = conjunction.subject is Subject.RECORD and literals[0].path in _SINGLE_VALUED
        if (is_envelope_field or conjunction.subject is Subject.VALUE) and (found := find_contradiction(literals)):
            yield _always_false(found.condition.field_path, "the other bounds on this value leave no value for it")
            continue
        index = linted.indexes.get(conjunction.datatype)
        if (
            index
            and index.has_single_values(conjunction.path(literals[0].path))
            and (found := find_contradiction(literals))
        ):
            why = "the other bounds leave no value for it, and no sampled record has a list there"
            yield _always_false(found.condition.field_path, why)


def find_required_absent_fields(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions that need a field which must not exist."""
    for conjunction, literals in linted.literals:
        absent = {found.path for found in literals if found.name == "$exists" and not found.is_positive}
        if not absent:
            continue
        required = [
            (found.path, found.condition.field_path)
            for found in literals
            if found.name != "$exists" and found.requires_field
        ]
        required += [
            (node.path, node.field_path) for node in conjunction.nodes if isinstance(node, ElementMatch | ElementIs)
        ]
        for path, field_path in required:
            if path in absent:
                yield _always_false(field_path, "it needs a field that must not exist")


def find_other_datatypes(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions that select records of another datatype."""
    for conjunction, literals in linted.literals:
        if conjunction.subject is not Subject.RECORD or not conjunction.datatype:
            continue
        for found in literals:
            if found.path in _DATATYPE_OF and found.is_positive and (texts := _texts(found)):
                datatype_of = _DATATYPE_OF[found.path]
                if all(datatype_of(text) != conjunction.datatype for text in texts):
                    why = f"it selects other records than those of {conjunction.datatype}"
                    yield _always_false(found.condition.field_path, why)


def find_archived_states(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions on archived and deleted records that the active guard leaves out."""
    for conjunction, literals in linted.literals:
        if conjunction.subject is not Subject.RECORD or conjunction.is_root or not conjunction.is_positive:
            continue
        if selects_states(conjunction.root):
            continue
        for found in literals:
            texts = _texts(found) if found.path == "state" and found.is_positive else ()
            if texts and _ARCHIVED_STATES.issuperset(texts):
                yield _always_false(
                    found.condition.field_path,
                    "archived and deleted records are left out unless the top level selects them by state",
                )


def _is_everything(node: Node) -> bool:
    return isinstance(node, And) and all(_is_everything(child) for child in node.children)


def _covers_all(nodes: Sequence[Node]) -> bool:
    """Whether one of the nodes is the negation of another."""
    literals = _single_literals(nodes)
    return any(
        found.is_positive and found.identity in _negated_identities(group)
        for group in group_by_path(literals)
        for found in group
    )


def _single_literals(nodes: Sequence[Node]) -> list[Literal]:
    """The literals of the nodes that consist of one."""
    single_nodes = (parts[0] for node in nodes if len(parts := list(flatten(node))) == 1)
    return [found for node in single_nodes if (found := literal(node))]


def _negated_identities(literals: Sequence[Literal]) -> set[Hashable]:
    return {found.identity for found in literals if not found.is_positive} - {None}


def _texts(found: Literal) -> Sequence[str]:
    """The texts of an $eq or $in; none for other operators, or if a value is not text."""
    if found.name not in ("$eq", "$in"):
        return ()
    values = found.operand if found.name == "$in" else [found.operand]
    return values if all(isinstance(value, str) for value in values) else ()


def _datatype_in_key(sk: str) -> str:
    """The datatype in an sk, `<org>/<datatype>/<id>`."""
    return sk.split("/")[1] if sk.count("/") > 1 else ""


_DATATYPE_OF: dict[str, Callable[[str], str]] = {"datatype": str, "sk": _datatype_in_key}


def _no_bits(mask: int | bytes | list[int]) -> bool:
    return not any(mask) if isinstance(mask, bytes) else not mask
