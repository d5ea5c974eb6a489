"""One process's share of the tracking: it claims watches, and lets their rounds run when they are due."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

import structlog

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import AudienceError
from audience_service.domain.watches.ports import Overtaken, WatchRepository
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.watch import EVERYTHING, Look, Outlook

_LEASE = timedelta(seconds=15)
"""How long a watch whose process has died stands still."""
_LEASE_ROUNDS = 3
"""A lease lasts for as many rounds as took the last one's time, or a slow round would never end as its owner's."""
_REST = 9
"""Rounds of one audience take a tenth of the time at most."""
_CLAIM_SECONDS = 1.0
_CALL_SECONDS = 10.0

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Held:
    """A leased watch, and when its next round is due on the monotonic clock, and when time may next move somebody."""

    org: str
    audience_id: str
    lease: str
    due: float = 0.0
    took: float = 0.0
    outlook: Outlook | None = None
    busy: bool = False


class Tracker:
    """Any number of threads may call `step`; each runs the round of another watch."""

    def __init__(
        self,
        watches: WatchRepository,
        rounds: Rounds,
        poll_seconds: float,
        clock: Callable[[], datetime] = now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = watches
        self._rounds = rounds
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._held: list[_Held] = []
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
            ended = self._monotonic()
            with self._lock:
                held.busy = False
                held.took = ended - begun if look == EVERYTHING else held.took
                if look == EVERYTHING or held.outlook is None:
                    held.due = ended + max(self._poll_seconds, _REST * held.took)
        return self._idle_seconds()

    def look(self) -> None:
        """There is something new to claim: do not wait to look for it."""
        self._claim_at = 0.0

    def release(self) -> None:
        """Give all watches up, for others to go on with at once. To be called when nobody calls `step` any more."""
        while self._held:
            held = self._held.pop()
            self._watches.release(held.org, held.audience_id, held.lease, Deadline.after(_CALL_SECONDS))

    def _claim(self) -> None:
        """Take one free watch at a time, so that processes that start together share them."""
        with self._lock:
            if self._monotonic() < self._claim_at:
                return
            self._claim_at = self._monotonic() + _CLAIM_SECONDS
        moment, lease = self._clock(), uuid.uuid4().hex
        found = self._watches.claim(lease, moment, moment + _LEASE, Deadline.after(_CALL_SECONDS))
        if found:
            with self._lock:
                self._held.append(_Held(*found, lease))
                self._claim_at = 0.0

    def _next(self) -> tuple[_Held, Look] | None:
        """What is due, everything of a watch before what time has moved."""
        with self._lock:
            moment = self._monotonic()
            free = [held for held in self._held if not held.busy]
            if due := [held for held in free if held.due <= moment]:
                chosen, look = min(due, key=lambda held: held.due), EVERYTHING
            elif passing := [held for held in free if self._seconds_to_passage(held) <= 0]:
                chosen = min(passing, key=self._seconds_to_passage)
                look = Look(chosen.outlook.looked_at if chosen.outlook else None)
            else:
                return None
            chosen.busy = True
            return chosen, look

    def _seconds_to_passage(self, held: _Held) -> float:
        passage = held.outlook and held.outlook.next_passage
        return (passage - self._clock()).total_seconds() if passage else inf

    def _idle_seconds(self) -> float:
        with self._lock:
            free = [held for held in self._held if not held.busy]
            pauses = [moment - self._monotonic() for moment in [self._claim_at, *(held.due for held in free)]]
            return max(min([*pauses, *map(self._seconds_to_passage, free)]), 0.0)

    def _run(self, held: _Held, look: Look) -> None:
        until = self._clock() + max(_LEASE, timedelta(seconds=_LEASE_ROUNDS * held.took))
        held.outlook = None
        try:
            watch = self._watches.renew(held.org, held.audience_id, held.lease, until, Deadline.after(_CALL_SECONDS))
            if watch is None:
                self._drop(held)
                return
            held.outlook = self._rounds.run(watch, held.lease, look)
        except Overtaken:
            _log.info("overtaken", org=held.org, audience=held.audience_id)
        except AudienceError as error:
            _log.warning("round failed", org=held.org, audience=held.audience_id, reason=error.reason)

    def _drop(self, held: _Held) -> None:
        with self._lock:
            self._held.remove(held)
