"""Which audiences are watched: those that somebody wants, as many of an org as may be."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.watches.errors import TooManyWatches
from audience_service.domain.watches.ports import WatchRepository
from audience_service.domain.watches.watch import Watch

_PROPOSED = timedelta(seconds=15)
"""A watch that is being counted ends by itself after so long, where the process has died that would say how it ends."""


class Wanted:
    """Watches audiences for so long after they were wanted last, `most` of an org.

    `ask` is called for one that is not tracked yet.
    """

    def __init__(
        self,
        watches: WatchRepository,
        kept: timedelta,
        most: int,
        ask: Callable[[], None],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._watches = watches
        self._kept = kept
        self._most = most
        self._ask = ask
        self._clock = clock

    def get(self, call: Call, audience_id: str) -> Watch:
        """The watch, which is wanted where there is none. Raises TooManyWatches."""
        return self._watches.get(call.org, audience_id, call.deadline) or self.want(call, audience_id)

    def want(self, call: Call, audience_id: str) -> Watch:
        """The watch, wanted from now on again. One that there is goes on however many there are.

        Raises TooManyWatches.
        """
        until = self._clock() + self._kept
        watch = None
        while watch is None:
            watch = self._watches.want(call.org, audience_id, until, call.deadline)
            watch = watch or self._add(call, audience_id, until)
        if not watch.generation:
            self._ask()
        return watch

    def _add(self, call: Call, audience_id: str, until: datetime) -> Watch | None:
        """A new watch; None where somebody else has added one just then. Raises TooManyWatches.

        It is counted when it is there, though not yet to be tracked: of two that take the last place at once none has
        been begun that would be one too many. Both may be refused.
        """
        self._refuse_beyond(call, self._most - 1)
        lease = uuid.uuid4().hex
        if not self._watches.propose(call.org, audience_id, lease, self._clock() + _PROPOSED, call.deadline):
            return None
        try:
            self._refuse_beyond(call, self._most)
        except TooManyWatches:
            self._watches.withdraw(call.org, audience_id, lease, call.deadline)
            raise
        return self._watches.accept(call.org, audience_id, lease, until, call.deadline)

    def _refuse_beyond(self, call: Call, most: int) -> None:
        if self._watches.count(call.org, most + 1, call.deadline) > most:
            raise TooManyWatches.of(self._most)
