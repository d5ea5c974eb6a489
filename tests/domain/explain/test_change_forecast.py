"""When the result of a node may change without a write."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.explain.change_forecast import ChangeForecaster
from audience_service.domain.filters import Filter, FilterCompiler

NOW = datetime(2026, 3, 25, tzinfo=UTC)
RECORD = {"data": {"at": NOW, "n": 1}}


def test_the_forecast_stops_at_the_deadline() -> None:
    def node(where: dict[str, Any]) -> Any:
        return FilterCompiler(["contact"]).at(NOW).compile(Filter("contact", where)).node

    recent = node({"at": {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}})
    change_times = tuple(NOW + timedelta(days=30, milliseconds=late) for late in (0, 1))
    assert ChangeForecaster(NOW, Deadline.after(20)).forecast(recent, RECORD).times == change_times
    passed = ChangeForecaster(NOW, Deadline.after(-1))
    assert passed.forecast(node({"n": 1}), RECORD).times == ()
    with pytest.raises(OutOfTime):
        passed.forecast(recent, RECORD)
