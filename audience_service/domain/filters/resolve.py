"""Audiences inside filters: every $inAudience becomes the conditions, or the list, of the audience that it names.

A dynamic audience's members are those that its filter finds, so its conditions take its place; a list stays a list, and
the database looks into it. Archived and deleted records are members of an audience as they are of its own: where its
filter names their state, and never by a list.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from audience_service.domain.contact_list import ContactList
from audience_service.domain.errors import (
    AudienceError,
    AudienceNotFound,
    FilterTooLarge,
    InvalidFilter,
    UnusableAudience,
    Violation,
)
from audience_service.domain.filters.filter import Filter, Limits
from audience_service.domain.filters.nodes import (
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
from audience_service.domain.filters.operators import OPERATORS

IN_USE = Condition("state", OPERATORS["$nin"], ["archived", "deleted"])
"""The guard on records that are no longer in use; a record without a state is in use."""

FindAudience = Callable[[str], Filter | ContactList]
"""The filter or list of an audience of the org. Raises AudienceNotFound, UnusableAudience."""


def guarded(node: Node, written: Node) -> Node:
    """The resolved node for records in use alone, unless the top level of what was written names their state.

    That of an audience in it does not count: its filter speaks of its own members.
    """
    if names_field(written, "state"):
        return node
    return IN_USE if node == And(()) else And((node, IN_USE))


@dataclass(slots=True)
class Resolver:
    """Resolves the audiences of one filter on records of one datatype.

    `parse` reads the filter of an audience found. `within` are the audiences that are being read, outermost first:
    referring to one of them again would have no end.
    """

    datatype: str
    find: FindAudience
    parse: Callable[[Filter], Node]
    limits: Limits
    within: tuple[str, ...] = ()
    _found: dict[str, Node] = field(default_factory=dict)
    _conditions: int = 0

    def resolve(self, node: Node) -> Node:
        """The node without any InAudience. Raises AudienceNotFound, InvalidFilter, FilterTooLarge at their places."""
        self._conditions += _conditions(node)
        return self._resolved(node, self.within)

    def _resolved(self, node: Node, within: tuple[str, ...]) -> Node:
        match node:
            case And(nodes):
                return And(tuple(self._resolved(child, within) for child in nodes))
            case Or(nodes):
                return Or(tuple(self._resolved(child, within) for child in nodes))
            case Nor(nodes):
                return Nor(tuple(self._resolved(child, within) for child in nodes))
            case Not(child):
                return Not(self._resolved(child, within))
            case InAudience():
                return self._members(node, within)
            case Related(query=query):
                return replace(node, query=guarded(query, query))
        return node

    def _members(self, reference: InAudience, within: tuple[str, ...]) -> Node:
        audience_id, place = reference.audience_id, reference.place
        if audience_id in within:
            raise InvalidFilter.at(place, "leads back to an audience that is being read: its members would be endless")
        if len(within) - len(self.within) >= self.limits.audience_depth:
            limit = self.limits.audience_depth
            raise FilterTooLarge.at(place, f"puts more than {limit} audiences inside one another", limit=str(limit))
        node = self._found.get(audience_id)
        if node is None:
            node = self._found[audience_id] = self._look_up(audience_id, place)
        self._count(node, place)
        if isinstance(node, OnList):
            return And((node, IN_USE))
        try:
            return guarded(self._resolved(node, (*within, audience_id)), node)
        except AudienceNotFound as error:
            raise _unusable(place, error) from error
        except InvalidFilter as error:
            # The caller's filter has this place alone; the ones in the audience's filter are another's.
            raise type(error).at(place, error.violations[0].description, **error.metadata) from error

    def _look_up(self, audience_id: str, place: str) -> Node:
        if len(self._found) >= self.limits.audiences:
            limit = self.limits.audiences
            raise FilterTooLarge.at(place, f"is past the limit of {limit} audiences in a filter", limit=str(limit))
        try:
            found = self.find(audience_id)
            datatype = found.datatype
            node = OnList(found) if isinstance(found, ContactList) else self.parse(found)
        except AudienceNotFound as error:
            error.violations = (Violation(place, "names no living audience of the org"),)
            raise
        except (InvalidFilter, UnusableAudience) as error:
            raise _unusable(place, error) from error
        if datatype != self.datatype:
            raise InvalidFilter.at(place, f"is an audience of {datatype}, not of {self.datatype}")
        return node

    def _count(self, node: Node, place: str) -> None:
        self._conditions += _conditions(node)
        if self._conditions > self.limits.conditions:
            limit = self.limits.conditions
            raise FilterTooLarge.at(
                place, f"brings the filter past {limit:,} conditions, those of its audiences included", limit=str(limit)
            )


def _conditions(node: Node) -> int:
    return sum(1 for inner in walk(node) if not isinstance(inner, And))


def _unusable(place: str, error: AudienceError) -> InvalidFilter:
    return InvalidFilter.at(place, f"is an audience whose own filter cannot be run: {error}"[:500])
