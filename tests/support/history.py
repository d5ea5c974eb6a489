"""The history of audiences that tests track: plans that change, and the answers about them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Caller, RequestContext
from audience_service.domain.history.size_history import SizeHistory, SizeHistoryReader, TimeRange
from tests.support.watch_harness import NO_DEADLINE, WatchHarness

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
PAID: dict[str, Any] = {"plan": "paid"}
MakeHarness = Callable[[], WatchHarness]


def set_plans(audience: WatchHarness, **plans: str) -> None:
    """Change the plans of contacts, by key."""
    for key, plan in plans.items():
        audience.update(key, **{"data.plan": plan})


def history(audience: WatchHarness, start: datetime | None, end: datetime | None, points: int = 100) -> SizeHistory:
    """The sizes of an audience."""
    reader = SizeHistoryReader(audience.store.watches, audience.store.history)
    return reader.history(context_of(audience), audience.audience_id, TimeRange(start, end, points))


def context_of(audience: WatchHarness) -> RequestContext:
    return RequestContext(Caller("test", audience.org, frozenset()), NO_DEADLINE)


def to_json_time(timestamp: datetime) -> str:
    """The timestamp in JSON."""
    return timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
