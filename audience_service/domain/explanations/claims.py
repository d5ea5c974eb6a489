"""A filter as what it claims of a record: every condition by itself, with its words and its place, as a tree.

An audience in it is shown with the conditions that it consists of, and so is the guard on records that are no longer in
use, which nobody writes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from audience_service.domain.audiences.audience import as_shown
from audience_service.domain.contact_list import ContactList
from audience_service.domain.filters import Filter, FindAudience
from audience_service.domain.filters.nodes import (
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
from audience_service.domain.filters.resolve import IN_USE, guarded
from audience_service.domain.filters.words.sentence import in_words


@dataclass(frozen=True, slots=True)
class Claim:
    """One condition: `node`, audiences resolved, is what the database judges; `inner` are those that it joins.

    `place` is where the request, or the audience's filter, has it, empty for what is not written. `path` is the field
    in the record that it is on, empty if it is on none.
    """

    node: Node
    words: str
    place: str
    path: str = ""
    inner: tuple["Claim", ...] = ()

    def walk(self) -> Iterator["Claim"]:
        """The claim and all inside it, each before those that it joins."""
        yield self
        for claim in self.inner:
            yield from claim.walk()


_GUARD = Claim(IN_USE, in_words(IN_USE, {}), "", IN_USE.path)


class ClaimReader:
    """Reads the claims of filters that compile: the node of a whole one is the node of the compiled filter.

    `parse` reads a filter, `find` what an audience stands for; `names` are those of audiences.
    """

    def __init__(self, parse: Callable[[Filter], Node], find: FindAudience, names: Mapping[str, str]) -> None:
        self._parse = parse
        self._find = find
        self._names = names

    def audience(self, audience_id: str, place: str, filter_place: str) -> Claim:
        """What an audience claims; the places are where it is named, and where its filter is said to stand."""
        found = self._find(audience_id)
        if isinstance(found, ContactList):
            return self._on_list(found, place)
        return self.whole(as_shown(found), filter_place)

    def whole(self, written: Filter, place: str) -> Claim:
        """What a filter claims; `place` is where it stands."""
        node = self._parse(written)
        claim = self._claim(node, f"{place}.")
        resolved = guarded(claim.node, node)
        if resolved is claim.node:
            return claim
        parts = claim.inner if isinstance(node, And) else (claim,)
        said = IN_USE if node == And(()) else And((node, IN_USE))
        where = f"{place}.{'where_json' if written.exact else 'where'}"
        return Claim(resolved, in_words(said, self._names), where, inner=(*parts, _GUARD))

    def _on_list(self, contacts: ContactList, place: str) -> Claim:
        on_list = OnList(contacts)
        said = Claim(on_list, in_words(on_list, self._names), place)
        return Claim(And((on_list, IN_USE)), in_words(And((on_list, IN_USE)), self._names), place, inner=(said, _GUARD))

    def _claim(self, node: Node, prefix: str) -> Claim:
        if isinstance(node, OnList | Suppressed):
            raise TypeError("a filter as written names audiences, not lists")
        claim = Claim(node, in_words(node, self._names), prefix + node.place)
        match node:
            case And(nodes) | Or(nodes) | Nor(nodes):
                inner = tuple(self._claim(child, prefix) for child in nodes)
                return replace(claim, node=replace(node, children=tuple(part.node for part in inner)), inner=inner)
            case Not(child):
                denied = self._claim(child, prefix)
                return replace(claim, node=replace(node, child=denied.node), inner=(denied,))
            case InAudience(audience_id):
                members = self.audience(audience_id, claim.place, f"{claim.place}.filter")
                return replace(claim, node=members.node, inner=members.inner or (members,))
            case Related(query=query):
                return replace(claim, node=replace(node, query=guarded(query, query)))
            case Condition(path) | ElementMatch(path) | ElementIs(path) | Expression(fields=(path,)):
                return replace(claim, path=path)
        return claim
