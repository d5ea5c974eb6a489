"""The lint rule on names that collide: a bare name means the record's own field, not the payload's field of that name.

{"state": {"$ne": "CA"}}     the record's lifecycle, which is never CA; the payload's field is data.state
"""

from collections.abc import Iterator

from audience_service.domain.filters.ast import (
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Node,
    RecordDate,
    Related,
    is_state_selection,
)
from audience_service.domain.filters.field_usage import further_paths
from audience_service.domain.filters.fields import LIFECYCLE_STATES, SYSTEM_FIELDS
from audience_service.domain.filters.lint.conjunctions import Subject, unwrap_negation
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_COMPARED = ("$eq", "$ne", "$in", "$nin")


def find_system_fields(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions on a system field whose name the payload has as well, or on states that the platform lacks."""
    for conjunction in linted.conjunctions:
        if conjunction.subject is not Subject.RECORD:
            continue
        index = linted.indexes.get(conjunction.datatype)
        for node in conjunction.nodes:
            inner = unwrap_negation(node)[0]
            for path, field_path in _paths(inner):
                yield from _warning(inner, path, field_path, index)
            for step in inner.steps if isinstance(inner, Related) else ():
                related = linted.indexes.get(step.datatype)
                for path, field_path in step.paths:
                    yield from _warning(inner, path, field_path, related)


def _warning(node: Node, path: str, field_path: str, index: FieldIndex | None) -> Iterator[FilterWarning]:
    name = path.partition(".")[0]
    if name not in SYSTEM_FIELDS:
        return
    if index is not None and index.in_payload(name):
        text = (
            f"is the record's own {name}; records also have data.{name}, so for the payload's field write data.{path}"
        )
        yield FilterWarning(field_path, LintRule.SYSTEM_FIELD, text)
    elif path == "state" and isinstance(node, Condition) and not _compares_states(node):
        states = ", ".join(LIFECYCLE_STATES)
        text = f"is the record's lifecycle ({states}), compared with something else; for the payload write data.state"
        yield FilterWarning(field_path, LintRule.SYSTEM_FIELD, text)


def _compares_states(node: Condition) -> bool:
    """Whether a condition on `state` compares it with states of the platform, or tests that it exists."""
    if node.operator.name not in _COMPARED:
        return node.operator.name in ("$exists", "$type")
    values = node.operand if node.operator.name in ("$in", "$nin") else [node.operand]
    return is_state_selection(node) or all(value is None or value in LIFECYCLE_STATES for value in values)


def _paths(node: Node) -> Iterator[tuple[str, str]]:
    match node:
        case Condition(path, field_path=here) | ElementMatch(path, field_path=here) | ElementIs(path, field_path=here):
            yield path, here
            for path in further_paths(node):
                yield path, here
        case Expression(_, paths, field_path):
            for path in paths:
                yield path, field_path
        case Related(steps=steps):
            for step in steps:
                yield step.local, f"{step.on_path}.local"
            for date in node.record_dates:
                yield date.record_path, date.field_path
        case RecordDate(path, field_path=field_path):
            yield path, field_path
