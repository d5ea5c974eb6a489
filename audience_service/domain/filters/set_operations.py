"""Filters of filters: who is in several, in any, or in one and no other."""

from dataclasses import replace

from audience_service.domain.filters.ast import And, Node, Nor, OnList, Or
from audience_service.domain.filters.audience_inlining import NOT_ARCHIVED
from audience_service.domain.filters.compiler import CompiledFilter, compile_node
from audience_service.domain.filters.member_list import MemberList


def list_filter(member_list: MemberList) -> CompiledFilter:
    """The members of a list as a filter finds them: those on it that are in use."""
    return compile_node(member_list.datatype, And((OnList(member_list), NOT_ARCHIVED)), member_list.field_path)


def to_filter(population: CompiledFilter | MemberList) -> CompiledFilter:
    """A population as what finds its members among all records; of a frozen list those that are still in use."""
    return (
        list_filter(replace(population, include_inactive=False)) if isinstance(population, MemberList) else population
    )


def intersection(*filters: CompiledFilter) -> CompiledFilter:
    """What finds the records that all of the filters find. Raises ValueError where they are of several datatypes."""
    return compile_node(_datatype(*filters), And(tuple(_conditions(*filters))))


def union(*filters: CompiledFilter, field_path: str = "filter") -> CompiledFilter:
    """What finds the records that any of the filters finds. Raises ValueError where they are of several datatypes.

    Its place is that of the only one that holds expressions, if one alone does.
    """
    failing_paths = [compiled.field_path for compiled in filters if compiled.has_expressions]
    return compile_node(
        _datatype(*filters),
        Or(tuple(_conditions(*filters))),
        failing_paths[0] if len(failing_paths) == 1 else field_path,
    )


def difference(base: CompiledFilter, *excluded: CompiledFilter) -> CompiledFilter:
    """What finds the records that the first filter finds and none of the others. Raises ValueError as `union`.

    Each of the others is denied by itself, so that those that the record alone decides are tested before any join. The
    place is that of the first that holds expressions, or else of the one that is kept.
    """
    datatype = _datatype(base, *excluded)
    negations = [Nor((compiled.node,)) for compiled in excluded]
    failing = next((compiled for compiled in (base, *excluded) if compiled.has_expressions), base)
    return compile_node(datatype, And((*_conditions(base), *negations)), failing.field_path)


def _conditions(*filters: CompiledFilter) -> list[Node]:
    return [compiled.node for compiled in filters]


def _datatype(*filters: CompiledFilter) -> str:
    [datatype] = {compiled.datatype for compiled in filters}
    return datatype
