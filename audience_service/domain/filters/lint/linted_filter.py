"""The input of the lint rules: one filter, taken apart once for all of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from audience_service.domain.filters.ast import (
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Node,
    RecordDate,
    Related,
)
from audience_service.domain.filters.field_usage import further_paths
from audience_service.domain.filters.lint.conjunctions import (
    Conjunction,
    all_nodes,
    conjunctions,
    unwrap_negation,
)
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.literals import Literal, literal


@dataclass(frozen=True, slots=True)
class Read:
    """A path that a condition reads in its record, or in the related records of `index`; where the filter names it.

    `node` is the condition without its negation.
    """

    conjunction: Conjunction
    node: Node
    path: str
    field_path: str
    index: FieldIndex | None


@dataclass(frozen=True)
class LintedFilter:
    """A parsed filter on records of a datatype, as of `now`.

    `indexes` are the fields of the filter's datatype and of related datatypes, by datatype. Without a `datatype` or the
    index of its fields, the rules that need them give no warnings.
    """

    node: Node
    now: datetime
    datatype: str
    indexes: Mapping[str, FieldIndex]

    def own_conditions(self) -> Iterator[tuple[Conjunction, Node, FieldIndex]]:
        """The conditions whose datatype has an index, without their negations, each with the index."""
        for conjunction in self.conjunctions:
            if index := self.indexes.get(conjunction.datatype):
                for node in conjunction.nodes:
                    yield conjunction, unwrap_negation(node)[0], index

    def reads(self) -> Iterator[Read]:
        """The paths that the conditions read, in order."""
        for conjunction in self.conjunctions:
            index = self.indexes.get(conjunction.datatype)
            for each in conjunction.nodes:
                node = unwrap_negation(each)[0]
                for path, field_path in _own_paths(conjunction, node):
                    yield Read(conjunction, node, path, field_path, index)
                for step in node.steps if isinstance(node, Related) else ():
                    for path, field_path in step.paths:
                        yield Read(conjunction, node, path, field_path, self.indexes.get(step.datatype))

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """All nodes of the filter, those on elements and related records included."""
        return list(all_nodes(self.node))

    @cached_property
    def conjunctions(self) -> Sequence[Conjunction]:
        """All conjunctions of the filter, from the outside in."""
        return list(conjunctions(self.node, self.datatype))

    @cached_property
    def literals(self) -> Sequence[tuple[Conjunction, Sequence[Literal]]]:
        """The conjunctions, each with its literals."""
        return [(each, [found for node in each.nodes if (found := literal(node))]) for each in self.conjunctions]

    @cached_property
    def literals_by_path(self) -> Sequence[tuple[Conjunction, Sequence[Literal]]]:
        """The conjunctions, each with two or more literals on the same field."""
        return [(each, group) for each, literals in self.literals for group in group_by_path(literals)]


def group_by_path(literals: Sequence[Literal]) -> Iterable[Sequence[Literal]]:
    """The literals by field, without fields that have only one."""
    grouped: dict[str, list[Literal]] = {}
    for found in literals:
        grouped.setdefault(found.path, []).append(found)
    return [group for group in grouped.values() if len(group) > 1]


def _own_paths(conjunction: Conjunction, node: Node) -> Iterator[tuple[str, str]]:
    """The paths that a node reads in the conjunction's records, each with its path in the request."""
    match node:
        case (
            Condition(path, field_path=field_path)
            | ElementMatch(path, field_path=field_path)
            | ElementIs(path, field_path=field_path)
        ):
            yield conjunction.path(path), field_path
            for path in further_paths(node):
                yield path, field_path
        case Expression(_, paths, field_path):
            for path in paths:
                yield path, field_path
        case Related(steps=steps):
            for step in steps:
                yield step.local, f"{step.on_path}.local"
            for date in node.record_dates:
                yield date.record_path, date.field_path
        case RecordDate(path, field_path=field_path):
            yield path, field_path
