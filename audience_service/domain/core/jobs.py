"""Background jobs of one process: work that outlasts the call that requests it.

A job is stored in the database, by the feature that it belongs to, with a lease of the process that runs it:

    slot() ──> the caller stores the job with `lease()` ──> slot.start(job) ──> run in a thread ──> job.finish(error)
                                  renewed every quarter of its duration  ^

1. If a renewal is refused, because the job was deleted, failed or taken over, the job's deadline is cancelled and its
   result is discarded.
2. Once a lease has expired, anybody may fail the job or take it over. Either changes the attempt or the state that each
   write of the job compares. Until then the lease can be renewed, unless readers see an expired job as FAILED, as those
   of custom audiences do.
3. `finish` is called at least once per job whose first renewal succeeds, unless the process dies. It is idempotent, and
   a result after the loss of the lease is discarded.
"""

import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import structlog

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError, OutOfTime, StoreUnavailable
from audience_service.domain.core.lease import Lease
from audience_service.observability import metrics
from audience_service.observability.tracing import background_span

_WRITE_TIMEOUT_SECONDS = 30.0
_RENEW_TIMEOUT_SECONDS = 3.0
_RETRY_INTERVAL_SECONDS = 0.5
_RENEWALS_PER_LEASE = 4

STOPPED = "INTERRUPTED: the server that ran the job was stopped; start the job again"

_log = structlog.get_logger()

Answer = TypeVar("Answer")

Report = Callable[[int], None]
"""Reports the progress of a job in per cent; it never decreases."""


def ignore_progress(percent: int) -> None:
    """Discard the progress: a Report for work whose progress is not stored."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How many jobs a process runs concurrently, how many may wait, and the timeout and lease of each in seconds."""

    max_running: int = 4
    max_waiting: int = 0
    timeout_seconds: float = 3600.0
    lease_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """A stored job.

    `renew` returns whether the job is still leased to this process. `finish` stores the outcome; it takes the error,
    which is empty if the job succeeded. Both can be called twice.
    """

    key: str
    run: Callable[[Deadline, Report], None]
    renew: Callable[[Lease, int, Deadline], bool]
    finish: Callable[[str, Deadline], object]


@dataclass(slots=True, eq=False)
class _Running:
    job: Job
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: int = 0


class JobRunner:
    """Runs the jobs of one kind in threads of its own."""

    def __init__(self, name: str, limits: JobLimits, too_many: Callable[[int], AudienceError]) -> None:
        """`too_many` creates the error for a job above the limit; its argument is the limit."""
        self._name = name
        self._limits = limits
        self._too_many = too_many
        self._owner = secrets.token_hex(8)
        self._free = threading.Semaphore(limits.max_running + limits.max_waiting)
        self._pool = ThreadPoolExecutor(limits.max_running, thread_name_prefix=name)
        self._running: set[_Running] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def lease(self) -> Lease:
        """A lease of this process that starts now."""
        return Lease(self._owner, now() + timedelta(seconds=self._limits.lease_seconds))

    @contextmanager
    def slot(self) -> "Iterator[Slot]":
        """Reserve room for one job, which the body stores and starts. Raises the error of `too_many`."""
        if not self._free.acquire(blocking=False):
            raise self._too_many(self._limits.max_running + self._limits.max_waiting)
        slot = Slot(self)
        try:
            yield slot
        finally:
            if not slot.is_started:
                self._free.release()

    def cancel(self, key: str) -> None:
        """Stop the jobs of this key that run in this process; their results are discarded."""
        for running in self._all():
            if running.job.key == key:
                running.cancelled.set()

    def close(self) -> None:
        """Stop all jobs and mark them failed, so that others can start them again without waiting for the lease."""
        self._closed.set()
        stopped = self._all()
        for running in stopped:
            running.cancelled.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for running in stopped:
            with suppress(AudienceError):
                running.job.finish(STOPPED, Deadline.after(_RENEW_TIMEOUT_SECONDS))

    def start(self, job: Job) -> None:
        """Run a job in a reserved slot. Returns immediately."""
        running = _Running(job)
        with self._lock:
            if self._heartbeat is None:
                self._heartbeat = threading.Thread(target=self._renew_leases, name=f"{self._name}-leases", daemon=True)
                self._heartbeat.start()
            done = self._pool.submit(self._run, running)
            self._running.add(running)
        metrics.JOBS_OPEN.labels(self._name).inc()
        done.add_done_callback(lambda _: self._end(running))

    def _end(self, running: _Running) -> None:
        with self._lock:
            self._running.discard(running)
        metrics.JOBS_OPEN.labels(self._name).dec()
        self._free.release()

    def _all(self) -> tuple[_Running, ...]:
        with self._lock:
            return tuple(self._running)

    def _run(self, running: _Running) -> None:
        job = running.job
        try:
            if not self._retried(lambda until: job.renew(self.lease(), 0, until)):
                return  # the job waited for longer than its lease, or was deleted
            with background_span(f"job {self._name}", key=job.key):
                job.run(
                    Deadline.after(self._limits.timeout_seconds, running.cancelled),
                    lambda percent: self._report(running, percent),
                )
                self._retried(lambda until: job.finish("", until))
            metrics.JOBS_ENDED.labels(self._name, "ok").inc()
        except OutOfTime:
            limit = self._limits.timeout_seconds
            self._fail(running, f"OUT_OF_TIME: the job took longer than the limit of {limit:g} seconds")
        except AudienceError as error:
            self._fail(running, f"{error.reason}: {error}")
        except Exception as error:
            incident = uuid.uuid4().hex[:8]
            _log.error("background job failed", job=job.key, incident=incident, exc_info=error)
            self._fail(running, f"INTERNAL: internal error; the log has incident {incident}")

    def _fail(self, running: _Running, error: str) -> None:
        """Store the error, if the database can be reached; otherwise the lease expires."""
        metrics.JOBS_ENDED.labels(self._name, error.partition(":")[0]).inc()
        if not running.cancelled.is_set():
            with suppress(AudienceError):
                self._retried(lambda until: running.job.finish(error, until))

    def _report(self, running: _Running, percent: int) -> None:
        if percent > running.progress:
            running.progress = percent
            self._renew(running)

    def _renew(self, running: _Running) -> None:
        try:
            if not running.job.renew(self.lease(), running.progress, Deadline.after(_RENEW_TIMEOUT_SECONDS)):
                running.cancelled.set()
        except AudienceError:
            pass  # the next renewal tries again
        except Exception as error:  # one job must not end the leases of the others
            _log.error("lease renewal failed", job=running.job.key, exc_info=error)

    def _renew_leases(self) -> None:
        while not self._closed.wait(self._limits.lease_seconds / _RENEWALS_PER_LEASE):
            for running in self._all():
                self._renew(running)

    def _retried(self, write: Callable[[Deadline], Answer]) -> Answer:
        """The result of a write, retried for the duration of a lease while the database is unavailable."""
        last = time.monotonic() + self._limits.lease_seconds
        while True:
            try:
                return write(Deadline.after(_WRITE_TIMEOUT_SECONDS))
            except StoreUnavailable:
                if time.monotonic() > last or self._closed.wait(_RETRY_INTERVAL_SECONDS):
                    raise


class Slot:
    """A reservation for one job."""

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self.is_started = False

    def lease(self) -> Lease:
        """The lease to store the job with."""
        return self._runner.lease()

    def start(self, job: Job) -> None:
        """Run the stored job in this slot."""
        self._runner.start(job)
        self.is_started = True
