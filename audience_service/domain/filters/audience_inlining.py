"""Replaces every $inAudience in a filter by the conditions, or the list, of the audience that it names.

For example, segment-jp has the filter {"country": "JP"}, and segment-vip is a static list:

    filter      {"$or": [{"$inAudience": "segment-jp"}, {"$inAudience": "segment-vip"}]}
    parsed      Or(InAudience(segment-jp), InAudience(segment-vip))
    inlined     Or(And(country is JP, NOT_ARCHIVED), And(OnList(segment-vip), NOT_ARCHIVED))
    guarded     And(the same, NOT_ARCHIVED)

1. The result contains no InAudience. A filter becomes its conditions; a list becomes a join.
2. An audience has the same members inside a filter as on its own. Archived and deleted records are members only if the
   audience's filter selects states at its top level, and never through a list.
3. An audience that refers to itself, directly or through others, is refused. So are too many audiences or levels.
4. Errors name the path of the $inAudience in the caller's filter, and never a path inside another audience's filter.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from audience_service.domain.core.errors import (
    AudienceError,
    AudienceNotFound,
    FilterTooLarge,
    InvalidFilter,
    UnusableAudience,
    Violation,
)
from audience_service.domain.filters.ast import (
    And,
    Condition,
    InAudience,
    Node,
    Nor,
    Not,
    OnList,
    Or,
    Related,
    Then,
    selects_states,
    walk,
)
from audience_service.domain.filters.filter import Filter, FilterLimits
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.operators import OPERATORS

NOT_ARCHIVED = Condition("state", OPERATORS["$nin"], ["archived", "deleted"])
"""The active guard: the record is neither archived nor deleted. A record without a state passes."""

FindAudience = Callable[[str], Filter | MemberList]
"""The filter or list of an audience of the org. Raises AudienceNotFound, UnusableAudience."""


def with_active_guard(node: Node, original: Node) -> Node:
    """The resolved node with the active guard, unless the top level of the original node selects states.

    A selection in the filter of an inlined audience does not count: it concerns only that audience's members.
    """
    if selects_states(original):
        return node
    return NOT_ARCHIVED if node == And(()) else And((node, NOT_ARCHIVED))


def with_resolved_queries(related: Related, resolve: Callable[[Related], Node]) -> Related:
    """The relation with the resolved query of each of its steps, and the active guard unless it selects states."""
    test, query = related.test, with_active_guard(resolve(related), related.query)
    if isinstance(test, Then):
        test = replace(test, second=with_resolved_queries(test.second, resolve))
    return replace(related, query=query, test=test)


@dataclass(slots=True)
class AudienceInliner:
    """Inlines the audiences of one filter on records of one datatype.

    `parse` reads the filter of an audience. `parents` are the audiences whose filters contain this one, outermost
    first: a reference to one of them is a cycle.
    """

    datatype: str
    find: FindAudience
    parse: Callable[[Filter], Node]
    limits: FilterLimits
    parents: tuple[str, ...] = ()
    is_related: bool = False
    """Whether the filter is on related records."""
    _nodes_by_audience: dict[tuple[str, str], Node] = field(default_factory=dict)
    _conditions: int = 0

    def inline(self, node: Node) -> Node:
        """The node without any InAudience. Raises AudienceNotFound, InvalidFilter, FilterTooLarge at their paths."""
        self._conditions += _conditions(node)
        return self._inline(node, self.parents)

    def _inline(self, node: Node, parents: tuple[str, ...]) -> Node:
        match node:
            case And(nodes):
                return And(tuple(self._inline(child, parents) for child in nodes))
            case Or(nodes):
                return Or(tuple(self._inline(child, parents) for child in nodes))
            case Nor(nodes):
                return Nor(tuple(self._inline(child, parents) for child in nodes))
            case Not(child):
                return Not(self._inline(child, parents))
            case InAudience():
                return self._inline_audience(node, parents)
            case Related() if self.is_related:
                raise InvalidFilter.at(
                    node.field_path, "names an audience with $related, which cannot be inside a $related"
                )
            case Related():
                return with_resolved_queries(node, lambda step: self._inline_related(step, parents))
        return node

    def _inline_related(self, step: Related, parents: tuple[str, ...]) -> Node:
        """The query on the related records without any InAudience: its audiences are of their datatype."""
        inner = replace(self, datatype=step.datatype, is_related=True)
        query = inner._inline(step.query, parents)
        self._conditions = inner._conditions
        return query

    def _inline_audience(self, reference: InAudience, parents: tuple[str, ...]) -> Node:
        audience_id, field_path = reference.audience_id, reference.field_path
        if audience_id in parents:
            raise InvalidFilter.at(
                field_path, "refers back to an audience that contains it; remove one reference of the cycle"
            )
        if len(parents) - len(self.parents) >= self.limits.audience_depth:
            limit = self.limits.audience_depth
            raise FilterTooLarge.at(field_path, f"nests audiences more than {limit} levels deep", limit=str(limit))
        key = (self.datatype, audience_id)
        node = self._nodes_by_audience.get(key)
        if node is None:
            node = self._nodes_by_audience[key] = self._load(audience_id, field_path)
        self._count(node, field_path)
        if isinstance(node, OnList):
            return And((node, NOT_ARCHIVED))
        try:
            return with_active_guard(self._inline(node, (*parents, audience_id)), node)
        except AudienceNotFound as error:
            raise _unusable(field_path, error) from error
        except InvalidFilter as error:
            # The caller does not know the paths inside the audience's filter.
            raise type(error).at(field_path, error.violations[0].description, **error.metadata) from error

    def _load(self, audience_id: str, field_path: str) -> Node:
        if len(self._nodes_by_audience) >= self.limits.audiences:
            limit = self.limits.audiences
            raise FilterTooLarge.at(field_path, f"exceeds the limit of {limit} audiences in a filter", limit=str(limit))
        try:
            found = self.find(audience_id)
            datatype = found.datatype
            node = OnList(found) if isinstance(found, MemberList) else self.parse(found)
        except AudienceNotFound as error:
            error.violations = (Violation(field_path, "names no audience of the org"),)
            raise
        except (InvalidFilter, UnusableAudience) as error:
            raise _unusable(field_path, error) from error
        if datatype != self.datatype:
            raise InvalidFilter.at(field_path, f"is an audience of {datatype}, not of {self.datatype}")
        return node

    def _count(self, node: Node, field_path: str) -> None:
        self._conditions += _conditions(node)
        if self._conditions > self.limits.conditions:
            limit = self.limits.conditions
            raise FilterTooLarge.at(
                field_path,
                f"exceeds the limit of {limit:,} conditions in a filter, those of its audiences included",
                limit=str(limit),
            )


def _conditions(node: Node) -> int:
    """The number of conditions, as the parser counts them: groups and negations do not count."""
    return sum(1 for inner in walk(node) if not isinstance(inner, And | Or | Nor | Not) or inner == And(()))


def _unusable(field_path: str, error: AudienceError) -> InvalidFilter:
    return InvalidFilter.at(field_path, f"is an audience whose own filter cannot run: {error}"[:500])
