"""Finds the expression and a record on which a filter's expression fails, for the error message.

The database reports neither. So the records that meet the other conditions are evaluated in the order of sk, in windows
that shrink around the first failure:

    window of 1,000 from ""            fails
    window of 100 from ""              succeeds, up to sk ...0099
    window of 100 from ...0099         fails
    ...
    window of 1 from ...0142           fails: the record after ...0142
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import ExpressionFailed, OutOfTime
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import And, Expression, conjuncts, joins, walk
from audience_service.domain.filters.compiler import has_expression, to_match
from audience_service.domain.filters.describe.expressions import describe_expression
from audience_service.domain.filters.describe.values import truncate
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_match

_WINDOWS = (10_000, 1_000, 100, 10, 1)
_MAX_SECONDS = 1.0
"""The longest search. Without a result the error names no record."""
_MAX_EXPRESSION = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """An expression that fails, and the id of a record on which it does; empty if they are not known."""

    expression: str
    record_id: str

    def explain(self, error: ExpressionFailed) -> ExpressionFailed:
        """The error with the expression and the record."""
        expression = f"the expression {self.expression}" if self.expression else "an expression in it"
        record = f"the record {self.record_id}" if self.record_id else "a record"
        text = f"{expression} fails on {record}; guard it by $ifNull, $type, $convert or $validTimezone"
        return ExpressionFailed.at(error.violations[0].field, text, record_id=self.record_id)


def find_failure(
    database: Database[dict[str, Any]], org: str, population: CompiledFilter, key_range: Document, deadline: Deadline
) -> Failure:
    """The first record in the order of sk on which an expression of the filter fails, within _MAX_SECONDS.

    `key_range` is a further condition, by which the failed command was restricted.
    """
    found = [node for node in walk(population.node) if isinstance(node, Expression)]
    for node in found:
        expression = truncate(describe_expression(node.document), _MAX_EXPRESSION)
        parts = [part for part in conjuncts(population.node) if not has_expression(part) and not joins(part)]
        plain = to_match(And(tuple(parts)))
        try:
            record_id = _first_failing(
                database, org, population.datatype, [plain, key_range], {"$expr": node.document}, deadline
            )
        except (OutOfTime, PyMongoError):
            record_id = ""
        if record_id:
            return Failure(expression, record_id)
    return Failure(truncate(describe_expression(found[0].document), _MAX_EXPRESSION) if len(found) == 1 else "", "")


def _first_failing(
    database: Database[dict[str, Any]],
    org: str,
    datatype: str,
    conditions: Sequence[Document],
    match: Document,
    deadline: Deadline,
) -> str:
    collection, after = database[datatype], ""
    until = time.monotonic() + _MAX_SECONDS
    for window in _WINDOWS:
        while time.monotonic() < until:
            key: Document = {"sk": {"$gt": after}} if after else {}
            rows: Sequence[Document] = [
                {"$match": org_match(org, *conditions, key)}, {"$sort": {"sk": 1}}, {"$limit": window},
            ]  # fmt: skip
            with with_deadline(database, deadline.min_with(max(until - time.monotonic(), 0.01))):
                try:
                    list(collection.aggregate([*rows, {"$match": match}, {"$project": {"_id": 1}}]))
                except OperationFailure as error:
                    if error.timeout:
                        raise
                    if window == 1:
                        [row] = collection.aggregate([*rows, {"$project": {"pk": 1}}])
                        return str(row["pk"])
                    break
                last = list(
                    collection.aggregate([*rows, {"$sort": {"sk": -1}}, {"$limit": 1}, {"$project": {"sk": 1}}])
                )
            if not last:
                return ""
            after = last[0]["sk"]
    return ""
