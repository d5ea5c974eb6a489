"""Set operations on compiled filters: intersection, union and difference."""

from dataclasses import replace

from audience_service.domain.filters.ast import And, Node, Nor, OnList, Or
from audience_service.domain.filters.audience_inlining import NOT_ARCHIVED
from audience_service.domain.filters.compiler import CompiledFilter, compile_node
from audience_service.domain.filters.member_list import MemberList


def list_filter(member_list: MemberList) -> CompiledFilter:
    """The filter for the members of a list: the records on it that are not archived."""
    return compile_node(member_list.datatype, And((OnList(member_list), NOT_ARCHIVED)), member_list.field_path)


def to_filter(population: CompiledFilter | MemberList) -> CompiledFilter:
    """The filter for the members of a population. Of a list with inactive records, only unarchived ones match."""
    return (
        list_filter(replace(population, include_inactive=False)) if isinstance(population, MemberList) else population
    )


def intersection(*filters: CompiledFilter) -> CompiledFilter:
    """The filter for records that match all filters. Raises ValueError if their datatypes differ."""
    return compile_node(_datatype(*filters), And(tuple(_conditions(*filters))))


def union(*filters: CompiledFilter, field_path: str = "filter") -> CompiledFilter:
    """The filter for records that match any of the filters. Raises ValueError if their datatypes differ.

    Its field path is that of the only filter with expressions, if exactly one has them.
    """
    failing_paths = [compiled.field_path for compiled in filters if compiled.has_expressions]
    return compile_node(
        _datatype(*filters),
        Or(tuple(_conditions(*filters))),
        failing_paths[0] if len(failing_paths) == 1 else field_path,
    )


def difference(base: CompiledFilter, *excluded: CompiledFilter) -> CompiledFilter:
    """The filter for records that match `base` and none of the others. Raises ValueError if their datatypes differ.

    Each excluded filter has its own negation, so that the database decides those without joins first. The field path is
    that of the first filter with expressions, or of `base`.
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
