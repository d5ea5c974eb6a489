"""Filters of filters: who is in several, in any, or in one and no other."""

from dataclasses import replace

from audience_service.domain.contact_list import ContactList
from audience_service.domain.filters.compile import CompiledFilter, of_node
from audience_service.domain.filters.nodes import And, Node, Nor, OnList, Or
from audience_service.domain.filters.resolve import IN_USE


def of_list(contacts: ContactList) -> CompiledFilter:
    """The members of a list as a filter finds them: those on it that are in use."""
    return of_node(contacts.datatype, And((OnList(contacts), IN_USE)), contacts.place)


def as_filter(population: CompiledFilter | ContactList) -> CompiledFilter:
    """A population as what finds its members among all records; of a frozen list those that are still in use."""
    return of_list(replace(population, frozen=False)) if isinstance(population, ContactList) else population


def intersection(*filters: CompiledFilter) -> CompiledFilter:
    """What finds the records that all of the filters find. Raises ValueError where they are of several datatypes."""
    return of_node(_datatype(*filters), And(tuple(_conditions(*filters))))


def union(*filters: CompiledFilter, place: str = "filter") -> CompiledFilter:
    """What finds the records that any of the filters finds. Raises ValueError where they are of several datatypes.

    Its place is that of the only one that holds expressions, if one alone does.
    """
    risky = [compiled.place for compiled in filters if compiled.expressions]
    return of_node(_datatype(*filters), Or(tuple(_conditions(*filters))), risky[0] if len(risky) == 1 else place)


def difference(kept: CompiledFilter, *left_out: CompiledFilter) -> CompiledFilter:
    """What finds the records that the first filter finds and none of the others. Raises ValueError as `union`.

    Each of the others is denied by itself, so that those that the record alone decides are tested before any join. The
    place is that of the first that holds expressions, or else of the one that is kept.
    """
    datatype = _datatype(kept, *left_out)
    denied = [Nor((compiled.node,)) for compiled in left_out]
    risky = next((compiled for compiled in (kept, *left_out) if compiled.expressions), kept)
    return of_node(datatype, And((*_conditions(kept), *denied)), risky.place)


def _conditions(*filters: CompiledFilter) -> list[Node]:
    return [compiled.node for compiled in filters]


def _datatype(*filters: CompiledFilter) -> str:
    [datatype] = {compiled.datatype for compiled in filters}
    return datatype
