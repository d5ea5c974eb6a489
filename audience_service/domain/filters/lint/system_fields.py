"""The lint rule on names that collide: a bare name means the record's own field, not the payload's field of that name.

{"state": {"$ne": "CA"}}     the record's lifecycle, which is never CA; the payload's field is data.state
"""

from collections.abc import Iterator

from audience_service.domain.filters.ast import (
    Condition,
    Node,
    is_state_selection,
)
from audience_service.domain.filters.fields import LIFECYCLE_STATES, SYSTEM_FIELDS
from audience_service.domain.filters.lint.conjunctions import Subject
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_COMPARED = ("$eq", "$ne", "$in", "$nin")


def find_system_fields(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions on a system field whose name the payload has as well, or on states that the platform lacks."""
    for read in linted.reads():
        if read.conjunction.subject is Subject.RECORD:
            yield from _warning(read.node, read.path, read.field_path, read.index)


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
