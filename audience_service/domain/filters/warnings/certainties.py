"""What can be said of a filter without a look at any record: that a place in it always holds, or never.

Only what is certain is said. Two bounds that exclude one another, say, may be met by two elements of an array; so they
are held against one another only where there is a single value: an element itself, or a field of the envelope.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from audience_service.domain.filters.nodes import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Node,
    Nor,
    Or,
    Related,
    names_field,
)
from audience_service.domain.filters.warnings.conjunctions import Conjunction, Subject, conjunctions, everything, flat
from audience_service.domain.filters.warnings.intervals import exclude_one_another
from audience_service.domain.filters.warnings.literals import Literal, literal
from audience_service.domain.filters.warnings.warning import FilterWarning, Reason

_SINGLE_VALUED = frozenset(("pk", "sk", "name", "datatype", "version", "state", "createdate", "modifydate"))
"""The envelope's fields that hold one value each, by the platform's record model."""
_OUT_OF_USE = frozenset(("archived", "deleted"))

_Row = tuple[str, Callable[[Any], bool], Reason, str]

_BY_OPERAND: tuple[_Row, ...] = (
    ("$in", lambda values: not values, Reason.ALWAYS_FALSE, "lists no value that could be met"),
    ("$nin", lambda values: not values, Reason.ALWAYS_TRUE, "lists no value that it could rule out"),
    ("$all", lambda values: not values, Reason.ALWAYS_FALSE, "lists no values, and such a list is met by nothing"),
    ("$mod", lambda pair: abs(pair[1]) >= abs(pair[0]), Reason.ALWAYS_FALSE, "asks for more than division can leave"),
    ("$bitsAnySet", lambda bits: _no_bits(bits), Reason.ALWAYS_FALSE, "names no bit that could be set"),
    ("$bitsAnyClear", lambda bits: _no_bits(bits), Reason.ALWAYS_FALSE, "names no bit that could be clear"),
    ("$gt", lambda value: value is None or value is True, Reason.ALWAYS_FALSE, "asks for more than the greatest"),
    ("$lt", lambda value: value is None or value is False or value == "", Reason.ALWAYS_FALSE,
     "asks for less than the least"),
)  # fmt: skip
"""Operators that hold always or never by their operand alone."""


def certainties(node: Node, datatype: str) -> Iterator[FilterWarning]:
    """The places in a filter on a datatype that always hold, or never."""
    for inner in everything(node):
        yield from _by_itself(inner)
    for conjunction in conjunctions(node, datatype):
        said = [found for inner in conjunction.nodes if (found := literal(inner))]
        for of_path in _by_path(said):
            yield from _ruled_out(of_path)
            yield from _of_single_value(conjunction, of_path)
        yield from _of_absent(conjunction, said)
        if conjunction.subject is Subject.RECORD:
            yield from _of_others(conjunction, said)
            yield from _of_unused(conjunction, said)


def _always(place: str, why: str) -> FilterWarning:
    return FilterWarning(place, Reason.ALWAYS_TRUE, f"always holds: it {why}")


def _never(place: str, why: str) -> FilterWarning:
    return FilterWarning(place, Reason.ALWAYS_FALSE, f"never holds: it {why}")


_SAID = {Reason.ALWAYS_TRUE: _always, Reason.ALWAYS_FALSE: _never}


def _by_itself(node: Node) -> Iterator[FilterWarning]:
    match node:
        case Condition(_, operator, operand, place):
            for name, holds, reason, why in _BY_OPERAND:
                if name == operator.name and holds(operand):
                    yield _SAID[reason](place, why)
        case Or(nodes, place):
            if any(_is_everything(child) for child in nodes):
                yield _always(place, "has an empty condition, which everything meets")
            elif _covers_all(nodes):
                yield _always(place, "takes what meets a condition and what does not")
        case Nor(nodes, place) if any(_is_everything(child) for child in nodes):
            yield _never(place, "rules out an empty condition, which everything meets")
        case Related(least=least, most=most, place=place):
            if most is not None and most < least:
                yield _never(f"{place}.count", "asks for more records than it allows")
            elif least == 0 and most is None:
                yield _always(f"{place}.count", "allows any number of records")


def _is_everything(node: Node) -> bool:
    return isinstance(node, And) and all(_is_everything(child) for child in node.children)


def _covers_all(nodes: Sequence[Node]) -> bool:
    """Whether one of the nodes denies what another affirms."""
    alone = (parts[0] for node in nodes if len(parts := list(flat(node))) == 1)
    said = [found for node in alone if (found := literal(node))]
    return any(found.affirms and found.identity in _denied(of_path) for of_path in _by_path(said) for found in of_path)


def _denied(said: Sequence[Literal]) -> set[Hashable]:
    return {found.identity for found in said if not found.affirms} - {None}


def _ruled_out(said: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What is affirmed where it is denied, by one condition or by several together."""
    denied = _denied(said)
    if not denied:
        return
    values = frozenset[Hashable]().union(*(found.values or () for found in said if not found.affirms))
    for found in said:
        if found.affirms and (found.identity in denied or (found.values and found.values <= values)):
            yield _never(found.condition.place, "asks for what is ruled out beside it")


def _of_single_value(conjunction: Conjunction, said: Sequence[Literal]) -> Iterator[FilterWarning]:
    of_envelope = conjunction.subject is Subject.RECORD and said[0].path in _SINGLE_VALUED
    if (of_envelope or conjunction.subject is Subject.VALUE) and (found := exclude_one_another(said)):
        yield _never(found.condition.place, "asks for a value that what stands beside it leaves out")


def _of_absent(conjunction: Conjunction, said: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What asks something of a field that is not to be there."""
    absent = {found.path for found in said if found.name == "$exists" and not found.affirms}
    if not absent:
        return
    asked = [(found.path, found.condition.place) for found in said if found.name != "$exists" and found.needs_presence]
    asked += [(node.path, node.place) for node in conjunction.nodes if isinstance(node, ElementMatch | ElementIs)]
    for path, place in asked:
        if path in absent:
            yield _never(place, "asks something of a field that must not be there")


def _of_others(conjunction: Conjunction, said: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What asks for records of another datatype."""
    for found in said if conjunction.datatype else ():
        if found.path in _DATATYPE_OF and found.affirms and (texts := _texts(found)):
            datatype_of = _DATATYPE_OF[found.path]
            if all(datatype_of(text) != conjunction.datatype for text in texts):
                yield _never(found.condition.place, f"asks for records that are of no {conjunction.datatype}")


def _of_unused(conjunction: Conjunction, said: Sequence[Literal]) -> Iterator[FilterWarning]:
    """What asks for archived and deleted records where the guard on them stands."""
    if conjunction.is_top or not conjunction.affirmed or names_field(conjunction.top, "state"):
        return
    for found in said:
        texts = _texts(found) if found.path == "state" and found.affirms else ()
        if texts and _OUT_OF_USE.issuperset(texts):
            yield _never(
                found.condition.place,
                "asks for archived or deleted records, left out unless the top level of the filter names state",
            )


def _by_path(said: Sequence[Literal]) -> Iterable[Sequence[Literal]]:
    grouped: dict[str, list[Literal]] = {}
    for found in said:
        grouped.setdefault(found.path, []).append(found)
    return [of_path for of_path in grouped.values() if len(of_path) > 1]


def _texts(found: Literal) -> Sequence[str]:
    """The texts one of which it asks for; none where it asks for anything else."""
    if found.name not in ("$eq", "$in"):
        return ()
    values = found.operand if found.name == "$in" else [found.operand]
    return values if all(isinstance(value, str) for value in values) else ()


def _datatype_in_key(sk: str) -> str:
    """The datatype in an sk, `<org>/<datatype>/<id>`."""
    return sk.split("/")[1] if sk.count("/") > 1 else ""


_DATATYPE_OF: dict[str, Callable[[str], str]] = {"datatype": str, "sk": _datatype_in_key}


def _no_bits(mask: int | bytes | list[int]) -> bool:
    return not any(mask) if isinstance(mask, bytes) else not mask
