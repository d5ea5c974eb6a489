"""Which conditions an index could serve, and the best order of their fields in one.

Equalities come first, then one range, and sk last: behind an equality the entries of an index are in order of the next
field, behind a range they are not (MongoDB manual, the ESR guideline).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.filters.ast import And, Condition, ElementIs, ElementMatch, Node, conjuncts
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.operators import Pattern

MatchShares = Callable[[Sequence[Node]], Sequence[float]]
"""For each node, the share of the org's records that match it, 0 to 1."""

_FEW_VALUES = 10
"""Values that $in may list to be taken for an equality, each of which is looked up on its own."""
_MAX_EQUALITIES = 3
_NARROW_SHARE = 0.5
"""The share of records up to which a field is worth its place beside others."""

_PREFIX = re.compile(r"(?:\^|\\A)(?:[^\\^$.|?*+()\[\]{}]|\\[^\w\s])(?![*?{])")
"""A pattern that begins with a character that stands for itself, at the beginning of the text."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A field, and the conditions on it that an index could serve. `array` is the list that it is in, if any."""

    path: str
    is_equality: bool
    nodes: tuple[Node, ...]
    array: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of an index in order, sk aside: so many equalities, then at most one range."""

    candidates: tuple[Candidate, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths of an index's fields in order."""
        return (*(candidate.path for candidate in self.candidates), "sk")

    @property
    def node(self) -> Node:
        """What the index decides: the records that are read through it meet this."""
        nodes: list[Node] = []
        for candidate in self.candidates:
            nodes += [
                node for node in candidate.nodes if node not in nodes
            ]  # operands may be lists, which have no hash
        return And(tuple(nodes))

    def served_by(self, fields: Sequence[str]) -> bool:
        """Whether an index on these fields does as well: the order of equalities does not count."""
        equal = [candidate.path for candidate in self.candidates if candidate.is_equality]
        return set(fields[: len(equal)]) == set(equal) and self.fields[len(equal) : -1] == tuple(
            fields[len(equal) : len(self.candidates)]
        )


def candidates(nodes: Iterable[Node], profiles: Mapping[str, FieldProfile]) -> list[Candidate]:
    """The fields that an index could be on, of conditions all of which must hold."""
    found: dict[str, Candidate] = {}
    for node in nodes:
        for path, equality, array in _usable_fields(node):
            if path == "sk" or any(step.isdecimal() for step in path.split(".")):
                continue
            before = found.get(path, Candidate(path, False, ()))
            found[path] = Candidate(
                path,
                before.is_equality or equality,
                (*before.nodes, node),
                before.array or array or _array_on(path, profiles),
            )
    return list(found.values())


def choose(found: Sequence[Candidate], match_shares: MatchShares) -> Columns | None:
    """The most selective fields that one index can hold, None where there are none."""
    estimates = match_shares([And(candidate.nodes) for candidate in found])
    shares = {candidate.path: estimate for candidate, estimate in zip(found, estimates, strict=True)}
    # MongoDB refuses an index on two lists.
    lists = [candidate for candidate in found if candidate.array is not None]
    best_list = min(lists, key=lambda candidate: shares[candidate.path], default=None)
    usable = [c for c in found if c.array is None or (best_list and c.array == best_list.array)]
    usable.sort(key=lambda candidate: shares[candidate.path])
    narrow = [candidate for candidate in usable if shares[candidate.path] <= _NARROW_SHARE] or usable[:1]
    equal = [candidate for candidate in narrow if candidate.is_equality][:_MAX_EQUALITIES]
    ranges = [candidate for candidate in narrow if not candidate.is_equality][:1]
    return Columns((*equal, *ranges)) if equal or ranges else None


def _usable_fields(node: Node) -> list[tuple[str, bool, str | None]]:
    """The fields on which an index could serve a condition: path, whether by equality, the list it surely is in."""
    match node:
        case Condition(path, operator, operand):
            equality = _index_use(operator.name, operand)
            return [] if equality is None else [(path, equality, path if operator.name == "$all" else None)]
        case ElementIs(path, conditions):
            inner = [equality for condition in conditions for _, equality, _ in _usable_fields(condition)]
            return [(path, any(inner), path)] if inner else []
        case ElementMatch(path, query):
            found = [usable for condition in conjuncts(query) for usable in _usable_fields(condition)]
            return [(f"{path}.{inner}", equality, path) for inner, equality, _ in found]
    return []


def _index_use(name: str, operand: object) -> bool | None:
    """Whether an index finds what meets an operator, and as an equality; None where it does not.

    Null aside, which also stands for records without the field; and what is found by reading alone: negations, sizes,
    types, remainders, bits, patterns that may begin anywhere.
    """
    match name, operand:
        case "$eq", _:
            return None if operand is None else True
        case (("$in" | "$all"), list()):
            return None if not operand or None in operand else name == "$all" or len(operand) <= _FEW_VALUES
        case (("$gt" | "$gte" | "$lt" | "$lte"), _):
            return None if operand is None else False
        case "$regex", Pattern(text, options):
            anchored = _PREFIX.match(text) and "|" not in text and set(options) <= {"s"}
            return False if anchored else None
    return None


def _array_on(path: str, profiles: Mapping[str, FieldProfile]) -> str | None:
    """The outermost list on the way to a field, as far as the sample tells."""
    steps = path.split(".")
    ways = (".".join(steps[:length]) for length in range(1, len(steps) + 1))
    return next((way for way in ways if way in profiles and profiles[way].types.get("array", 0) > 0), None)
