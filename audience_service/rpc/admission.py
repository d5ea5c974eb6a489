"""The limits that a call passes before it works: permits, slots, and the bodies that are being received."""

import threading
from dataclasses import dataclass

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import TooManyCalls, TooManyStreams
from audience_service.observability import metrics
from audience_service.rpc.permits import PermitPool, RequestBytes, Shares
from audience_service.rpc.rate_limits import RateLimiter
from audience_service.rpc.stream_limits import StreamLimiter
from audience_service.rpc.workloads import Workload

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""The largest message of a request: gRPC's default limit."""

_MAX_PENDING_REQUESTS = 64
"""The most requests that are being received. Each may take `MAX_REQUEST_BYTES`, twice while grpcio copies it."""
_MAX_WAITING_BYTES = 64 * 1024 * 1024
"""The most bytes of received requests that wait for a permit."""
_MAX_LARGE_BYTES = 8 * 1024 * 1024
"""The most bytes of the large requests that run, of each workload with permits. Decoded, a request of 4 MiB can take
100 MB: 63 MB as a message and 38 MB as a filter."""
_MAX_STREAM_BYTES = 16 * 1024 * 1024
"""The most bytes of the large requests of open streams, which keep them decoded."""
_REFUSAL_DELAY_SECONDS = 1.0
_MAX_REFUSALS, _MAX_REFUSALS_PER_ORG = 1_024, 512
"""The most refused calls whose refusal is delayed, in all and by org. Each occupies a thread."""
_MAX_REFLECTION_STREAMS = 4
_MAX_HEALTH_WATCHES, _MAX_HEALTH_WATCHES_PER_PEER = 64, 4
"""The most watches of the health, in all and by connection. Each occupies a thread."""
_MAX_OPEN_CALLS, _MAX_OPEN_CALLS_PER_PEER = 512, 8
"""The most requests of health checks that are being received, in all and by connection."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The most concurrent calls of a process by workload, the shares of one org and one caller, and their rates."""

    reads: int
    queries: int
    analyses: int
    streams: int
    watch_streams: int
    shares: Shares
    org_rate: str | None
    caller_rate: str | None


class Admission:
    """The permits and slots of one process."""

    def __init__(self, limits: CallLimits) -> None:
        shares = limits.shares
        self.rates = RateLimiter(limits.org_rate, limits.caller_rate)
        self.waiting_bytes = RequestBytes(
            _MAX_WAITING_BYTES, shares, MAX_REQUEST_BYTES, gauge=metrics.WAITING_REQUEST_BYTES
        )
        self.stream_bytes = RequestBytes(_MAX_STREAM_BYTES, shares, MAX_REQUEST_BYTES, "open streams")
        """The large requests of open streams."""
        half = Shares(shares.org / 2, shares.caller / 2)
        self.requests = PermitPool(_MAX_PENDING_REQUESTS, half, self.waiting_bytes, "request")
        """Permits to receive a request. An org has half of its share, so that it takes several to occupy all."""
        self.permits = {
            workload: PermitPool(number, shares, self.waiting_bytes, workload.label, _MAX_LARGE_BYTES)
            for workload, number in (
                (Workload.READ, limits.reads),
                (Workload.QUERY, limits.queries),
                (Workload.ANALYSIS, limits.analyses),
            )
        }
        self.slots = {
            workload: StreamLimiter(workload.label, number, org=shares.of_org(number), caller=shares.of_caller(number))
            for workload, number in ((Workload.STREAM, limits.streams), (Workload.WATCH, limits.watch_streams))
        }
        self.refusals = StreamLimiter("refusal", _MAX_REFUSALS, org=_MAX_REFUSALS_PER_ORG)
        """Slots to delay a refusal."""
        self.open_requests = StreamLimiter("health", _MAX_OPEN_CALLS, connection=_MAX_OPEN_CALLS_PER_PEER)
        """Slots to receive a request that needs no token."""
        self.health_watches = StreamLimiter(
            "health_watch", _MAX_HEALTH_WATCHES, connection=_MAX_HEALTH_WATCHES_PER_PEER
        )
        self.reflection_streams = StreamLimiter("reflection", _MAX_REFLECTION_STREAMS)

    def check_place(self, workload: Workload, ctx: RequestContext) -> None:
        """Refuse a call that finds neither a permit nor a place to wait. Its request has not been received.

        A place may become free within a second, so the refusal comes after it. Clients that call again at once, without
        the delay of RetryInfo, cannot keep the process busy with refusals then. Raises TooManyCalls, OutOfTime.
        """
        pool = self.permits[workload]
        try:
            pool.check(ctx.caller)
        except TooManyCalls as error:
            try:
                with self.refusals.acquire(org=ctx.org):
                    seconds_left = ctx.deadline.remaining()
                    delay = (
                        _REFUSAL_DELAY_SECONDS
                        if seconds_left is None
                        else min(_REFUSAL_DELAY_SECONDS, seconds_left / 2)
                    )
                    (ctx.deadline.cancel_event or threading.Event()).wait(delay)
            except TooManyStreams:
                raise error from None
            pool.check(ctx.caller)
