"""Nodes evaluated at another timestamp."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.rebase_dates import evaluate_as_of

THEN, LATER = (datetime(2026, 3, 25, tzinfo=UTC) + timedelta(days=days) for days in (0, 40))
AGO = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
BUYS = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}


@pytest.mark.parametrize(
    "where",
    [
        {"at": {"$gte": AGO}},
        {"at": {"$in": [AGO, 5]}, "n": [1]},
        {"at": {"$gte": {"$dateTrunc": {"date": AGO, "unit": "day", "timezone": "$tz"}}}},
        {"$or": [{"at": {"$not": {"$lt": AGO}}}, {"$nor": [{"at": {"$eq": AGO}}]}]},
        {"at": {"$elemMatch": {"$gte": AGO}}},
        {"visits": {"$elemMatch": {"at": {"$gte": AGO}}}},
        {"$expr": {"$gte": ["$at", {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}]}},
        {"$related": {**BUYS, "where": {"at": {"$gte": AGO}}}},
        {"$related": {**BUYS, "last": {"by": "at", "where": {"at": {"$gte": AGO}}}}},
        {"$related": {**BUYS, "having": {"max": {"at": {"$lt": AGO}}}}},
        {"$related": {**BUYS, "at": "at", "then": {"within": {"amount": 7, "unit": "day"}, "count": 0}}},
    ],
)
def test_a_rebased_node_equals_a_node_compiled_at_that_time(where: dict[str, Any]) -> None:
    compiler = FilterCompiler(["contact"], related=["order"])
    then, later = (compiler.at(timestamp).compile(Filter("contact", where)).node for timestamp in (THEN, LATER))
    assert then != later
    assert evaluate_as_of(then, LATER) == later
