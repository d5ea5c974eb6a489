"""Rate limits: how many calls of an org, or of a caller, may begin in a time."""

import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from audience_service.domain.core.context import Caller
from audience_service.domain.core.errors import RateLimited


class RateLimiter:
    """Counts the calls of the last second, minute or hour. Each process counts its own."""

    def __init__(self, org_rate: str | None, caller_rate: str | None) -> None:
        """The rates are like `100/second`; None: no limit."""
        self._org_rate = parse(org_rate) if org_rate else None
        self._caller_rate = parse(caller_rate) if caller_rate else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, caller: Caller) -> None:
        """Count a call. Raises RateLimited if the caller or the org has reached its rate."""
        if self._caller_rate:
            self._hit(self._caller_rate, "caller", caller.subject)
        if self._org_rate:
            self._hit(self._org_rate, "org", caller.org)

    def _hit(self, rate: RateLimitItem, kind: str, holder: str) -> None:
        if self._limiter.hit(rate, kind, holder):
            return
        reset_at = self._limiter.get_window_stats(rate, kind, holder).reset_time
        error = RateLimited(
            f"the {kind} may make {rate.amount} calls per {rate.GRANULARITY.name}; retry after the delay",
            metadata={"limit": str(rate.amount), "limited": kind},
        )
        error.retry_after_seconds = max(0.1, reset_at - time.time())
        raise error
