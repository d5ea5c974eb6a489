"""Which audiences are watched: those that somebody wants, as many of an org as may be."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.history.model import Watch
from audience_service.domain.watch.errors import TooManyWatches
from audience_service.domain.watch.repository import WatchRepository

_PROVISIONAL_TTL = timedelta(seconds=15)
"""A watch that is being counted ends by itself after so long, where the process has died that would say how it ends."""


class WatchRegistry:
    """Watches audiences for so long after they were wanted last, `most` of an org.

    `ask` is called for one that is not tracked yet.
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
        """The watch, which is wanted where there is none. Raises TooManyWatches."""
        return self._watches.get(ctx.org, audience_id, ctx.deadline) or self.touch(ctx, audience_id)

    def touch(self, ctx: RequestContext, audience_id: str) -> Watch:
        """The watch, wanted from now on again. One that there is goes on however many there are.

        Raises TooManyWatches.
        """
        until = self._clock() + self._ttl
        watch = None
        while watch is None:
            watch = self._watches.touch(ctx.org, audience_id, until, ctx.deadline)
            watch = watch or self._add(ctx, audience_id, until)
        if not watch.watch_epoch:
            self._wake()
        return watch

    def _add(self, ctx: RequestContext, audience_id: str, until: datetime) -> Watch | None:
        """A new watch; None where somebody else has added one just then. Raises TooManyWatches.

        It is counted when it is there, though not yet to be tracked: of two that take the last place at once none has
        been begun that would be one too many. Both may be refused.
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
        return self._watches.confirm(ctx.org, audience_id, lease, until, ctx.deadline)

    def _refuse_beyond(self, ctx: RequestContext, limit: int) -> None:
        if self._watches.count(ctx.org, limit + 1, ctx.deadline) > limit:
            raise TooManyWatches.of(self._max_watches)
