"""Permits limit how many calls work concurrently, and share the work fairly between orgs.

Each workload has its own permits, so a point read never waits for a count. Example with 4 permits, of which an org may
have 2, and these calls in the order of their arrival:

    A1 A2 A3 A4 B1      A1, A2 and B1 run. A3 and A4 wait, although a permit is free: it stays free for other orgs.
    C1 C2 end of A1     C1 runs, C2 waits. A1 ends, and the orgs take turns: A3 runs. C2 gets the next permit.

Invariants:

1. A free permit and a waiting call that may have it never exist together, so a new call needs no queue to be fair.
2. A permit is occupied until the thread has ended its work, whether or not the client still waits.
3. The requests of waiting calls are limited in bytes as well, by org and in all. They wait undecoded.
4. The large requests of running calls are limited in bytes too: decoded, a request takes up to 26 times its bytes. A
   call with a large request waits until there is room for it. Calls with small requests overtake it.
5. A call that has waited for half of its time lets later calls of its org overtake it. It would hardly end in time: if
   the first call came first, an org with more calls than permits would get an answer to none of them.
"""

import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from prometheus_client import Gauge

from audience_service.domain.core.context import Caller, RequestContext
from audience_service.domain.core.errors import OutOfTime, TooManyCalls
from audience_service.observability import metrics
from audience_service.rpc.calls import CancelEvent

_MAX_WAITING_PER_PERMIT = 8
"""The most calls that wait, for each permit."""
_LARGE_REQUEST_BYTES = 64 * 1024
"""A request above this size is large. Permits and slots limit the bytes of smaller ones well enough."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The share of a limit, above 0 and up to 1, that one org or one caller may use."""

    org: float
    caller: float

    def of_org(self, limit: int) -> int:
        """The limit of one org: at least 1."""
        return max(1, int(limit * self.org))

    def of_caller(self, limit: int) -> int:
        """The limit of one caller: at least 1."""
        return max(1, int(limit * self.caller))


class _Usage:
    """Counts by org and by caller, limited by their shares of a total."""

    def __init__(self, limit: int, shares: Shares, gauge: Gauge | None, min_share: int = 1) -> None:
        """The gauge shows the total. `min_share` is the least that a share comes to."""
        self._gauge = gauge
        self.limit = limit
        self.org_limit = max(min_share, shares.of_org(limit))
        self.caller_limit = max(min_share, shares.of_caller(limit))
        self.total = 0
        self._orgs: dict[str, int] = {}
        self._callers: dict[str, int] = {}

    def exhausted(self, caller: Caller, number: int = 1) -> tuple[str, int] | None:
        """The first limit that so many more of the caller would exceed, and who reached it; None if none."""
        if self.total + number > self.limit:
            return "server", self.limit
        if self._orgs.get(caller.org, 0) + number > self.org_limit:
            return "org", self.org_limit
        if self._callers.get(caller.subject, 0) + number > self.caller_limit:
            return "caller", self.caller_limit
        return None

    def add(self, caller: Caller, number: int) -> None:
        if not number:  # as for most requests, which are not large
            return
        self.total += number
        if self._gauge:
            self._gauge.inc(number)
        for counts, key in ((self._orgs, caller.org), (self._callers, caller.subject)):
            if count := counts.get(key, 0) + number:
                counts[key] = count
            else:
                del counts[key]


def large_bytes(size: int) -> int:
    """The size of a large request, 0 for the size of a smaller one."""
    return size if size > _LARGE_REQUEST_BYTES else 0


class RequestBytes:
    """The bytes of the requests of some calls, in all workloads together."""

    def __init__(
        self,
        limit: int,
        shares: Shares,
        max_request_bytes: int,
        calls: str = "waiting calls",
        gauge: Gauge | None = None,
    ) -> None:
        """Whatever the shares are, there is room for one request of `max_request_bytes`. Errors name the calls."""
        self.max_request_bytes = max_request_bytes
        self._calls = calls
        self._usage = _Usage(limit, shares, gauge, max_request_bytes)
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """The bytes of all requests."""
        return self._usage.total

    @contextmanager
    def occupy(self, caller: Caller, size: int) -> Iterator[None]:
        """Add a request, and remove it in the end. Raises as `add`."""
        self.add(caller, size)
        try:
            yield
        finally:
            self.remove(caller, size)

    def add(self, caller: Caller, size: int) -> None:
        """Add a request. Raises TooManyCalls above a limit."""
        with self._lock:
            if exhausted := self._usage.exhausted(caller, size):
                holder, limit = exhausted
                raise TooManyCalls(
                    f"the requests of the {self._calls} of this {holder} would have more than {limit:,} bytes, which is"
                    " the limit; retry later",
                    metadata={"limit": str(limit), "limited": holder, "unit": "bytes"},
                )
            self._usage.add(caller, size)

    def remove(self, caller: Caller, size: int) -> None:
        """Remove a request."""
        with self._lock:
            self._usage.add(caller, -size)


@dataclass(slots=True, eq=False)
class _Waiter:
    caller: Caller
    size: int
    late_at: float
    """When half of its time has passed, on the monotonic clock."""
    wake_event: threading.Event = field(default_factory=threading.Event)
    has_permit: bool = False


class PermitPool:
    """The permits of one workload, whose name is in the metrics."""

    def __init__(
        self,
        permits: int,
        shares: Shares,
        waiting_bytes: RequestBytes,
        workload: str = "",
        max_large_bytes: int = sys.maxsize,
    ) -> None:
        """`max_large_bytes` limits the large requests of running calls."""
        self._waiting_bytes = waiting_bytes
        self._running = _Usage(permits, shares, metrics.PERMITS_IN_USE.labels(workload))
        self._large = _Usage(max_large_bytes, shares, None, waiting_bytes.max_request_bytes)
        self._queued = _Usage(permits * _MAX_WAITING_PER_PERMIT, shares, metrics.CALLS_WAITING.labels(workload))
        self._wait_seconds = metrics.CALL_WAIT_SECONDS.labels(workload)
        metrics.PERMITS.labels(workload).set(permits)
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        """The waiting calls of each org. The org whose turn is next comes first."""
        self._lock = threading.Lock()

    @property
    def running_count(self) -> int:
        """The number of occupied permits."""
        return self._running.total

    @property
    def waiting_count(self) -> int:
        """The number of waiting calls."""
        return self._queued.total

    def check(self, caller: Caller) -> None:
        """Raise TooManyCalls if a call of the caller would find neither a permit nor a place to wait.

        It refuses a call before its request is received and decoded.
        """
        with self._lock:
            if self._running.exhausted(caller):
                self._check_queue(caller)

    @contextmanager
    def acquire(self, ctx: RequestContext, size: int = 0) -> Iterator[None]:
        """Occupy a permit; wait for one if necessary, with a request of `size` bytes.

        Raises TooManyCalls if too many calls or bytes wait already, OutOfTime if the call is cancelled or its deadline
        passes.
        """
        self._enter(ctx, size)
        try:
            yield
        finally:
            with self._lock:
                self._release(ctx.caller, size)

    def _enter(self, ctx: RequestContext, size: int) -> None:
        with self._lock:
            if self._may_run(ctx.caller, size):
                self._run(ctx.caller, size)
                return
            waiter = self._enqueue(ctx, size)
        cancel_event = ctx.deadline.cancel_event
        if isinstance(cancel_event, CancelEvent):
            cancel_event.waker = waiter.wake_event
        waiting_since = time.monotonic()
        try:
            while not waiter.has_permit:
                waiter.wake_event.wait(ctx.deadline.remaining())
        except OutOfTime:
            with self._lock:
                if waiter.has_permit:
                    self._release(ctx.caller, size)
                else:
                    self._remove(waiter)
            raise
        finally:
            if isinstance(cancel_event, CancelEvent):
                cancel_event.waker = None
            self._wait_seconds.observe(time.monotonic() - waiting_since)

    def _check_queue(self, caller: Caller) -> None:
        if exhausted := self._queued.exhausted(caller):
            holder, limit = exhausted
            raise TooManyCalls(
                f"{limit} calls of this {holder} wait for earlier ones, which is the limit; retry later",
                metadata={"limit": str(limit), "limited": holder},
            )

    def _enqueue(self, ctx: RequestContext, size: int) -> _Waiter:
        caller, seconds = ctx.caller, ctx.deadline.remaining()
        self._check_queue(caller)
        self._waiting_bytes.add(caller, size)
        waiter = _Waiter(caller, size, inf if seconds is None else time.monotonic() + seconds / 2)
        self._queues.setdefault(caller.org, deque()).append(waiter)
        self._queued.add(caller, 1)
        return waiter

    def _remove(self, waiter: _Waiter) -> None:
        org = waiter.caller.org
        self._queues[org].remove(waiter)
        if not self._queues[org]:
            del self._queues[org]
        self._queued.add(waiter.caller, -1)
        self._waiting_bytes.remove(waiter.caller, waiter.size)

    def _may_run(self, caller: Caller, size: int) -> bool:
        return not (self._running.exhausted(caller) or self._large.exhausted(caller, large_bytes(size)))

    def _run(self, caller: Caller, size: int) -> None:
        self._running.add(caller, 1)
        self._large.add(caller, large_bytes(size))

    def _release(self, caller: Caller, size: int) -> None:
        """Free a permit. Give it, and others that its large request has kept free, to the calls that may have them."""
        self._running.add(caller, -1)
        self._large.add(caller, -large_bytes(size))
        while self._queues and (waiter := self._next_waiter()):
            org = waiter.caller.org
            self._remove(waiter)
            if org in self._queues:
                self._queues.move_to_end(org)
            self._run(waiter.caller, waiter.size)
            waiter.has_permit = True
            waiter.wake_event.set()

    def _next_waiter(self) -> _Waiter | None:
        """The first call that may run of the first org that has one; if all of them are late, the last one."""
        if self._running.total >= self._running.limit:
            return None
        monotonic = time.monotonic()
        for queue in self._queues.values():
            waiters = [waiter for waiter in queue if self._may_run(waiter.caller, waiter.size)]
            if waiters:
                return next((waiter for waiter in waiters if monotonic < waiter.late_at), waiters[-1])
        return None
