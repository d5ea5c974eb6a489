"""From a caller's conditions to typed nodes, or to the place where they go wrong."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.elements import element_documents
from audience_service.domain.filters.expressions import ExpressionParser
from audience_service.domain.filters.fields import element_path, record_path
from audience_service.domain.filters.filter import Limits, at_index, at_key
from audience_service.domain.filters.nodes import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    InAudience,
    Node,
    Nor,
    Not,
    Or,
    Related,
)
from audience_service.domain.filters.operators import LOGICAL, ON_RECORDS, OPERATORS, read_pattern
from audience_service.domain.filters.related import read_count, read_relation
from audience_service.domain.filters.values import ValueReader

_ON_FIELDS = (*OPERATORS, "$options", "$not", "$elemMatch")
_IN_PLACE = (*LOGICAL, *ON_RECORDS)
_LOGICAL_NODES: dict[str, Callable[[tuple[Node, ...], str], Node]] = {"$and": And, "$or": Or, "$nor": Nor}


@dataclass(frozen=True, slots=True)
class _Within:
    """Whose conditions are read: how paths lead to fields, and where not every operator may stand, where that is."""

    path_of: Callable[[str, str], str]
    where: str = ""


_RECORD = _Within(record_path)
_ELEMENT = _Within(element_path, "$elemMatch")
_RELATED = _Within(record_path, "$related")


def parse(where: Mapping[str, Any], place: str, limits: Limits, *, exact: bool, now: datetime) -> Node:
    """The nodes of a filter as it is used at `now`.

    Raises InvalidFilter or FilterTooLarge, naming the place below `place`.
    """
    return _Parser(limits, ValueReader(limits, exact, now)).query(where, place, 1, _RECORD)


class _Parser:
    def __init__(self, limits: Limits, reader: ValueReader) -> None:
        self._limits = limits
        self._reader = reader
        self._conditions = 0

    def query(self, where: Mapping[str, Any], place: str, depth: int, within: _Within) -> Node:
        """An object of fields and of operators in their place, all of which must hold."""
        self._check_depth(depth, place)
        children: list[Node] = []
        for key, value in where.items():
            here = at_key(place, key)
            if key in LOGICAL:
                children.append(self._logical(key, value, here, depth, within))
            elif key in ON_RECORDS:
                children.append(self._on_record(key, value, here, depth, within))
            elif key.startswith("$"):
                raise InvalidFilter.at(
                    here, _unknown(key, _IN_PLACE, _ON_FIELDS, "stands on a field, not in its place")
                )
            else:
                children += self._field(within.path_of(key, here), value, here, depth)
        return children[0] if len(children) == 1 else And(tuple(children), place)

    def _on_record(self, name: str, value: Any, place: str, depth: int, within: _Within) -> Node:
        """An operator on the record as a whole."""
        if within.where == "$elemMatch" or (within.where and name != "$expr"):
            raise InvalidFilter.at(place, f"is about whole records of the filter, and cannot stand in {within.where}")
        self._count(place)
        if name == "$expr":
            return ExpressionParser(self._reader, self._count).parse(value, place)
        if name == "$related":
            return self._related(value, place, depth)
        if not isinstance(value, str) or not value:
            raise InvalidFilter.at(place, 'takes an audience\'s id, like "segment-..."')
        return InAudience(value, place)

    def _related(self, value: Any, place: str, depth: int) -> Related:
        datatype, local, foreign = read_relation(value, place)
        least, most = read_count(value.get("count", {"$gte": 1}), at_key(place, "count"), self._limits.related_count)
        where, there = value.get("where", {}), at_key(place, "where")
        if not isinstance(where, Mapping):
            raise InvalidFilter.at(there, 'takes an object of conditions, like {"total": {"$gte": 100}}')
        return Related(datatype, local, foreign, self.query(where, there, depth + 1, _RELATED), least, most, place)

    def _logical(self, name: str, value: Any, place: str, depth: int, within: _Within) -> Node:
        if not isinstance(value, list) or not value:
            raise InvalidFilter.at(place, 'takes a list of one or more conditions, like [{"country": "US"}]')
        if len(value) > self._limits.conditions:
            raise self._too_many(place)
        children = []
        for index, item in enumerate(value):
            here = at_index(place, index)
            if not isinstance(item, Mapping):
                raise InvalidFilter.at(here, 'must be an object of conditions, like {"country": "US"}')
            self._count(here)
            children.append(self.query(item, here, depth + 1, within))
        return _LOGICAL_NODES[name](tuple(children), place)

    def _field(self, path: str, value: Any, place: str, depth: int) -> list[Node]:
        if not isinstance(value, Mapping) or not any(key.startswith("$") for key in value):
            self._count(place)
            return [Condition(path, OPERATORS["$eq"], self._reader.value(value, place), place)]
        return self._operators(path, value, place, depth)

    def _operators(self, path: str, operators: Mapping[str, Any], place: str, depth: int) -> list[Node]:
        if "$options" in operators and "$regex" not in operators:
            raise InvalidFilter.at(at_key(place, "$options"), "stands beside $regex only")
        nodes: list[Node] = []
        for name, operand in operators.items():
            here = at_key(place, name)
            self._count(here)
            if name == "$not":
                nodes.append(self._negated(path, operand, here, depth))
            elif name == "$elemMatch":
                nodes.append(self._element(path, operand, here, depth))
            elif name == "$regex":
                options, beside = operators.get("$options", ""), at_key(place, "$options")
                pattern = read_pattern(operand, options, here, beside, self._reader)
                nodes.append(Condition(path, OPERATORS[name], pattern, here))
            elif name == "$all" and _lists_elements(operand):
                nodes += self._elements(path, operand, here, depth)
            elif name in OPERATORS:
                nodes += self._condition(path, name, operand, here)
            elif name != "$options":
                raise InvalidFilter.at(here, _unknown(name, _ON_FIELDS, _IN_PLACE, "stands in place of a field"))
        return nodes

    def _condition(self, path: str, name: str, operand: Any, place: str) -> list[Node]:
        operator = OPERATORS[name]
        value = operator.read(operand, place, self._reader)
        if name == "$all" and any(read_instant(item) for item in value):
            # Each element may be spelt in its own way, and $all has no room for alternatives.
            return [Condition(path, OPERATORS["$eq"], item, place) for item in value]
        return [Condition(path, operator, value, place)]

    def _negated(self, path: str, operand: Any, place: str, depth: int) -> Node:
        self._check_depth(depth + 1, place)
        if not isinstance(operand, Mapping) or not operand:
            raise InvalidFilter.at(place, 'takes an object of operators, like {"$gte": 50}')
        nodes = tuple(self._operators(path, operand, place, depth + 1))
        return Not(nodes[0] if len(nodes) == 1 else And(nodes, place), place)

    def _element(self, path: str, operand: Any, place: str, depth: int) -> Node:
        self._check_depth(depth + 1, place)
        if not isinstance(operand, Mapping):
            raise InvalidFilter.at(place, 'takes an object, like {"city": "Lyon"} or {"$gte": 1, "$lt": 5}')
        first = next(iter(operand), "")
        if not first.startswith("$") or first in _IN_PLACE:
            return ElementMatch(path, self.query(operand, place, depth + 1, _ELEMENT), place)
        if path == "":
            raise InvalidFilter.at(place, "cannot stand inside another $elemMatch on the elements themselves")
        conditions = tuple(self._operators("", operand, place, depth + 1))
        try:
            element_documents(conditions)
        except ValueError as error:
            raise InvalidFilter.at(place, str(error)) from None
        return ElementIs(path, conditions, place)

    def _elements(self, path: str, operand: Any, place: str, depth: int) -> list[Node]:
        """$all over $elemMatch: each of them is met, by elements of which it need not be the same."""
        nodes = []
        for index, item in enumerate(operand):
            here = at_index(place, index)
            if not isinstance(item, Mapping) or list(item) != ["$elemMatch"]:
                raise InvalidFilter.at(here, "stands beside $elemMatch; in $all either all are that or none is")
            self._count(here)
            nodes.append(self._element(path, item["$elemMatch"], at_key(here, "$elemMatch"), depth))
        return nodes

    def _count(self, place: str, cost: int = 1) -> None:
        self._conditions += cost
        if self._conditions > self._limits.conditions:
            raise self._too_many(place)

    def _too_many(self, place: str) -> FilterTooLarge:
        limit = self._limits.conditions
        return FilterTooLarge.at(place, f"is past the limit of {limit:,} conditions in a filter", limit=str(limit))

    def _check_depth(self, depth: int, place: str) -> None:
        limit = self._limits.depth
        if depth > limit:
            raise FilterTooLarge.at(place, f"is nested more than {limit} levels deep", limit=str(limit))


def _lists_elements(operand: Any) -> bool:
    return isinstance(operand, list) and any(isinstance(item, Mapping) and "$elemMatch" in item for item in operand)


def _unknown(name: str, here: tuple[str, ...], elsewhere: tuple[str, ...], misplaced: str) -> str:
    """Say what is wrong with an operator: misplaced, mistyped or unknown."""
    if name in elsewhere:
        return misplaced
    near = difflib.get_close_matches(name[:50], (*here, *elsewhere), n=1, cutoff=0.7)
    advice = f"did you mean {near[0]}?" if near else f"here stand {', '.join(here)}"
    if not name.startswith("$"):
        return "is a field beside operators; a field's object holds either operators or a value"
    return f"is no operator of the filter language; {advice}"
