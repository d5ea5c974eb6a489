"""Audiences inside filters: every $inAudience becomes the conditions, or the list, of the audience that it names.

A dynamic audience's members are those that its filter finds, so its conditions take its place; a list stays a list, and
the database looks into it. Archived and deleted records are members of an audience as they are of its own: where its
filter names their state, and never by a list.
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
    names_field,
    walk,
)
from audience_service.domain.filters.filter import Filter, Limits
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.operators import OPERATORS

NOT_ARCHIVED = Condition("state", OPERATORS["$nin"], ["archived", "deleted"])
"""The guard on records that are no longer in use; a record without a state is in use."""

FindAudience = Callable[[str], Filter | MemberList]
"""The filter or list of an audience of the org. Raises AudienceNotFound, UnusableAudience."""


def with_active_guard(node: Node, original: Node) -> Node:
    """The resolved node for records in use alone, unless the top level of what was written names their state.

    That of an audience in it does not count: its filter speaks of its own members.
    """
    if names_field(original, "state"):
        return node
    return NOT_ARCHIVED if node == And(()) else And((node, NOT_ARCHIVED))


@dataclass(slots=True)
class AudienceInliner:
    """Resolves the audiences of one filter on records of one datatype.

    `parse` reads the filter of an audience found. `within` are the audiences that are being read, outermost first:
    referring to one of them again would have no end.
    """

    datatype: str
    find: FindAudience
    parse: Callable[[Filter], Node]
    limits: Limits
    parents: tuple[str, ...] = ()
    _nodes_by_audience: dict[str, Node] = field(default_factory=dict)
    _conditions: int = 0

    def inline(self, node: Node) -> Node:
        """The node without any InAudience. Raises AudienceNotFound, InvalidFilter, FilterTooLarge at their places."""
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
            case Related(query=query):
                return replace(node, query=with_active_guard(query, query))
        return node

    def _inline_audience(self, reference: InAudience, parents: tuple[str, ...]) -> Node:
        audience_id, field_path = reference.audience_id, reference.field_path
        if audience_id in parents:
            raise InvalidFilter.at(
                field_path, "leads back to an audience that is being read: its members would be endless"
            )
        if len(parents) - len(self.parents) >= self.limits.audience_depth:
            limit = self.limits.audience_depth
            raise FilterTooLarge.at(
                field_path, f"puts more than {limit} audiences inside one another", limit=str(limit)
            )
        node = self._nodes_by_audience.get(audience_id)
        if node is None:
            node = self._nodes_by_audience[audience_id] = self._load(audience_id, field_path)
        self._count(node, field_path)
        if isinstance(node, OnList):
            return And((node, NOT_ARCHIVED))
        try:
            return with_active_guard(self._inline(node, (*parents, audience_id)), node)
        except AudienceNotFound as error:
            raise _unusable(field_path, error) from error
        except InvalidFilter as error:
            # The caller's filter has this place alone; the ones in the audience's filter are another's.
            raise type(error).at(field_path, error.violations[0].description, **error.metadata) from error

    def _load(self, audience_id: str, field_path: str) -> Node:
        if len(self._nodes_by_audience) >= self.limits.audiences:
            limit = self.limits.audiences
            raise FilterTooLarge.at(field_path, f"is past the limit of {limit} audiences in a filter", limit=str(limit))
        try:
            found = self.find(audience_id)
            datatype = found.datatype
            node = OnList(found) if isinstance(found, MemberList) else self.parse(found)
        except AudienceNotFound as error:
            error.violations = (Violation(field_path, "names no living audience of the org"),)
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
                f"brings the filter past {limit:,} conditions, those of its audiences included",
                limit=str(limit),
            )


def _conditions(node: Node) -> int:
    return sum(1 for inner in walk(node) if not isinstance(inner, And))


def _unusable(field_path: str, error: AudienceError) -> InvalidFilter:
    return InvalidFilter.at(field_path, f"is an audience whose own filter cannot be run: {error}"[:500])
