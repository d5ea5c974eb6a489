"""Refuses text that is almost a date as the bound of a field that holds dates.

A sample of the org's records shows what a field holds:

    field in the sample                  20261101, 2026.10.1      -30 days, 11/01/2026
    holds dates                          refused                  refused
    holds other text, and no dates       compared as text         compared as text
    unknown, or no sample                compared as text         refused

Only filters that a caller sends are checked. A saved filter was checked when it was saved, and keeps its meaning.
"""

from collections.abc import Callable, Iterator, Mapping

from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.ast import Condition, Node
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.lint.conjunctions import all_nodes, conjunctions, unwrap_negation
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.near_dates import is_unmistakable, suggest
from audience_service.domain.filters.relative_dates import ResolvedDate

ReadFields = Callable[[str], Mapping[str, FieldProfile]]
"""Reads the profiles of a datatype's fields by path; empty without a sample."""

_DATE_FIELDS = ("createdate", "modifydate")
"""System fields that hold dates in every record."""
ORDERS = ("$gt", "$gte", "$lt", "$lte")


def check_near_dates(node: Node, datatype: str, read_fields: ReadFields) -> None:
    """Raise InvalidFilter at the first bound that is almost a date, if the field holds dates or may hold them.

    A filter without such bounds reads no fields.
    """
    if not any(near_date(found) for found in all_nodes(node)):
        return
    indexes: dict[str, FieldIndex] = {}
    for name, path, found in _near_dates(node, datatype):
        index = indexes[name] = indexes.get(name) or FieldIndex.of(read_fields(name))
        if path in _DATE_FIELDS or _is_refused(found.operand, index.profile(path)):
            raise InvalidFilter.at(
                found.field_path,
                f"is text that is not an ISO 8601 date; write {suggest(found.operand)};"
                " to compare it as text, use $expr",
            )


def near_date(node: Node) -> str:
    """What to write instead of the bound of an order comparison that is almost a date; empty for other nodes."""
    if not isinstance(node, Condition) or node.operator.name not in ORDERS:
        return ""
    is_text = isinstance(node.operand, str) and not isinstance(node.operand, ResolvedDate)
    return suggest(node.operand) if is_text else ""


def _is_refused(text: str, profile: FieldProfile | None) -> bool:
    """Whether text that is almost a date is refused as a bound of a payload field; None is an unknown field."""
    if profile is not None and (profile.types.get("date", 0) > 0 or profile.date_texts > 0):
        return True
    has_text = profile is not None and profile.types.get("string", 0) > 0
    return not has_text and is_unmistakable(text)


def _near_dates(node: Node, datatype: str) -> Iterator[tuple[str, str, Condition]]:
    """The datatype, path and condition of each bound that is almost a date."""
    for conjunction in conjunctions(node, datatype):
        for found in conjunction.nodes:
            inner = unwrap_negation(found)[0]
            if isinstance(inner, Condition) and near_date(inner):
                yield conjunction.datatype, conjunction.path(inner.path), inner
