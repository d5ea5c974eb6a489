"""From a filter to what the database runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import bson
from bson.errors import BSONError

from audience_service.domain.core.clock import now
from audience_service.domain.core.errors import AudienceNotFound, DatatypeNotAllowed, FilterTooLarge, InvalidFilter
from audience_service.domain.filters.ast import (
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
from audience_service.domain.filters.audience_inlining import (
    NOT_ARCHIVED,
    AudienceInliner,
    FindAudience,
    with_active_guard,
)
from audience_service.domain.filters.elem_match import element_documents
from audience_service.domain.filters.filter import Document, Filter, Limits
from audience_service.domain.filters.lint.lint import lint_filter
from audience_service.domain.filters.lint.warning import FilterWarning
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.parser import parse

MATCH_NONE: Document = {"$nor": [{}]}
"""A match for no record."""

_MATCH_ALL = And(())

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
    joins: Node | None = None
    field_path: str = field(default="filter", compare=False)
    """Where the request has the filter, or names the audience whose filter it is."""
    has_expressions: bool = False
    """Whether it holds expressions, which fail on values that they cannot take where a condition does not match."""
    node: Node = _MATCH_ALL
    """What `match` and `joined` say, as nodes."""


def _find_no_audience(audience_id: str) -> Filter | MemberList:
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

    def at(self, timestamp: datetime) -> "FilterCompiler":
        """The same as of a moment, from which dates relative to now are reckoned."""
        return FilterCompiler(self._datatypes, self._related, self._limits, lambda: timestamp)

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
        field_path = "where_json" if audience_filter.exact else "where"
        self._check_size(audience_filter.where, field_path)
        node = parse(audience_filter.where, field_path, self._limits, exact=audience_filter.exact, now=self._clock())
        self._check_related(node)
        return node

    def warnings(self, audience_filter: Filter) -> list[FilterWarning]:
        """What can be warned about without a look at any record, with places from `where` on. Raises as parse does."""
        node = self.parse(audience_filter)
        return lint_filter(node, self._clock(), datatype=audience_filter.datatype)

    def compile(
        self, audience_filter: Filter, find: FindAudience = _find_no_audience, parents: tuple[str, ...] = ()
    ) -> CompiledFilter:
        """What finds the filter's records. `within` are the audiences whose filter it is, if any.

        Raises InvalidFilter and its kin, and AudienceNotFound, from `where` (`where_json`) on.
        """
        datatype = audience_filter.datatype
        node = self.parse(audience_filter)
        resolved = with_active_guard(
            AudienceInliner(datatype, find, self.parse, self._limits, parents).inline(node), node
        )
        self._check_joins(_related(resolved))
        compiled = compile_node(datatype, resolved, "where_json" if audience_filter.exact else "where")
        self.check(compiled)
        return compiled

    def check(self, compiled: CompiledFilter) -> None:
        """Raise FilterTooLarge, at its place, where what is sent to the database for a filter is too large.

        Dates take more room once they are spelt out, and audiences once they are put in.
        """
        join_match = to_match(compiled.joins, lambda _: {}) if compiled.joins else {}
        matches = [compiled.match, join_match, *(to_match(join.query) for join in _related(compiled.node))]
        self._check_size(matches, compiled.field_path)
        self._check_nesting(matches, compiled.field_path)

    def _check_size(self, where: Any, field_path: str) -> None:
        try:
            size = len(bson.encode({"where": where}))
        except (BSONError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidFilter.at(field_path, f"cannot be stored: {str(error)[:200]}") from None
        limit = self._limits.size_bytes
        if size > limit:
            raise FilterTooLarge.at(field_path, f"takes {size:,} bytes, more than {limit:,}", limit=str(limit))

    def _check_nesting(self, matches: list[Document], field_path: str) -> None:
        limit, level = self._limits.nesting, list[Any](matches)
        for _ in range(limit):
            level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
            level = [item for item in level if isinstance(item, dict | list)]
            if not level:
                return
        raise FilterTooLarge.at(
            field_path, f"nests more than {limit} objects and lists, audiences included", limit=str(limit)
        )

    def _check_related(self, node: Node) -> None:
        for join in joins(node):
            if isinstance(join, Related) and join.datatype not in self._related:
                allowed = ", ".join(self._related) or "none"
                raise DatatypeNotAllowed.at(
                    f"{join.field_path}.datatype",
                    f"{join.datatype[:50]!r} may not be joined; of these there are {allowed}",
                    allowed=",".join(self._related),
                )

    def _check_joins(self, related: Sequence[Related]) -> None:
        limit = self._limits.related
        if len(related) > limit:
            raise FilterTooLarge.at(
                related[limit].field_path, f"is past the limit of {limit} joins with related records", limit=str(limit)
            )


def compile_node(datatype: str, node: Node, field_path: str = "filter") -> CompiledFilter:
    """What finds the records for which a node holds that has no audience left to resolve."""
    without_joins = [part for part in conjuncts(node) if not joins(part)]
    with_joins = [part for part in conjuncts(node) if joins(part)]
    records = (node, *(join.query for join in _related(node)))
    has_expressions = any(isinstance(inner, Expression) for each in records for inner in walk(each))
    return CompiledFilter(
        datatype,
        to_match(_all(without_joins)),
        _all(with_joins) if with_joins else None,
        field_path,
        has_expressions,
        node,
    )


def _related(node: Node) -> list[Related]:
    return [join for join in joins(node) if isinstance(join, Related)]


def _no_join(join: Join) -> Document:
    raise ValueError(f"{join} takes a look into another collection")


def to_match(node: Node, join_condition: JoinCondition = _no_join) -> Document:
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
                return join_condition(node)
            case InAudience():
                raise ValueError("an audience has not been resolved")

    return inner(node)


def _all(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _any_of(alternatives: list[Document]) -> Document:
    if not alternatives:
        return MATCH_NONE
    return alternatives[0] if len(alternatives) == 1 else {"$or": alternatives}


NOT_ARCHIVED_MATCH: Document = to_match(NOT_ARCHIVED)
"""The guard on records that are no longer in use, as a match."""
