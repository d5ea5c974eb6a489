"""Compiles filters to MongoDB matches and joins."""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
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
    RecordDate,
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
from audience_service.domain.filters.expression_guards import guarded
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.filter import Document, Filter, FilterLimits
from audience_service.domain.filters.lint.lint import lint_filter
from audience_service.domain.filters.lint.warning import FilterWarning
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.near_city import FindCities
from audience_service.domain.filters.near_date_check import ReadFields, check_near_dates
from audience_service.domain.filters.parser import parse
from audience_service.domain.filters.rebase_dates import zoned_dates
from audience_service.domain.filters.references import audience_references
from audience_service.domain.filters.timezone_groups import timezone_match
from audience_service.domain.filters.values import ValueReader
from audience_service.observability.tracing import traced

MATCH_NONE: Document = {"$nor": [{}]}
"""A match for no record."""

_MATCH_ALL = And(())
_MAX_CACHED_FILTERS, _MAX_CACHED_BYTES = 1_000, 2_048
"""The number of cached filters, and the size of the largest. As nodes and as a match, one takes 20 times as much."""

JoinCondition = Callable[[Join], Document]
"""The condition by which a match decides a join, once its lookups have run."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """A filter in the form that the database runs, on records of one datatype.

    A record must meet `match`, which reads the record alone, and `joins`, which need other collections (None if there
    are none). `to_match` turns `joins` into a match as well. The filter contains no tenant: the repository adds the
    org's scope to it and to every lookup.
    """

    datatype: str
    match: Document
    joins: Node | None = None
    field_path: str = field(default="filter", compare=False)
    """The path of the filter, or of its audience's id, in the request."""
    has_expressions: bool = False
    """Whether it contains expressions. They raise errors on unsuitable values, while conditions do not match."""
    node: Node = _MATCH_ALL
    """`match` and `joins` as nodes."""


def _find_no_audience(audience_id: str) -> Filter | MemberList:
    raise AudienceNotFound.of(audience_id)


@dataclass(slots=True, eq=False, weakref_slot=True)
class ParsedFilter:
    """A filter's nodes, its `where` in BSON, and its compiled form if that depends on the filter alone and is known.

    The same object stands for the same filter while the compiler caches it.
    """

    node: Node
    content: bytes
    compiled: CompiledFilter | None = None


class FilterCompiler:
    """Compiles filters. `datatypes` are those that the service serves, `related` those that $related may join.

    The compiler caches small filters that do not depend on the time. Their nodes and matches are shared by all calls,
    so nobody may change them.
    """

    def __init__(
        self,
        datatypes: Sequence[str],
        related: Sequence[str] = (),
        limits: FilterLimits | None = None,
        clock: Callable[[], datetime] = now,
        find_cities: FindCities | None = None,
    ) -> None:
        self._cache: dict[Hashable, ParsedFilter] = {}
        self._datatypes = tuple(datatypes)
        self._related = tuple(related)
        self._clock = clock
        self._limits = limits or FilterLimits()
        self._find_cities = find_cities

    def at(self, timestamp: datetime) -> "FilterCompiler":
        """The same compiler as of a timestamp, at which relative dates are evaluated."""
        compiler = copy.copy(self)
        compiler._clock = lambda: timestamp
        return compiler

    def check_datatype(self, datatype: str) -> str:
        """The datatype, if the service serves it. Raises InvalidFilter, DatatypeNotAllowed."""
        if not datatype:
            raise InvalidFilter.at("datatype", f"is missing; name one of {', '.join(self._datatypes)}")
        if datatype not in self._datatypes:
            raise DatatypeNotAllowed.at(
                "datatype",
                f"{datatype[:50]!r} is not served; name one of {', '.join(self._datatypes)}",
                allowed=",".join(self._datatypes),
            )
        return datatype

    def check_readable(self, datatype: str) -> str:
        """The datatype, if filters may read it: the service serves it, or $related may join it.

        Raises InvalidFilter, DatatypeNotAllowed.
        """
        return datatype if datatype in self._related else self.check_datatype(datatype)

    def parse(self, audience_filter: Filter) -> Node:
        """The nodes of a filter, its audiences unresolved. Raises InvalidFilter and its subclasses."""
        return self.parse_filter(audience_filter).node

    def parse_filter(self, audience_filter: Filter) -> ParsedFilter:
        """The parsed filter, which may come from the cache. Raises as `parse`."""
        self.check_datatype(audience_filter.datatype)
        if audience_filter.where is None:
            raise InvalidFilter.at("where", "is missing; write {} for all records")
        field_path = "where_json" if audience_filter.exact else "where"
        content = self._check_size(audience_filter.where, field_path)
        key = audience_filter.datatype, audience_filter.exact, content
        if found := self._cache.get(key):
            return found
        reader = ValueReader(self._limits, audience_filter.exact, self._clock(), self._find_cities)
        node = parse(audience_filter.where, field_path, reader)
        self._check_related(node)
        parsed = ParsedFilter(node, content)
        if not (reader.is_time_dependent or reader.is_expanded) and len(content) <= _MAX_CACHED_BYTES:
            if len(self._cache) >= _MAX_CACHED_FILTERS:
                self._cache.clear()
            self._cache[key] = parsed
        return parsed

    def lint(self, node: Node, datatype: str, fields: Mapping[str, Mapping[str, FieldProfile]]) -> list[FilterWarning]:
        """The warnings about a parsed filter. `fields` are the profiles of fields by datatype and path, if known."""
        return lint_filter(node, self._clock(), fields.get(datatype), datatype=datatype, related=fields)

    @traced("compile filter")
    def compile(
        self,
        audience_filter: Filter,
        find: FindAudience = _find_no_audience,
        parents: tuple[str, ...] = (),
        read_fields: ReadFields | None = None,
    ) -> CompiledFilter:
        """The compiled filter. `parents` are the audiences whose filter it is, if any.

        `read_fields` reads what a caller's text in place of dates is checked with; None for a saved filter.

        Raises InvalidFilter and its subclasses, and AudienceNotFound, with paths that start at `where` (`where_json`).
        """
        datatype = audience_filter.datatype
        parsed = self.parse_filter(audience_filter)
        node = parsed.node
        if read_fields:
            check_near_dates(node, datatype, read_fields)
        if parsed.compiled:
            return parsed.compiled
        resolved = with_active_guard(
            AudienceInliner(datatype, find, self.parse, self._limits, parents).inline(node), node
        )
        self._check_joins(_related(resolved))
        compiled = compile_node(datatype, resolved, "where_json" if audience_filter.exact else "where")
        self.check(compiled)
        if not audience_references(audience_filter.where):
            parsed.compiled = compiled
        return compiled

    def check(self, compiled: CompiledFilter) -> None:
        """Raise FilterTooLarge if the compiled filter is too large for the database.

        It can exceed the limits although the caller's filter did not: dates get all their spellings, and audiences are
        inlined.
        """
        join_match = to_match(compiled.joins, lambda _: {}) if compiled.joins else {}
        matches = [
            compiled.match,
            join_match,
            *(to_match(query, lambda _: {}) for join in _related(compiled.node) for query in join.queries),
        ]
        self._check_size(matches, compiled.field_path)
        self._check_nesting(matches, compiled.field_path)

    def _check_size(self, where: Any, field_path: str) -> bytes:
        """The value in BSON. Raises InvalidFilter, FilterTooLarge."""
        try:
            content = bson.encode({"where": where})
        except (BSONError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidFilter.at(field_path, f"cannot be stored: {str(error)[:200]}") from None
        size, limit = len(content), self._limits.size_bytes
        if size > limit:
            raise FilterTooLarge.at(field_path, f"takes {size:,} bytes; the limit is {limit:,}", limit=str(limit))
        return content

    def _check_nesting(self, matches: list[Document], field_path: str) -> None:
        limit, level = self._limits.nesting, list[Any](matches)
        for _ in range(limit):
            level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
            level = [item for item in level if isinstance(item, dict | list)]
            if not level:
                return
        raise FilterTooLarge.at(
            field_path, f"nests objects and lists more than {limit} deep, audiences included", limit=str(limit)
        )

    def _check_related(self, node: Node) -> None:
        for join in (step for related in _related(node) for step in related.steps):
            if join.datatype not in self._related:
                allowed = ", ".join(self._related) or "none"
                raise DatatypeNotAllowed.at(
                    f"{join.field_path}.datatype",
                    f"{join.datatype[:50]!r} may not be joined; the allowed datatypes are: {allowed};"
                    " the setting AUDIENCE_RELATED_DATATYPES names them",
                    allowed=",".join(self._related),
                )

    def _check_joins(self, related: Sequence[Related]) -> None:
        limit = self._limits.related
        if len(related) > limit:
            raise FilterTooLarge.at(
                related[limit].field_path, f"exceeds the limit of {limit} $related joins in a filter", limit=str(limit)
            )


def compile_node(datatype: str, node: Node, field_path: str = "filter") -> CompiledFilter:
    """The compiled filter of a resolved node, which contains no InAudience."""
    parts = evaluation_order(list(conjuncts(node)))
    plain = [part for part in parts if not joins(part)]
    with_joins = [part for part in parts if joins(part)]
    records = (node, *(query for join in _related(node) for query in join.queries))
    has_expressions = any(isinstance(inner, Expression) for each in records for inner in walk(each))
    return CompiledFilter(
        datatype,
        to_match(_all(plain)),
        _all(with_joins) if with_joins else None,
        field_path,
        has_expressions,
        node,
    )


def evaluation_order(nodes: Sequence[Node]) -> list[Node]:
    """Conditions that must all hold, in the order of their evaluation.

    An expression can fail on a value, so conditions that may leave the record out come first.
    """
    return sorted(nodes, key=lambda node: any(isinstance(inner, Expression) for inner in walk(node)))


def _related(node: Node) -> list[Related]:
    return [join for join in joins(node) if isinstance(join, Related)]


def _no_join(join: Join) -> Document:
    raise ValueError(f"{join} needs another collection; pass a join_condition")


def to_match(node: Node, join_condition: JoinCondition = _no_join) -> Document:
    """The match document of a node. `join_condition` creates the condition of a join; without it joins are refused."""

    def inner(node: Node, *, in_element: bool = False) -> Document:
        recurse = inner if not in_element else in_elements
        match node:
            case And(()):
                return {}
            case And((child,)):
                return recurse(child)
            case And(nodes):
                return {"$and": [recurse(child) for child in evaluation_order(nodes)]}
            case Or(nodes):
                return {"$or": [recurse(child) for child in nodes]}
            case Nor(nodes):
                return {"$nor": [recurse(child) for child in nodes]}
            case Not(child):
                # $nor has the meaning of $not on a field, and can wrap several alternatives.
                return {"$nor": [recurse(child)]}
            case Condition() | ElementMatch() | ElementIs() if dates := zoned_dates(node):
                return timezone_match(node, dates, recurse)
            case ElementMatch(path, query):
                return {path: {"$elemMatch": in_elements(query)}}
            case ElementIs(path, conditions):
                return _any_of(
                    [{path: {"$elemMatch": document}} for document in element_documents(conditions, in_elements)]
                )
            case Condition(path, operator, operand):
                if operator.match:
                    return operator.match(path, operand, in_element)
                return _any_of([{path: alternative} for alternative in operator.emit(operand)])
            case Expression(document, is_lenient=is_lenient):
                return {"$expr": guarded(document) if is_lenient else document}
            case OnList() | Related() | RecordDate() | Suppressed():
                return join_condition(node)
            case InAudience():
                raise ValueError("the node contains an unresolved audience; inline it first")

    def in_elements(node: Node) -> Document:
        return inner(node, in_element=True)

    return inner(node)


def without_joins(node: Node) -> Node:
    """The conditions of a node that read the record alone, and must all hold."""
    return _all([part for part in conjuncts(node) if not joins(part)])


def _all(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _any_of(alternatives: list[Document]) -> Document:
    if not alternatives:
        return MATCH_NONE
    return alternatives[0] if len(alternatives) == 1 else {"$or": alternatives}


NOT_ARCHIVED_MATCH: Document = to_match(NOT_ARCHIVED)
"""The active guard as a match."""
