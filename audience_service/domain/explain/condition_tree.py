"""A filter as a tree of conditions, each with its description and field path.

An audience in the filter has its own conditions as children. The active guard is part of the tree, although no caller
writes it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from audience_service.domain.audiences.model import to_response_form
from audience_service.domain.filters import Filter, FindAudience
from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    InAudience,
    Node,
    Nor,
    Not,
    OnList,
    Or,
    Related,
    Suppressed,
)
from audience_service.domain.filters.audience_inlining import (
    NOT_ARCHIVED,
    with_active_guard,
    with_resolved_queries,
)
from audience_service.domain.filters.describe.sentence import describe
from audience_service.domain.filters.member_list import MemberList


@dataclass(frozen=True, slots=True)
class ConditionTree:
    """One condition and its `children`. The database evaluates `node`, whose audiences are resolved.

    `field_path` is the condition's path in the request, or in the audience's filter; empty for the active guard. `path`
    is the field in the record that the condition reads; empty if it reads none or more than one.
    """

    node: Node
    description: str
    field_path: str
    path: str = ""
    children: tuple["ConditionTree", ...] = ()

    def walk(self) -> Iterator["ConditionTree"]:
        """The condition and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


_ACTIVE_GUARD = ConditionTree(NOT_ARCHIVED, describe(NOT_ARCHIVED, {}), "", NOT_ARCHIVED.path)


class ConditionTreeBuilder:
    """Builds the condition trees of filters that compile. The root's node is the node of the compiled filter.

    `parse` reads a filter, `find` loads the filter or list of an audience, `names` are display names by audience id.
    """

    def __init__(self, parse: Callable[[Filter], Node], find: FindAudience, names: Mapping[str, str]) -> None:
        self._parse = parse
        self._find = find
        self._names = names

    def build_audience(self, audience_id: str, field_path: str, filter_path: str) -> ConditionTree:
        """The tree of an audience. `field_path` is the path of its id, `filter_path` that of its filter."""
        found = self._find(audience_id)
        if isinstance(found, MemberList):
            return self._build_list(found, field_path)
        return self.build_filter(to_response_form(found), filter_path)

    def build_filter(self, audience_filter: Filter, field_path: str) -> ConditionTree:
        """The tree of a filter, whose paths start with `field_path`."""
        node = self._parse(audience_filter)
        tree = self._build(node, f"{field_path}.")
        resolved = with_active_guard(tree.node, node)
        if resolved is tree.node:
            return tree
        children = tree.children if isinstance(node, And) else (tree,)
        described = NOT_ARCHIVED if node == And(()) else And((node, NOT_ARCHIVED))
        where_path = f"{field_path}.{'where_json' if audience_filter.exact else 'where'}"
        return ConditionTree(
            resolved, describe(described, self._names), where_path, children=(*children, _ACTIVE_GUARD)
        )

    def _build_list(self, member_list: MemberList, field_path: str) -> ConditionTree:
        on_list = OnList(member_list)
        list_tree = ConditionTree(on_list, describe(on_list, self._names), field_path)
        return ConditionTree(
            And((on_list, NOT_ARCHIVED)),
            describe(And((on_list, NOT_ARCHIVED)), self._names),
            field_path,
            children=(list_tree, _ACTIVE_GUARD),
        )

    def _build(self, node: Node, prefix: str) -> ConditionTree:
        if isinstance(node, OnList | Suppressed):
            raise TypeError("a parsed filter contains audience ids, not lists; pass the node before it is resolved")
        tree = ConditionTree(node, describe(node, self._names), prefix + node.field_path)
        match node:
            case And(nodes) | Or(nodes) | Nor(nodes):
                children = tuple(self._build(child, prefix) for child in nodes)
                return replace(
                    tree, node=replace(node, children=tuple(part.node for part in children)), children=children
                )
            case Not(child):
                negated = self._build(child, prefix)
                return replace(tree, node=replace(node, child=negated.node), children=(negated,))
            case InAudience(audience_id):
                audience_tree = self.build_audience(audience_id, tree.field_path, f"{tree.field_path}.filter")
                return replace(tree, node=audience_tree.node, children=audience_tree.children or (audience_tree,))
            case Related():
                resolved = with_resolved_queries(node, lambda step: self._build(step.query, prefix).node)
                return replace(tree, node=resolved)
            case Condition(path) | ElementMatch(path) | ElementIs(path) | Expression(fields=(path,)):
                return replace(tree, path=path)
        return tree
