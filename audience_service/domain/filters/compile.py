"""From a filter to what the database runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import bson
from bson.errors import BSONError

from audience_service.domain.clock import now
from audience_service.domain.contact_list import ContactList
from audience_service.domain.errors import AudienceNotFound, DatatypeNotAllowed, FilterTooLarge, InvalidFilter
from audience_service.domain.filters.elements import element_documents
from audience_service.domain.filters.filter import Document, Filter, Limits
from audience_service.domain.filters.nodes import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    InAudience,
    Join,
    Node,
    Nor,
    Not,
    OnList,
    Or,
    Related,
    Suppressed,
    conjuncts,
    joins,
    walk,
)
from audience_service.domain.filters.parse import parse
from audience_service.domain.filters.resolve import IN_USE, FindAudience, Resolver, guarded
from audience_service.domain.filters.warnings.warning import FilterWarning
from audience_service.domain.filters.warnings.warnings import filter_warnings

NOTHING: Document = {"$nor": [{}]}
"""A match for no record."""

_EVERYONE = And(())

JoinCondition = Callable[[Join], Document]
"""What tells, once other collections have been looked into, whether a join holds."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """What finds the records of one datatype.

    `match` are the conditions that the record alone decides. `joined` are those that take a look into other
    collections, None where there are none: `emit` makes a match of them too, told what the look has brought. Both must
    hold. It knows no tenant: the repository ands the org's scope in, and everywhere that it looks.
    """

    datatype: str
    match: Document
    joined: Node | None = None
    place: str = field(default="filter", compare=False)
    """Where the request has the filter, or names the audience whose filter it is."""
    expressions: bool = False
    """Whether it holds expressions, which fail on values that they cannot take where a condition does not match."""
    node: Node = _EVERYONE
    """What `match` and `joined` say, as nodes."""


def _nowhere(audience_id: str) -> Filter | ContactList:
    raise AudienceNotFound.of(audience_id)


class FilterCompiler:
    """Compiles filters over the datatypes that the service is set to serve, joined with those that it may relate."""

    def __init__(
        self,
        datatypes: Sequence[str],
        related: Sequence[str] = (),
        limits: Limits | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._datatypes = tuple(datatypes)
        self._related = tuple(related)
        self._clock = clock
        self._limits = limits or Limits()

    def at(self, moment: datetime) -> "FilterCompiler":
        """The same as of a moment, from which dates relative to now are reckoned."""
        return FilterCompiler(self._datatypes, self._related, self._limits, lambda: moment)

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

    def parse(self, audience_filter: Filter) -> Node:
        """The nodes of a filter as it is written, audiences not looked up. Raises as compile does."""
        self.check_datatype(audience_filter.datatype)
        if audience_filter.where is None:
            raise InvalidFilter.at("where", "is missing; {} means everyone")
        place = "where_json" if audience_filter.exact else "where"
        self._check_size(audience_filter.where, place)
        node = parse(audience_filter.where, place, self._limits, exact=audience_filter.exact, now=self._clock())
        self._check_related(node)
        return node

    def warnings(self, audience_filter: Filter) -> list[FilterWarning]:
        """What can be warned about without a look at any record, with places from `where` on. Raises as parse does."""
        node = self.parse(audience_filter)
        return filter_warnings(node, self._clock(), datatype=audience_filter.datatype)

    def compile(
        self, audience_filter: Filter, find: FindAudience = _nowhere, within: tuple[str, ...] = ()
    ) -> CompiledFilter:
        """What finds the filter's records. `within` are the audiences whose filter it is, if any.

        Raises InvalidFilter and its kin, and AudienceNotFound, from `where` (`where_json`) on.
        """
        datatype = audience_filter.datatype
        node = self.parse(audience_filter)
        resolved = guarded(Resolver(datatype, find, self.parse, self._limits, within).resolve(node), node)
        self._check_joins(_related(resolved))
        compiled = of_node(datatype, resolved, "where_json" if audience_filter.exact else "where")
        self.check(compiled)
        return compiled

    def check(self, compiled: CompiledFilter) -> None:
        """Raise FilterTooLarge, at its place, where what is sent to the database for a filter is too large.

        Dates take more room once they are spelt out, and audiences once they are put in.
        """
        joined = emit(compiled.joined, lambda _: {}) if compiled.joined else {}
        spelt_out = [compiled.match, joined, *(emit(join.query) for join in _related(compiled.node))]
        self._check_size(spelt_out, compiled.place)
        self._check_nesting(spelt_out, compiled.place)

    def _check_size(self, where: Any, place: str) -> None:
        try:
            size = len(bson.encode({"where": where}))
        except (BSONError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidFilter.at(place, f"cannot be stored: {str(error)[:200]}") from None
        limit = self._limits.size_bytes
        if size > limit:
            raise FilterTooLarge.at(place, f"takes {size:,} bytes, more than {limit:,}", limit=str(limit))

    def _check_nesting(self, emitted: list[Document], place: str) -> None:
        limit, level = self._limits.nesting, list[Any](emitted)
        for _ in range(limit):
            level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
            level = [item for item in level if isinstance(item, dict | list)]
            if not level:
                return
        raise FilterTooLarge.at(
            place, f"nests more than {limit} objects and lists, audiences included", limit=str(limit)
        )

    def _check_related(self, node: Node) -> None:
        for join in joins(node):
            if isinstance(join, Related) and join.datatype not in self._related:
                allowed = ", ".join(self._related) or "none"
                raise DatatypeNotAllowed.at(
                    f"{join.place}.datatype",
                    f"{join.datatype[:50]!r} may not be joined; of these there are {allowed}",
                    allowed=",".join(self._related),
                )

    def _check_joins(self, related: Sequence[Related]) -> None:
        limit = self._limits.related
        if len(related) > limit:
            raise FilterTooLarge.at(
                related[limit].place, f"is past the limit of {limit} joins with related records", limit=str(limit)
            )


def of_node(datatype: str, node: Node, place: str = "filter") -> CompiledFilter:
    """What finds the records for which a node holds that has no audience left to resolve."""
    plain = [part for part in conjuncts(node) if not joins(part)]
    joined = [part for part in conjuncts(node) if joins(part)]
    records = (node, *(join.query for join in _related(node)))
    expressions = any(isinstance(inner, Expression) for each in records for inner in walk(each))
    return CompiledFilter(datatype, emit(_all(plain)), _all(joined) if joined else None, place, expressions, node)


def _related(node: Node) -> list[Related]:
    return [join for join in joins(node) if isinstance(join, Related)]


def _no_join(join: Join) -> Document:
    raise ValueError(f"{join} takes a look into another collection")


def emit(node: Node, joined: JoinCondition = _no_join) -> Document:
    """The match document of a node. `joined` makes the condition of a join; without it the node must hold none."""

    def inner(node: Node) -> Document:
        match node:
            case And(()):
                return {}
            case And((child,)):
                return inner(child)
            case And(nodes):
                return {"$and": [inner(child) for child in nodes]}
            case Or(nodes):
                return {"$or": [inner(child) for child in nodes]}
            case Nor(nodes):
                return {"$nor": [inner(child) for child in nodes]}
            case Not(child):
                # As $not is on a field: its conditions fail, or the field is missing. It wraps all alternatives.
                return {"$nor": [inner(child)]}
            case ElementMatch(path, query):
                return {path: {"$elemMatch": inner(query)}}
            case ElementIs(path, conditions):
                return _any_of([{path: {"$elemMatch": document}} for document in element_documents(conditions)])
            case Condition(path, operator, operand):
                return _any_of([{path: alternative} for alternative in operator.emit(operand)])
            case Expression(document):
                return {"$expr": document}
            case OnList() | Related() | Suppressed():
                return joined(node)
            case InAudience():
                raise ValueError("an audience has not been resolved")

    return inner(node)


def _all(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _any_of(alternatives: list[Document]) -> Document:
    if not alternatives:
        return NOTHING
    return alternatives[0] if len(alternatives) == 1 else {"$or": alternatives}


LIVING: Document = emit(IN_USE)
"""The guard on records that are no longer in use, as a match."""
