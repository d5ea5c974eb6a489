"""One process's share of the tracking: it claims watches, and lets their rounds run when they are due."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import AudienceError
from audience_service.domain.watches.held import Held, Pace
from audience_service.domain.watches.ports import ChangeFeed, Overtaken, WatchRepository
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.watch import Look

_KEPT_IN = 3
"""Leases are extended in a third of the time that they last."""
_CLAIM_SECONDS = 1.0
_CALL_SECONDS = 10.0

_log = structlog.get_logger()


class Tracker:
    """Any number of threads may call `step`; each runs the round of another watch."""

    def __init__(
        self,
        watches: WatchRepository,
        rounds: Rounds,
        feed: ChangeFeed,
        pace: Pace,
        clock: Callable[[], datetime] = now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = watches
        self._rounds = rounds
        self._feed = feed
        self._clock = clock
        self._monotonic = monotonic
        self._pace = pace
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self._claim_at = 0.0

    def step(self) -> float:
        """Run the round that is due for longest, if any is; answers with the seconds until something may be due."""
        self._claim()
        found = self._next()
        if found is None:
            return self._idle_seconds()
        held, look = found
        begun = self._monotonic()
        try:
            self._run(held, look)
        finally:
            with self._lock:
                held.ended(look, begun, self._monotonic(), self._pace)
        return self._idle_seconds()

    def look(self) -> None:
        """There is something new to claim: do not wait to look for it."""
        self._claim_at = 0.0

    @property
    def keep_seconds(self) -> float:
        """How often `keep` is to be called."""
        return self._pace.lease_seconds / _KEPT_IN

    def keep(self) -> None:
        """Extend the leases: a round may take longer than one lasts, and the next look may be further away."""
        with self._lock:
            held = [(each.org, each.audience_id, each.lease) for each in self._held]
        if held:
            self._watches.keep(held, self._lease_end(), Deadline.after(_CALL_SECONDS))

    def release(self) -> None:
        """Give all watches up, for others to go on with at once. To be called when nobody calls `step` any more."""
        while self._held:
            held = self._held.pop()
            held.unsubscribe()
            self._watches.release(held.org, held.audience_id, held.lease, Deadline.after(_CALL_SECONDS))

    def _claim(self) -> None:
        """Take one free watch at a time, so that processes that start together share them."""
        with self._lock:
            if self._monotonic() < self._claim_at:
                return
            self._claim_at = self._monotonic() + _CLAIM_SECONDS
        lease = uuid.uuid4().hex
        found = self._watches.claim(lease, self._clock(), self._lease_end(), Deadline.after(_CALL_SECONDS))
        if found:
            with self._lock:
                self._held.append(Held(*found, lease))
                self._claim_at = 0.0

    def _next(self) -> tuple[Held, Look] | None:
        with self._lock:
            free = [held for held in self._held if not held.busy]
            if not free:
                return None
            monotonic, moment = self._monotonic(), self._clock()
            chosen = min(free, key=lambda held: held.seconds(monotonic, moment))
            if chosen.seconds(monotonic, moment) > 0:
                return None
            chosen.busy = True
            return chosen, chosen.look(monotonic)

    def _idle_seconds(self) -> float:
        with self._lock:
            monotonic, moment = self._monotonic(), self._clock()
            pauses = [held.seconds(monotonic, moment) for held in self._held if not held.busy]
            return max(min([self._claim_at - monotonic, *pauses]), 0.0)

    def _run(self, held: Held, look: Look) -> None:
        watch, held.outlook = held.outlook and held.outlook.watch, None
        try:
            # A round writes under the lease, or by numbers: who has lost it, or knows less than there is, is overtaken.
            watch = watch or self._watches.renew(
                held.org, held.audience_id, held.lease, self._lease_end(), Deadline.after(_CALL_SECONDS)
            )
            if watch is None:
                self._drop(held)
                return
            held.outlook = self._rounds.run(watch, held.lease, look)
            held.follow(self._feed)
        except Overtaken:
            _log.info("overtaken", org=held.org, audience=held.audience_id)
        except AudienceError as error:
            _log.warning("round failed", org=held.org, audience=held.audience_id, reason=error.reason)
        except Exception as error:  # a defect, which must not stand in the way of other audiences
            _log.error("round failed", org=held.org, audience=held.audience_id, exc_info=error)

    def _lease_end(self) -> datetime:
        return self._clock() + timedelta(seconds=self._pace.lease_seconds)

    def _drop(self, held: Held) -> None:
        held.unsubscribe()
        with self._lock:
            if held in self._held:  # unless all have been released meanwhile
                self._held.remove(held)
