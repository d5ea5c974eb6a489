"""Parses a caller's conditions to typed nodes, or refuses them with the path of the error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.aggregates import read_having
from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Having,
    InAudience,
    Node,
    Nor,
    Not,
    Or,
    RecordDate,
    Related,
    Slice,
    Then,
    walk,
)
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.elem_match import element_documents
from audience_service.domain.filters.expression_guards import UnguardedArgument, guarded
from audience_service.domain.filters.expressions import ExpressionParser
from audience_service.domain.filters.fields import element_path, plain_path, record_path
from audience_service.domain.filters.near_city import NearCity
from audience_service.domain.filters.operator_hints import advice
from audience_service.domain.filters.operators import (
    BUCKET,
    COMPUTED_OPERATORS,
    CONSTANTS,
    EXPRESSION_OPERATORS,
    LOGICAL,
    OPERATORS,
    PATTERN_VALUE,
    RECORD_OPERATORS,
    Pattern,
    read_pattern,
    read_pattern_value,
)
from audience_service.domain.filters.rebase_dates import zoned_dates
from audience_service.domain.filters.record_dates import is_record_date, read_record_date
from audience_service.domain.filters.related import read_count, read_date_path, read_relation, read_slice, read_then
from audience_service.domain.filters.values import ValueReader
from audience_service.domain.filters.zoned_operands import ZonedOperand

_FIELD_OPERATORS = (*OPERATORS, "$options", "$not", "$elemMatch")
_TOP_LEVEL_OPERATORS = (*LOGICAL, *CONSTANTS, *RECORD_OPERATORS)
_LOGICAL_NODES: dict[str, Callable[[tuple[Node, ...], str], Node]] = {"$and": And, "$or": Or, "$nor": Nor}


@dataclass(frozen=True, slots=True)
class _Scope:
    """The subject of conditions: how it resolves field paths, and the operator inside which it is, if any."""

    resolve_path: Callable[[str, str], str]
    operator: str = ""


_RECORD = _Scope(record_path)
_ELEMENT = _Scope(element_path, "$elemMatch")
_RELATED = _Scope(record_path, "$related")
_SLICE = _Scope(record_path, "last and first")


def parse(where: Mapping[str, Any], field_path: str, reader: ValueReader) -> Node:
    """The nodes of a filter, whose operands the reader reads. It then knows whether they depend on the time.

    Raises InvalidFilter or FilterTooLarge, with paths that start at `field_path`.
    """
    return _Parser(reader).query(where, field_path, 1, _RECORD)


class _Parser:
    def __init__(self, reader: ValueReader) -> None:
        self._limits = reader.limits
        self._reader = reader
        self._conditions = 0
        self._is_related = False
        """Whether the conditions are on related records, and not on elements of their lists."""

    def query(self, where: Mapping[str, Any], field_path: str, depth: int, scope: _Scope) -> Node:
        """An object of fields and of operators in place of fields. All of them must hold."""
        self._check_depth(depth, field_path)
        children: list[Node] = []
        for key, value in where.items():
            here = at_key(field_path, key)
            if key in LOGICAL:
                children.append(self._logical(key, value, here, depth, scope))
            elif key in CONSTANTS:
                children.append(self._constant(key, value, here))
            elif key in RECORD_OPERATORS:
                children.append(self._on_record(key, value, here, depth, scope))
            elif key == "$not":
                raise InvalidFilter.at(here, 'applies to a field; to negate conditions write {"$nor": [{...}]}')
            elif key.startswith("$"):
                raise InvalidFilter.at(
                    here,
                    _unknown(key, _TOP_LEVEL_OPERATORS, _FIELD_OPERATORS, 'applies to a field; write {"field": {...}}'),
                )
            else:
                children += self._field(scope.resolve_path(key, here), value, here, depth)
        return children[0] if len(children) == 1 else And(tuple(children), field_path)

    def _constant(self, name: str, value: Any, field_path: str) -> Node:
        self._count(field_path)
        if isinstance(value, bool) or value != 1:
            raise InvalidFilter.at(field_path, "takes 1")
        everything = And((), field_path)
        return everything if name == "$alwaysTrue" else Nor((everything,), field_path)

    def _on_record(self, name: str, value: Any, field_path: str, depth: int, scope: _Scope) -> Node:
        """An operator on the complete record."""
        is_allowed = name in EXPRESSION_OPERATORS or (name == "$inAudience" and scope is _RELATED)
        if scope.operator == "$elemMatch" or (scope.operator and not is_allowed):
            raise InvalidFilter.at(field_path, f"applies to complete records; move it out of {scope.operator}")
        self._count(field_path)
        if name in EXPRESSION_OPERATORS:
            return self._expression(name, value, field_path)
        if name == "$related":
            return self._related(value, field_path, depth)
        return self._bucket(value, field_path) if name == BUCKET.name else self._in_audience(value, field_path)

    def _bucket(self, value: Any, field_path: str) -> Condition:
        operand, by_path = BUCKET.read(value, field_path, self._reader), at_key(field_path, "by")
        path = plain_path(self._reader.text(value.get("by", "pk"), by_path), by_path)
        if any(map(str.isdecimal, path.split("."))):
            raise InvalidFilter.at(by_path, "reads no index of a list; name a field with one value")
        return Condition(path, BUCKET, operand, field_path)

    def _expression(self, name: str, value: Any, field_path: str) -> Node:
        expression = ExpressionParser(self._reader, self._count).parse(value, field_path)
        if name == "$expr":
            return expression
        try:
            guarded(expression.document)
        except UnguardedArgument as error:
            raise InvalidFilter.at(field_path, str(error)) from None
        return replace(expression, is_lenient=True)

    def _in_audience(self, value: Any, field_path: str) -> Node:
        ids = {at_index(field_path, index): item for index, item in enumerate(value)} if isinstance(value, list) else {}
        ids = ids or {field_path: value}
        for here, audience_id in ids.items():
            if not isinstance(audience_id, str) or not audience_id:
                raise InvalidFilter.at(here, 'takes an audience\'s id, like "segment-...", or a list of ids')
        nodes = tuple(InAudience(audience_id, here) for here, audience_id in ids.items())
        self._count(field_path, len(nodes) - 1)
        return nodes[0] if len(nodes) == 1 else Or(nodes, field_path)

    def _related(self, value: Any, field_path: str, depth: int) -> Related:
        datatype, local, foreign = read_relation(value, field_path)
        where = self._related_query(value, field_path, depth)
        related = Related(datatype, local, foreign, where, 1, None, field_path, on_path=at_key(field_path, "on"))
        name = next((name for name in ("last", "first") if name in value), "")
        if name:
            return self._slice(related, value, name, depth)
        if "then" in value:
            at = read_date_path(value, field_path)
            return self._sequence(replace(related, at=at, at_path=at_key(field_path, "at")), value, depth)
        having, count_path = self._having(value, field_path), at_key(field_path, "count")
        default = {"$gte": 0 if having and having.or_none else 1}
        min_count, max_count = read_count(value.get("count", default), count_path, self._limits.related_count)
        if having and "count" in value and min_count == 0:
            text = 'admits 0 records, which have no aggregates; omit it, or write {"$gte": 1}; orNone admits no records'
            raise InvalidFilter.at(count_path, text)
        return replace(related, min_count=min_count, max_count=max_count, test=having)

    def _related_query(self, value: Mapping[str, Any], field_path: str, depth: int, scope: _Scope = _RELATED) -> Node:
        where, where_path = value.get("where", {}), at_key(field_path, "where")
        if not isinstance(where, Mapping):
            raise InvalidFilter.at(where_path, 'takes an object of conditions, like {"total": {"$gte": 100}}')
        self._is_related = True
        query = self.query(where, where_path, depth + 1, scope)
        self._is_related = False
        return query

    def _slice(self, related: Related, value: Mapping[str, Any], name: str, depth: int) -> Related:
        """The relation with its `last` or `first`, whose count applies to the records of the slice that match."""
        here = at_key(related.field_path, name)
        if "count" in value:
            raise InvalidFilter.at(at_key(related.field_path, "count"), f"goes into {name}, next to n")
        operand = value[name]
        by, size = read_slice(operand, here)
        self._count(here)
        min_count, max_count = read_count(operand.get("count", {"$gte": 1}), at_key(here, "count"), size)
        query = self._related_query(operand, here, depth + 1, _SLICE)
        test = Slice(name == "last", by, size, query, here)
        return replace(related, min_count=min_count, max_count=max_count, test=test)

    def _sequence(self, first: Related, value: Mapping[str, Any], depth: int) -> Related:
        """The relation with its `then`, whose count applies to the records of the second step."""
        here = at_key(first.field_path, "then")
        if "count" in value:
            raise InvalidFilter.at(at_key(first.field_path, "count"), "goes into then, next to within")
        operand = value["then"]
        datatype, local, foreign, at, within = read_then(operand, value, here)
        self._count(here)
        counted = operand.get("count", {"$gte": 1})
        min_count, max_count = read_count(counted, at_key(here, "count"), self._limits.related_count)
        query = self._related_query(operand, here, depth + 1)
        second = replace(
            first,
            datatype=datatype,
            local=local,
            foreign=foreign,
            query=query,
            min_count=min_count,
            max_count=max_count,
            field_path=here,
            at=at,
            on_path=at_key(here, "on") if "on" in operand else first.on_path,
            at_path=at_key(here, "at") if "at" in operand else first.at_path,
        )
        now = self._reader.now if within and max_count is not None else None
        return replace(first, test=Then(second, within, now, here))

    def _having(self, value: Mapping[str, Any], field_path: str) -> Having | None:
        if "having" not in value:
            return None
        having = read_having(value["having"], at_key(field_path, "having"), self._reader)
        for aggregate in having.aggregates:
            self._count(aggregate.field_path, len(aggregate.bounds))
        return having

    def _logical(self, name: str, value: Any, field_path: str, depth: int, scope: _Scope) -> Node:
        if not isinstance(value, list) or not value:
            raise InvalidFilter.at(field_path, 'takes a list of one or more conditions, like [{"country": "US"}]')
        if len(value) > self._limits.conditions:
            raise self._too_many(field_path)
        children = []
        for index, item in enumerate(value):
            here = at_index(field_path, index)
            if not isinstance(item, Mapping):
                raise InvalidFilter.at(here, 'must be an object of conditions, like {"country": "US"}')
            if not item:
                self._count(here)
            children.append(self.query(item, here, depth + 1, scope))
        return _LOGICAL_NODES[name](tuple(children), field_path)

    def _field(self, path: str, value: Any, field_path: str, depth: int) -> list[Node]:
        if not isinstance(value, Mapping) or not any(key.startswith("$") for key in value):
            self._count(field_path)
            if is_record_date(value):
                return [self._record_date(path, "$eq", value, field_path)]
            return [Condition(path, OPERATORS["$eq"], self._reader.value(value, field_path), field_path)]
        return self._operators(path, value, field_path, depth)

    def _operators(self, path: str, operators: Mapping[str, Any], field_path: str, depth: int) -> list[Node]:
        if "$options" in operators and "$regex" not in operators:
            raise InvalidFilter.at(
                at_key(field_path, "$options"), "applies to $regex only; add $regex to the same object"
            )
        nodes: list[Node] = []
        for name, operand in operators.items():
            here = at_key(field_path, name)
            if name not in ("$not", "$options") and not (name == "$elemMatch" and operand):
                self._count(here)
            if name == "$not":
                nodes.append(self._parse_not(path, operand, here, depth))
            elif name == "$elemMatch":
                nodes.append(self._element(path, operand, here, depth))
            elif name == "$regex":
                options, options_path = operators.get("$options", ""), at_key(field_path, "$options")
                pattern = read_pattern(operand, options, here, options_path, self._reader)
                nodes.append(Condition(path, OPERATORS[name], pattern, here))
            elif name == PATTERN_VALUE:
                pattern = read_pattern_value({name: operand}, field_path, self._reader)
                nodes.append(Condition(path, OPERATORS["$regex"], pattern, here))
            elif name == "$all" and _lists_elements(operand):
                nodes += self._elements(path, operand, here, depth)
            elif name in OPERATORS:
                nodes += self._condition(path, name, operand, here)
            elif name != "$options":
                raise InvalidFilter.at(
                    here,
                    _unknown(name, _FIELD_OPERATORS, _TOP_LEVEL_OPERATORS, "replaces a field; move it one level up"),
                )
        return nodes

    def _condition(self, path: str, name: str, operand: Any, field_path: str) -> list[Node]:
        operator = OPERATORS[name]
        if name in COMPUTED_OPERATORS and any(step.isdecimal() or step[:1] == "$" for step in path.split(".")):
            raise InvalidFilter.at(
                field_path, "reads neither an index of a list nor a key with $; name the field alone"
            )
        if is_record_date(operand):
            return [self._record_date(path, name, operand, field_path)]
        value = operator.read(operand, field_path, self._reader)
        _check_timezones(Condition(path, operator, value, field_path))
        if name == "$all" and any(read_instant(item) for item in value):
            # Each date has several spellings, and $all takes no alternatives.
            return [
                Condition(path, OPERATORS["$regex" if isinstance(item, Pattern) else "$eq"], item, field_path)
                for item in value
            ]
        return [Condition(path, operator, value, field_path)]

    def _record_date(self, path: str, name: str, operand: Any, field_path: str) -> RecordDate:
        if not self._is_related:
            text = "refers to $$record, which only conditions on related records do, outside $elemMatch"
            raise InvalidFilter.at(field_path, text)
        return read_record_date(path, name, operand, field_path)

    def _parse_not(self, path: str, operand: Any, field_path: str, depth: int) -> Node:
        self._check_depth(depth + 1, field_path)
        if not isinstance(operand, Mapping) or not operand:
            raise InvalidFilter.at(field_path, 'takes an object of operators, like {"$gte": 50}')
        nodes = tuple(self._operators(path, operand, field_path, depth + 1))
        return Not(nodes[0] if len(nodes) == 1 else And(nodes, field_path), field_path)

    def _element(self, path: str, operand: Any, field_path: str, depth: int) -> Node:
        is_related, self._is_related = self._is_related, False
        node = self._element_node(path, operand, field_path, depth)
        self._is_related = is_related
        return node

    def _element_node(self, path: str, operand: Any, field_path: str, depth: int) -> Node:
        self._check_depth(depth + 1, field_path)
        if not isinstance(operand, Mapping):
            raise InvalidFilter.at(field_path, 'takes an object, like {"city": "Lyon"} or {"$gte": 1, "$lt": 5}')
        first = next(iter(operand), "")
        if not first.startswith("$") or first in _TOP_LEVEL_OPERATORS:
            query = self.query(operand, field_path, depth + 1, _ELEMENT)
            for node in walk(query):
                if isinstance(node, Condition) and node.operator.name in COMPUTED_OPERATORS:
                    text = "applies to fields of the record; move it out of $elemMatch"
                    raise InvalidFilter.at(node.field_path, text)
            _check_element(query)
            return _check_timezones(ElementMatch(path, query, field_path))
        conditions = tuple(self._operators("", operand, field_path, depth + 1))
        for condition in conditions:
            _check_element(condition)
        try:
            element_documents(conditions, lambda _: {})
        except ValueError as error:
            raise InvalidFilter.at(field_path, str(error)) from None
        return _check_timezones(ElementIs(path, conditions, field_path))

    def _elements(self, path: str, operand: Any, field_path: str, depth: int) -> list[Node]:
        """$all of $elemMatch: each is met by some element, not necessarily the same one."""
        nodes = []
        for index, item in enumerate(operand):
            here = at_index(field_path, index)
            if not isinstance(item, Mapping) or list(item) != ["$elemMatch"]:
                raise InvalidFilter.at(here, "is not an $elemMatch; in $all use $elemMatch for all items or none")
            self._count(here)
            nodes.append(self._element(path, item["$elemMatch"], at_key(here, "$elemMatch"), depth))
        return nodes

    def _count(self, field_path: str, cost: int = 1) -> None:
        self._conditions += cost
        if self._conditions > self._limits.conditions:
            raise self._too_many(field_path)

    def _too_many(self, field_path: str) -> FilterTooLarge:
        limit = self._limits.conditions
        return FilterTooLarge.at(field_path, f"exceeds the limit of {limit:,} conditions in a filter", limit=str(limit))

    def _check_depth(self, depth: int, field_path: str) -> None:
        limit = self._limits.depth
        if depth > limit:
            raise FilterTooLarge.at(field_path, f"is nested more than {limit} levels deep", limit=str(limit))


def _check_element(node: Node) -> None:
    """Raise InvalidFilter if a condition on an element reads a field of the record: a country, or a timezone."""
    for inner in walk(node):
        if isinstance(inner, Condition) and isinstance(inner.operand, ZonedOperand):
            text = 'names a field of the record, which elements of a list lack; write one like "America/New_York"'
            raise InvalidFilter.at(at_key(inner.field_path, "timezone"), text)
        if isinstance(inner, Condition) and isinstance(inner.operand, NearCity) and inner.operand.country:
            text = "names a field of the record; omit it in $elemMatch, and write a condition on the element's country"
            raise InvalidFilter.at(at_key(inner.field_path, "country"), text)


_N = TypeVar("_N", Condition, ElementMatch, ElementIs)


def _check_timezones(node: _N) -> _N:
    """The node, if all its dates in timezones of records read the same one. Raises InvalidFilter."""
    if len({date.timezone for date in zoned_dates(node)}) > 1:
        raise InvalidFilter.at(node.field_path, "has dates in two timezones of the record; name one field and default")
    return node


def _lists_elements(operand: Any) -> bool:
    return isinstance(operand, list) and any(isinstance(item, Mapping) and "$elemMatch" in item for item in operand)


def _unknown(name: str, allowed: tuple[str, ...], allowed_elsewhere: tuple[str, ...], misplaced: str) -> str:
    """The error message for an operator that is misplaced, mistyped or unknown."""
    if name in allowed_elsewhere:
        return misplaced
    if not name.startswith("$"):
        return "is a field among operators; an object has either operators or fields"
    return f"is not an operator; {advice(name, (*allowed, *allowed_elsewhere))}"
