"""What can be said of a filter without a look at any record: that a place in it always holds, or never.

Only what is certain is said. Two bounds that exclude one another, say, may be met by two elements of an array; so they
are held against one another only where there is a single value: an element itself, or a field of the envelope.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Node,
    Nor,
    Or,
    Related,
    names_field,
)
from audience_service.domain.filters.lint.conjunctions import Conjunction, Subject, all_nodes, conjunctions, flatten
from audience_service.domain.filters.lint.intervals import find_contradiction
from audience_service.domain.filters.lint.literals import Literal, literal
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_SINGLE_VALUED = frozenset(("pk", "sk", "name", "datatype", "version", "state", "createdate", "modifydate"))
"""The envelope's fields that hold one value each, by the platform's record model."""
_ARCHIVED_STATES = frozenset(("archived", "deleted"))

_Row = tuple[str, Callable[[Any], bool], LintRule, str]

_BY_OPERAND: tuple[_Row, ...] = (
    ("$in", lambda values: not values, LintRule.ALWAYS_FALSE, "lists no value that could be met"),
    ("$nin", lambda values: not values, LintRule.ALWAYS_TRUE, "lists no value that it could rule out"),
    ("$all", lambda values: not values, LintRule.ALWAYS_FALSE, "lists no values, and such a list is met by nothing"),
    ("$mod", lambda pair: abs(pair[1]) >= abs(pair[0]), LintRule.ALWAYS_FALSE, "asks for more than division can leave"),
    ("$bitsAnySet", lambda bits: _no_bits(bits), LintRule.ALWAYS_FALSE, "names no bit that could be set"),
    ("$bitsAnyClear", lambda bits: _no_bits(bits), LintRule.ALWAYS_FALSE, "names no bit that could be clear"),
    ("$gt", lambda value: value is None or value is True, LintRule.ALWAYS_FALSE, "asks for more than the greatest"),
    ("$lt", lambda value: value is None or value is False or value == "", LintRule.ALWAYS_FALSE,
     "asks for less than the least"),
)  # fmt: skip
"""Operators that hold always or never by their operand alone."""


def find_tautologies(node: Node, datatype: str) -> Iterator[FilterWarning]:
    """The places in a filter on a datatype that always hold, or never."""
    for inner in all_nodes(node):
        yield from _check_alone(inner)
    for conjunction in conjunctions(node, datatype):
        literals = [found for inner in conjunction.nodes if (found := literal(inner))]
        for group in _group_by_path(literals):
            yield from _find_contradictions(group)
            yield from _find_disjoint_bounds(conjunction, group)
        yield from _find_conditions_on_absent_fields(conjunction, literals)
        if conjunction.subject is Subject.RECORD:
            yield from _find_other_datatypes(conjunction, literals)
            yield from _find_archived_states(conjunction, literals)


def _always_true(field_path: str, detail: str) -> FilterWarning:
    return FilterWarning(field_path, LintRule.ALWAYS_TRUE, f"always holds: it {detail}")


def _always_false(field_path: str, detail: str) -> FilterWarning:
    return FilterWarning(field_path, LintRule.ALWAYS_FALSE, f"never holds: it {detail}")


_WARNING_BY_RULE = {LintRule.ALWAYS_TRUE: _always_true, LintRule.ALWAYS_FALSE: _always_false}


def _check_alone(node: Node) -> Iterator[FilterWarning]:
    match node:
        case Condition(_, operator, operand, field_path):
            for name, predicate, rule, detail in _BY_OPERAND:
                if name == operator.name and predicate(operand):
                    yield _WARNING_BY_RULE[rule](field_path, detail)
        case Or(nodes, field_path):
            if any(_is_everything(child) for child in nodes):
                yield _always_true(field_path, "has an empty condition, which everything meets")
            elif _covers_all(nodes):
                yield _always_true(field_path, "takes what meets a condition and what does not")
        case Nor(nodes, field_path) if any(_is_everything(child) for child in nodes):
            yield _always_false(field_path, "rules out an empty condition, which everything meets")
        case Related(min_count=min_count, max_count=max_count, field_path=field_path):
            if max_count is not None and max_count < min_count:
                yield _always_false(f"{field_path}.count", "asks for more records than it allows")
            elif min_count == 0 and max_count is None:
                yield _always_true(f"{field_path}.count", "allows any number of records")


def _is_everything(node: Node) -> bool:
    return isinstance(node, And) and all(_is_everything(child) for child in node.children)


def _covers_all(nodes: Sequence[Node]) -> bool:
    """Whether one of the nodes denies what another affirms."""
    single_nodes = (parts[0] for node in nodes if len(parts := list(flatten(node))) == 1)
    literals = [found for node in single_nodes if (found := literal(node))]
    return any(
        found.is_positive and found.identity in _negated_identities(group)
        for group in _group_by_path(literals)
        for found in group
    )


def _negated_identities(literals: Sequence[Literal]) -> set[Hashable]:
    return {found.identity for found in literals if not found.is_positive} - {None}


def _find_contradictions(literals: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What is affirmed where it is denied, by one condition or by several together."""
    negated = _negated_identities(literals)
    if not negated:
        return
    values = frozenset[Hashable]().union(*(found.values or () for found in literals if not found.is_positive))
    for found in literals:
        if found.is_positive and (found.identity in negated or (found.values and found.values <= values)):
            yield _always_false(found.condition.field_path, "asks for what is ruled out beside it")


def _find_disjoint_bounds(conjunction: Conjunction, literals: Sequence[Literal]) -> Iterator[FilterWarning]:
    is_envelope_field = conjunction.subject is Subject.RECORD and literals[0].path in _SINGLE_VALUED
    if (is_envelope_field or conjunction.subject is Subject.VALUE) and (found := find_contradiction(literals)):
        yield _always_false(found.condition.field_path, "asks for a value that what stands beside it leaves out")


def _find_conditions_on_absent_fields(conjunction: Conjunction, literals: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What asks something of a field that is not to be there."""
    absent = {found.path for found in literals if found.name == "$exists" and not found.is_positive}
    if not absent:
        return
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
            yield _always_false(field_path, "asks something of a field that must not be there")


def _find_other_datatypes(conjunction: Conjunction, literals: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What asks for records of another datatype."""
    for found in literals if conjunction.datatype else ():
        if found.path in _DATATYPE_OF and found.is_positive and (texts := _texts(found)):
            datatype_of = _DATATYPE_OF[found.path]
            if all(datatype_of(text) != conjunction.datatype for text in texts):
                yield _always_false(
                    found.condition.field_path, f"asks for records that are of no {conjunction.datatype}"
                )


def _find_archived_states(conjunction: Conjunction, literals: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What asks for archived and deleted records where the guard on them stands."""
    if conjunction.is_root or not conjunction.is_positive or names_field(conjunction.root, "state"):
        return
    for found in literals:
        texts = _texts(found) if found.path == "state" and found.is_positive else ()
        if texts and _ARCHIVED_STATES.issuperset(texts):
            yield _always_false(
                found.condition.field_path,
                "asks for archived or deleted records, left out unless the top level of the filter names state",
            )


def _group_by_path(literals: Sequence[Literal]) -> Iterable[Sequence[Literal]]:
    grouped: dict[str, list[Literal]] = {}
    for found in literals:
        grouped.setdefault(found.path, []).append(found)
    return [group for group in grouped.values() if len(group) > 1]


def _texts(found: Literal) -> Sequence[str]:
    """The texts one of which it asks for; none where it asks for anything else."""
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
