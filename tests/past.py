"""The past of audiences that tests track: plans that change, and what is told of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.caller import Call, Caller
from audience_service.domain.watches.sizes import SizeHistory, Sizes, Span
from tests.tracked import NEVER, Tracked

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
PAID: dict[str, Any] = {"plan": "paid"}
Tracking = Callable[[], Tracked]


def set_plans(audience: Tracked, **plans: str) -> None:
    """Change the plans of contacts, by key."""
    for key, plan in plans.items():
        audience.update(key, **{"data.plan": plan})


def history(audience: Tracked, start: datetime | None, end: datetime | None, points: int = 100) -> SizeHistory:
    """The sizes of an audience."""
    sizes = Sizes(audience.store.watches, audience.store.past)
    return sizes.history(call_of(audience), audience.audience, Span(start, end, points))


def call_of(audience: Tracked) -> Call:
    return Call(Caller("test", audience.org, frozenset()), NEVER)


def stamp(moment: datetime) -> str:
    """The moment in JSON."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
