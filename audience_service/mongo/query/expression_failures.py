"""Finds the expression and a record on which a filter's expression fails, for the error message.

The database reports neither. So the filter's own stages run on the org's records in the order of sk, in windows that
shrink around the first failure:

    window of 1,000 from ""            fails
    window of 100 from ""              succeeds, up to sk ...0099
    window of 100 from ...0099         fails
    ...
    window of 1 from ...0142           fails: the record after ...0142

On that record the filter runs again: with its first expression and constants for the others, then with its first two,
and so on. The last one that was added when it fails is the expression. So what guards an expression still guards it:
conditions next to it, earlier alternatives, audiences and related records.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError, ExpressionFailed
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import (
    And,
    Expression,
    Node,
    Nor,
    Not,
    Or,
    Related,
    conjuncts,
    joins,
    walk,
)
from audience_service.domain.filters.compiler import compile_node, evaluation_order
from audience_service.domain.filters.describe.expressions import describe_expression
from audience_service.domain.filters.describe.values import truncate
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope

_WINDOWS = (10_000, 1_000, 100, 10, 1)
_MAX_SECONDS = 1.0
"""The longest search. Without a result the error names no record."""
_MAX_EXPRESSION = 200
_CONSTANT: Document = {"$literal": True}

BuildStages = Callable[[CompiledFilter, Document, Deadline], list[Document]]
"""The stages of a filter on the records in a range of sk."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An expression that fails, and the id of a record on which it does; empty if they are not known."""

    expression: str
    record_id: str

    def explain(self, error: ExpressionFailed) -> ExpressionFailed:
        """The error with the expression and the record."""
        expression = f"the expression {self.expression}" if self.expression else "an expression in it"
        record = f"the record {self.record_id}" if self.record_id else "a record"
        guards = "$ifNull, $type, $convert or $validTimezone"
        text = f"{expression} fails on {record}; guard it by {guards}, or write $tryExpr, which is false there"
        return ExpressionFailed.at(error.violations[0].field, text, record_id=self.record_id)


def find_failure(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    population: CompiledFilter,
    key_range: Document,
    deadline: Deadline,
    build_stages: BuildStages,
) -> Failure:
    """The first record in the order of sk on which the filter fails, and its expression, within _MAX_SECONDS.

    `key_range` is a further condition, by which the failed command was restricted.
    """
    parts = sorted(evaluation_order(list(conjuncts(population.node))), key=lambda part: bool(joins(part)))
    expressions = [found for part in parts for found in _expressions(part)]
    only = expressions[0] if len(expressions) == 1 else None
    search = _Search(database, scope, org, deadline.min_with(_MAX_SECONDS), build_stages)
    try:
        record = search.first_failing(population, key_range)
        if record:
            found = only or search.failing_expression(population, expressions, record)
            is_own = any(node is found for node in walk(population.node))  # not of a related record
            return Failure(_describe(found), str(record["pk"]) if is_own or not found else "")
    except (AudienceError, PyMongoError):
        pass
    return Failure(_describe(only), "")


def _describe(expression: Expression | None) -> str:
    return truncate(describe_expression(expression.document), _MAX_EXPRESSION) if expression else ""


@dataclass(frozen=True, slots=True)
class _Search:
    database: Database[dict[str, Any]]
    scope: TenantScope
    org: str
    deadline: Deadline
    build_stages: BuildStages

    def first_failing(self, population: CompiledFilter, key_range: Document) -> Document:
        """The pk and sk of the first record on which the filter fails; empty if it fails on none."""
        stages, after = self.build_stages(population, {}, self.deadline), ""
        collection = self.database[population.datatype]
        for window in _WINDOWS:
            while True:
                key: Document = {"sk": {"$gt": after}} if after else {}
                rows: list[Document] = [
                    {"$match": self.scope.match(self.org, key_range, key)}, {"$sort": {"sk": 1}}, {"$limit": window},
                ]  # fmt: skip
                with with_deadline(self.database, self.deadline):
                    if self._fails(population.datatype, [*rows, *stages]):
                        if window == 1:
                            return dict(*collection.aggregate([*rows, {"$project": {"_id": 0, "pk": 1, "sk": 1}}]))
                        break
                    last = list(
                        collection.aggregate([*rows, {"$sort": {"sk": -1}}, {"$limit": 1}, {"$project": {"sk": 1}}])
                    )
                if not last:
                    return {}
                after = last[0]["sk"]
        return {}

    def failing_expression(
        self, population: CompiledFilter, expressions: Sequence[Expression], record: Document
    ) -> Expression | None:
        """The expression that fails first on a record; None if none does any more."""
        key: Document = {"sk": record["sk"]}
        for number, expression in enumerate(expressions, 1):
            node = _with_constants(population.node, expressions[number:])
            trial = compile_node(population.datatype, node)
            stages = self.build_stages(trial, key, self.deadline)
            with with_deadline(self.database, self.deadline):
                if self._fails(population.datatype, stages):
                    return expression
        return None

    def _fails(self, datatype: str, stages: Sequence[Document]) -> bool:
        """Whether an expression fails. Raises the driver's error of a timeout."""
        try:
            list(self.database[datatype].aggregate([*stages, {"$project": {"_id": 1}}]))
        except OperationFailure as error:
            if error.timeout:
                raise
            return True
        return False


def _expressions(node: Node) -> Iterator[Expression]:
    """The expressions of a filter in the order in which they are evaluated, those on related records included."""
    match node:
        case And(nodes):
            for child in evaluation_order(nodes):
                yield from _expressions(child)
        case Or(nodes) | Nor(nodes):
            for child in nodes:
                yield from _expressions(child)
        case Not(child):
            yield from _expressions(child)
        case Related(queries=queries):
            for query in queries:
                yield from _expressions(query)
        case Expression():
            yield node


def _with_constants(node: Node, expressions: Sequence[Expression]) -> Node:
    """The filter with constants in place of these expressions."""
    match node:
        case And(nodes) | Or(nodes) | Nor(nodes):
            return replace(node, children=tuple(_with_constants(child, expressions) for child in nodes))
        case Not(child):
            return replace(node, child=_with_constants(child, expressions))
        case Related():
            return node.with_queries(lambda query: _with_constants(query, expressions))
        case Expression():
            is_later = any(node is expression for expression in expressions)
            return Expression(_CONSTANT, ()) if is_later else node
    return node
