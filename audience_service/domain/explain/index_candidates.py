"""The conditions that an index could serve, and the best order of their fields in it.

Equalities come first, then one range, and sk last. After an equality the index entries are sorted by the next field;
after a range they are not. Source: MongoDB manual, the ESR guideline.
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
"""The most values of an $in that counts as an equality. The database seeks each value on its own."""
_MAX_EQUALITIES = 3
_NARROW_SHARE = 0.5
"""The largest share of matching records at which a field is worth adding to an index."""

_PREFIX = re.compile(r"(?:\^|\\A)(?:[^\\^$.|?*+()\[\]{}]|\\[^\w\s])(?![*?{])")
"""A pattern that is anchored at the start of the text and starts with a literal character."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A field, and the conditions on it that an index could serve. `array` is the list that contains it, if any."""

    path: str
    is_equality: bool
    nodes: tuple[Node, ...]
    array: str | None = None


@dataclass(frozen=True, slots=True)
class IndexColumns:
    """The fields of an index in order, without sk: equalities, then at most one range."""

    candidates: tuple[Candidate, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths of the index's fields in order, sk included."""
        return (*(candidate.path for candidate in self.candidates), "sk")

    @property
    def node(self) -> Node:
        """The conditions that the index decides: every record read through it meets them."""
        nodes: list[Node] = []
        for candidate in self.candidates:
            nodes += [
                node for node in candidate.nodes if node not in nodes
            ]  # operands may be lists, which have no hash
        return And(tuple(nodes))

    def served_by(self, fields: Sequence[str]) -> bool:
        """Whether an index on these fields serves as well. The order of the equalities does not matter."""
        equal = [candidate.path for candidate in self.candidates if candidate.is_equality]
        return set(fields[: len(equal)]) == set(equal) and self.fields[len(equal) : -1] == tuple(
            fields[len(equal) : len(self.candidates)]
        )


def candidates(nodes: Iterable[Node], profiles: Mapping[str, FieldProfile]) -> list[Candidate]:
    """The fields that an index could have, for conditions all of which must hold."""
    found: dict[str, Candidate] = {}
    for node in nodes:
        for path, equality, array in _usable_fields(node):
            if path == "sk" or ".$" in path or any(step.isdecimal() for step in path.split(".")):
                continue
            before = found.get(path, Candidate(path, False, ()))
            found[path] = Candidate(
                path,
                before.is_equality or equality,
                (*before.nodes, node),
                before.array or array or _array_on(path, profiles),
            )
    return list(found.values())


def choose(found: Sequence[Candidate], match_shares: MatchShares) -> IndexColumns | None:
    """The most selective fields that one index can have, None if there are none."""
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
    return IndexColumns((*equal, *ranges)) if equal or ranges else None


def _usable_fields(node: Node) -> list[tuple[str, bool, str | None]]:
    """The fields on which an index could serve a condition: path, whether it is an equality, and the known list."""
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
    """Whether an index serves an operator as an equality (True) or a range (False); None if it does not serve it.

    Null is not served, since it also matches records without the field. Negations, sizes, types, remainders, bits and
    patterns without an anchor need each record.
    """
    match name, operand:
        case "$eq", _:
            return None if operand is None else True
        case (("$in" | "$all"), list()):
            return None if not operand or None in operand else name == "$all" or len(operand) <= _FEW_VALUES
        case (("$onDay" | "$nearCity"), _):
            return False
        case (("$gt" | "$gte" | "$lt" | "$lte"), _):
            return None if operand is None else False
        case "$regex", Pattern(text, options):
            anchored = _PREFIX.match(text) and "|" not in text and set(options) <= {"s"}
            return False if anchored else None
    return None


def _array_on(path: str, profiles: Mapping[str, FieldProfile]) -> str | None:
    """The outermost list on the path of a field, according to the sample; None if there is none."""
    steps = path.split(".")
    prefixes = (".".join(steps[:length]) for length in range(1, len(steps) + 1))
    return next(
        (prefix for prefix in prefixes if prefix in profiles and profiles[prefix].types.get("array", 0) > 0), None
    )
