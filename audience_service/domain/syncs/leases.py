"""The lease of a sync: the right to scan it, to build its batches, and to reset it."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.lease import Lease
from audience_service.domain.syncs.repository import SyncRepository

_LEASE_TTL = timedelta(minutes=10)
"""Longer than any command that runs under the lease: its deadline is `COMMAND_TIMEOUT_SECONDS`."""
COMMAND_TIMEOUT_SECONDS = 500.0
_RENEW_INTERVAL_SECONDS = 30.0
_POLL_INTERVAL_SECONDS = 0.2
_RELEASE_TIMEOUT_SECONDS = 5.0


class SyncLease:
    """A lease that one call has."""

    def __init__(self, syncs: SyncRepository, ctx: RequestContext, sync_id: str, owner: str) -> None:
        self._syncs = syncs
        self._ctx = ctx
        self._sync_id = sync_id
        self._owner = owner
        self._renewed_at = time.monotonic()

    @property
    def current(self) -> Lease:
        """The lease with its next time of expiry."""
        return Lease(self._owner, now() + _LEASE_TTL)

    def renew(self, *, force: bool = False) -> Deadline:
        """Renew the lease if half a minute has passed; returns the deadline of the next command. Raises LeaseLost."""
        if force or time.monotonic() - self._renewed_at > _RENEW_INTERVAL_SECONDS:
            self._syncs.renew(self._ctx.org, self._sync_id, self.current, self._ctx.deadline)
            self._renewed_at = time.monotonic()
        return self._ctx.deadline.min_with(COMMAND_TIMEOUT_SECONDS)


class SyncLeases:
    """Takes the leases of syncs."""

    def __init__(self, syncs: SyncRepository) -> None:
        self._syncs = syncs

    @contextmanager
    def attempt(self, ctx: RequestContext, sync_id: str) -> Iterator[SyncLease | None]:
        """The lease, which is released at the end; None if another call has it. Raises SyncNotFound.

        Also a worker that restarts under its old name waits: the database may still run a command of its old call.
        """
        lease = SyncLease(self._syncs, ctx, sync_id, secrets.token_hex(8))
        if not self._syncs.acquire(ctx.org, sync_id, lease.current, ctx.deadline):
            yield None
            return
        try:
            yield lease
        finally:
            # Also if the caller has cancelled: the next worker need not wait for the lease to expire.
            self._syncs.release(ctx.org, sync_id, lease.current, Deadline.after(_RELEASE_TIMEOUT_SECONDS))

    @contextmanager
    def wait(self, ctx: RequestContext, sync_id: str) -> Iterator[SyncLease]:
        """The lease, once it is free. Raises SyncNotFound, OutOfTime."""
        while True:
            with self.attempt(ctx, sync_id) as lease:
                if lease:
                    yield lease
                    return
            pause(ctx)


def pause(ctx: RequestContext) -> None:
    """Wait before the next attempt to take a lease. Raises OutOfTime."""
    ctx.deadline.check()
    time.sleep(_POLL_INTERVAL_SECONDS)
