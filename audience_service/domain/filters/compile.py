"""From typed nodes to what the database runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from bson.errors import BSONError

from audience_service.domain.clock import now
from audience_service.domain.errors import DatatypeNotAllowed, FilterTooLarge, InvalidFilter
from audience_service.domain.filters.elements import element_documents
from audience_service.domain.filters.filter import Document, Filter, Limits
from audience_service.domain.filters.nodes import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Node,
    Nor,
    Not,
    Or,
    names_field,
)
from audience_service.domain.filters.parse import parse

LIVING: Document = {"state": {"$nin": ["archived", "deleted"]}}
"""The guard on records that are no longer in use; a record without a state is in use."""

NOTHING: Document = {"$nor": [{}]}
"""A match for no record."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """A match on one datatype's collection and the stages after it, of which there are none without joins.

    It knows no tenant: the repository ands the org's scope in.
    """

    datatype: str
    match: Document
    stages: tuple[Document, ...] = ()


class FilterCompiler:
    """Compiles filters over the datatypes that the service is set to serve."""

    def __init__(
        self, datatypes: Sequence[str], limits: Limits | None = None, clock: Callable[[], datetime] = now
    ) -> None:
        self._datatypes = tuple(datatypes)
        self._clock = clock
        self._limits = limits or Limits()

    def check_datatype(self, datatype: str) -> str:
        """The datatype, if it is served. Raises InvalidFilter, DatatypeNotAllowed."""
        if not datatype:
            raise InvalidFilter.at("datatype", f"is missing; name one of {', '.join(self._datatypes)}")
        if datatype not in self._datatypes:
            raise DatatypeNotAllowed.at(
                "datatype",
                f"{datatype[:50]!r} is not served; name one of {', '.join(self._datatypes)}",
                allowed=",".join(self._datatypes),
            )
        return datatype

    def compile(self, audience_filter: Filter) -> CompiledFilter:
        """What finds the filter's records. Raises InvalidFilter and its kin, from `where` (`where_json`) on."""
        datatype = self.check_datatype(audience_filter.datatype)
        if audience_filter.where is None:
            raise InvalidFilter.at("where", "is missing; {} means everyone")
        place = "where_json" if audience_filter.exact else "where"
        self._check_size(audience_filter.where, place)
        node = parse(audience_filter.where, place, self._limits, exact=audience_filter.exact, now=self._clock())
        match = emit(node)
        self._check_size(match, place)  # dates take more room once they are spelt out
        if not names_field(node, "state"):
            match = {"$and": [match, LIVING]} if match else LIVING
        return CompiledFilter(datatype, match)

    def _check_size(self, where: Any, place: str) -> None:
        try:
            size = len(bson.encode({"where": where}))
        except (BSONError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidFilter.at(place, f"cannot be stored: {str(error)[:200]}") from None
        limit = self._limits.size_bytes
        if size > limit:
            raise FilterTooLarge.at(place, f"takes {size:,} bytes, more than {limit:,}", limit=str(limit))


def emit(node: Node) -> Document:
    """The match document of a node."""
    match node:
        case And(()):
            return {}
        case And(children):
            return {"$and": [emit(child) for child in children]}
        case Or(children):
            return {"$or": [emit(child) for child in children]}
        case Nor(children):
            return {"$nor": [emit(child) for child in children]}
        case Not(child):
            # As $not is on a field: the field's conditions fail, or the field is missing. It wraps all alternatives.
            return {"$nor": [emit(child)]}
        case ElementMatch(path, query):
            return {path: {"$elemMatch": emit(query)}}
        case ElementIs(path, conditions):
            return _any_of([{path: {"$elemMatch": document}} for document in element_documents(conditions)])
        case Condition(path, operator, operand):
            return _any_of([{path: alternative} for alternative in operator.emit(operand)])


def _any_of(alternatives: list[Document]) -> Document:
    if not alternatives:
        return NOTHING
    return alternatives[0] if len(alternatives) == 1 else {"$or": alternatives}
