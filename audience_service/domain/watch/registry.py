"""The watches of an org: adding one, keeping one from expiring, and the limit of their number.

A new watch is provisional while its org's watches are counted, so that no started watch is taken back. If two calls
take the last free watch concurrently, both may be refused. A separate counter would have to stay correct through every
crash.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.history.model import Watch, WatchState
from audience_service.domain.watch.errors import TooManyWatches
from audience_service.domain.watch.repository import WatchRepository

_PROVISIONAL_TTL = timedelta(seconds=15)
"""A provisional watch expires after this time if the registering process crashes before confirming it."""


class WatchRegistry:
    """Registers watches, at most `max_watches` per org. A watch expires `ttl` after its last touch.

    It calls `wake` for a watch that has no epoch yet, so that a worker starts one.
    """

    def __init__(
        self,
        watches: WatchRepository,
        ttl: timedelta,
        max_watches: int,
        wake: Callable[[], None],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._watches = watches
        self._ttl = ttl
        self._max_watches = max_watches
        self._wake = wake
        self._clock = clock

    def get(self, ctx: RequestContext, audience_id: str) -> Watch:
        """The watch of an audience, added if missing. Raises TooManyWatches."""
        return self._watches.get(ctx.org, audience_id, ctx.deadline) or self.touch(ctx, audience_id)

    def states(self, keys: Collection[tuple[str, str]], deadline: Deadline) -> Mapping[tuple[str, str], WatchState]:
        """The states of the watches of any orgs, each by its org and audience id."""
        return self._watches.states(keys, deadline)

    def touch(self, ctx: RequestContext, audience_id: str) -> Watch:
        """The watch of an audience, added if missing, with its expiry renewed.

        Existing watches are renewed even beyond the limit. Raises TooManyWatches if a new watch would exceed it.
        """
        expires_at = self._clock() + self._ttl
        watch = None
        while watch is None:
            watch = self._watches.touch(ctx.org, audience_id, expires_at, ctx.deadline)
            watch = watch or self._add(ctx, audience_id, expires_at)
        if not watch.watch_epoch:
            self._wake()
        return watch

    def _add(self, ctx: RequestContext, audience_id: str, expires_at: datetime) -> Watch | None:
        """A new watch, or None if another call added one concurrently. Raises TooManyWatches.

        The watch is counted while it is provisional, before a worker can start it. So two calls that compete for the
        last free watch never start one watch too many. Both may be refused.
        """
        self._refuse_beyond(ctx, self._max_watches - 1)
        lease = uuid.uuid4().hex
        if not self._watches.create_provisional(
            ctx.org, audience_id, lease, self._clock() + _PROVISIONAL_TTL, ctx.deadline
        ):
            return None
        try:
            self._refuse_beyond(ctx, self._max_watches)
        except TooManyWatches:
            self._watches.cancel(ctx.org, audience_id, lease, ctx.deadline)
            raise
        return self._watches.confirm(ctx.org, audience_id, lease, expires_at, ctx.deadline)

    def _refuse_beyond(self, ctx: RequestContext, limit: int) -> None:
        if self._watches.count(ctx.org, limit + 1, ctx.deadline) > limit:
            raise TooManyWatches.of(self._max_watches)
