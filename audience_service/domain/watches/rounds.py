"""The rounds in which a watched audience is tracked, by however many processes at once.

A round finds who is in and was not recorded as in, or the reverse, appends an event for each to the ledger, applies the
events to the record of who is in, and notes how far it came. Leases keep two processes from doing the same work; that
they do is never relied on. A process may die, or sleep for minutes and go on, before and after any command.

Why nothing is lost, doubled or invented:

1.  *The ledger has no gaps, and what stands in it stays.* Event n is inserted under a key made of the generation and
    n, which is unique, and only by somebody who has seen event n - 1 there or has just inserted it.
2.  *The record never knows more than the ledger, nor less than `seq` says.* Events are applied after they were
    inserted, each over an older one's work only, so that repeating, delaying or reordering it changes nothing. `seq` is
    set to n when all events up to n have been applied, and only grows.
3.  *Whoever appends knows the state that the event changes.* A round reads `seq`, and applies what the ledger has
    beyond it, up to n, before it reads the record. What it then reads is the state after event n, or else a later event
    has been applied, which by 2 is in the ledger, where event n + 1 is thus taken and the round cannot append anything.
    It appends n + 1, n + 2, ... and stops at the first number that is taken; up to there all events since n are its
    own, each of another record. So when an event is inserted the ledger says of its record what the round has read:
    every event is a flip, and none is there twice.
4.  *Events are true.* At a moment between the record's event before it and its insertion the database has judged the
    record, by its key, to be what the event says; by the definition of that moment, which is read again before the
    insertion, and by dates as of when the round began. A flip that was undone between two rounds was never seen.
5.  *Nothing is missed for good.* A flip that a round did not get to append, or that a record written during the round
    hid from it, is a difference still, and the next round finds it. A round that ends well says as of when nothing is
    missing: since it began. Nobody is told of an event beyond `seq`.
6.  *A generation begins whole.* The members at its beginning are recorded under a generation that nobody knows, which
    becomes the watch's when that is done, by whoever still holds the lease then. What a process that died or lost the
    lease has recorded is never looked at.

It rests on the database keeping what a majority has acknowledged, on commands going to the primary, and on no command
arriving after a generation's events have been kept for their time.
"""

import secrets
import string
from collections.abc import Callable
from datetime import datetime

from audience_service.domain.audiences import Audiences
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import AudienceError, OutOfTime, StoreUnavailable
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.ports import LedgerRepository, Overtaken, WatchRepository
from audience_service.domain.watches.watch import Cause, Event, Failure, Watch

_ROUND_SECONDS = 600.0
_PAGE = 1_000
_ALPHABET = string.ascii_letters + string.digits


class Rounds:
    """Runs rounds, one at a time for each watch."""

    def __init__(
        self,
        watches: WatchRepository,
        ledger: LedgerRepository,
        audiences: Audiences,
        told: Bell,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._watches = watches
        self._ledger = ledger
        self._audiences = audiences
        self._told = told
        self._clock = clock

    def run(self, watch: Watch, lease: str) -> None:
        """One round of a watch that has just been read under the lease. Raises Overtaken, and what storage raises."""
        deadline = Deadline.after(_ROUND_SECONDS)
        for generation in watch.garbage:
            self._ledger.remove(watch.org, generation, deadline)
            self._watches.cleaned(watch, lease, generation, deadline)
        moment = self._clock()
        if watch.wanted_until <= moment:
            self._watches.end(watch, lease, moment, deadline)
            return
        call = Call(Caller("audience-service", watch.org, frozenset()), deadline)
        try:
            if watch.generation:
                self._compare(call, watch, lease, moment)
            else:
                self._begin(call, watch, lease, moment)
        except (StoreUnavailable, OutOfTime):
            raise
        except AudienceError as error:
            self._watches.fail(watch, lease, Failure(error.reason, str(error)), deadline)
        self._told.ring()

    def _begin(self, call: Call, watch: Watch, lease: str, moment: datetime) -> None:
        defined = self._audiences.at(moment).defined(call, watch.audience_id)
        generation = "watch-" + "".join(secrets.choice(_ALPHABET) for _ in range(21))
        self._watches.prepare(watch, lease, generation, call.deadline)
        self._ledger.record(watch.org, generation, defined.members, call.deadline)
        self._watches.begin(watch, lease, generation, moment, defined.definition, call.deadline)

    def _compare(self, call: Call, watch: Watch, lease: str, moment: datetime) -> None:
        org, generation, deadline = watch.org, watch.generation, call.deadline
        seq = self._settle(watch, watch.seq, deadline)
        # Time never goes back in a ledger, though clocks differ: contacts would enter again whom time has made exit.
        last = self._ledger.read(org, generation, seq - 1, seq, 1, deadline)
        at = max([moment, *filter(None, [watch.as_of]), *(event.at for event in last)])
        audiences = self._audiences.at(at)
        defined = audiences.defined(call, watch.audience_id)
        cause = Cause.DATA if defined.definition == watch.definition else Cause.DEFINITION
        appended = seq
        for keys in self._ledger.differences(org, generation, defined.members, deadline):
            flips = self._ledger.judge(org, generation, defined.members, keys, deadline)
            if not flips:
                continue
            if audiences.defined(call, watch.audience_id).versions != defined.versions:
                raise Overtaken
            events = [Event(appended + n, flip, cause, at) for n, flip in enumerate(flips, 1)]
            self._ledger.append(org, generation, events, deadline)
            appended += len(events)
        settled = self._settle(watch, seq, deadline)
        self._watches.finish(watch, lease, settled, at, defined.definition, deadline)

    def _settle(self, watch: Watch, seq: int, deadline: Deadline) -> int:
        """Apply what the ledger has beyond an event, whoever appended it; answers with the last event."""
        while events := self._ledger.read(watch.org, watch.generation, seq, None, _PAGE, deadline):
            self._ledger.apply(watch.org, watch.generation, events, deadline)
            seq = events[-1].seq
            self._watches.advance(watch, seq, deadline)
        return seq
