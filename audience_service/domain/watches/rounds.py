"""The rounds in which a watched audience is tracked, by however many processes at once.

A round finds who is in and was not recorded as in, or the reverse, appends an event for each to the ledger, applies the
events to the record of who is in, and notes how far it came. Leases keep two processes from doing the same work; that
they do is never relied on. A process may die, or sleep for minutes and go on, before and after any command.

Why nothing is lost, doubled or invented:

1.  *The ledger has no gaps, and what stands in it stays.* Event n is inserted under a key made of the generation and
    n, which is unique, and only by somebody who has seen event n - 1 there or has just inserted it.
2.  *The record never knows more than the ledger, nor less than `seq` says.* Events are applied after they were
    inserted, each over an older one's work only, so that repeating, delaying or reordering it changes nothing. `seq` is
    set to n when all events up to n have been applied, and only grows. Nobody is told of an event beyond it.
3.  *Whoever appends knows the state that the event changes.* A round reads `seq`, and applies what the ledger has
    beyond it, up to n, before it reads the record. What it then reads is the state after event n, or else a later event
    has been applied, which by 2 is in the ledger, where event n + 1 is thus taken and the round cannot append anything.
    It appends n + 1, n + 2, ... and stops at the first number that is taken; up to there all events since n are its
    own, each of another record. So when an event is inserted the ledger says of its record what the round has read:
    every event is a flip, and none is there twice.
4.  *Events are true.* At a moment between the record's event before it and its insertion the database has judged the
    record, by its key, to be what the event says; by dates as of when the round began, and by the definition of that
    moment, which is read before and behind: where it is another one behind, the record is judged anew, by that. So a
    round ends however often the audience is edited meanwhile. A flip that was undone between two rounds was never seen.
5.  *Nothing is missed for good.* A flip that a round did not get to append, or that a record written during the round
    hid from it, is a difference still, and the next round that looks at everything finds it. A round that ends well
    says as of when nothing is missing: since it began, or as long as nothing has changed but what it was told of; and
    by which definition it has looked and judged.
    One that is told of changes goes on from a look at everything, before which they began to be gathered, and takes
    what was gathered before it judges; time it follows by the dates that it passes (clockwork.py). It looks at
    everything instead where more may have moved somebody: after a round that failed or changes that cannot be told
    (held.py); where the definition is another one by now, or was several in the round before, which then hold for some
    records each; and where it finds events of others behind those of the round before, since a process that stood still
    may have appended what is true no more, of records of which no change will tell.
6.  *A generation begins whole.* The members at its beginning are recorded under a generation that nobody knows, which
    becomes the watch's when that is done, by whoever still holds the lease then. What a process that died or lost the
    lease has recorded is never looked at.
7.  *What is answered for a moment stays.* An answer is of the events up to `seq` that happened by a moment not behind
    `as_of`, both read at once. Both are in one document, where `as_of` is set with `seq` as it is, and `seq` only while
    `as_of` is before the first event that it comes to. So whatever `seq` comes to later happens behind `as_of`. An
    event that was found before and appended after, by a process that had stood still, would not: whoever settles it
    lets it happen a millisecond behind `as_of` as it was when `seq` was before the event, and no sooner than the event
    in front of it. That may be done late or again: once `seq` has come to the event, all of this is so, and nothing is
    changed. So times do not fall either.

It rests on the database keeping what a majority has acknowledged, on commands going to the primary, and on no command
arriving after a generation's events have been kept for their time.
"""

import secrets
import string
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import AudienceError, OutOfTime, StoreUnavailable
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import Population, Record
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.clockwork import (
    LOOKED_AT,
    at_moment,
    follows,
    next_passage,
    passages,
    ticks,
    ticks_unseen,
)
from audience_service.domain.watches.definitions import Defined, read_definition
from audience_service.domain.watches.ports import LedgerRepository, Overtaken, WatchRepository
from audience_service.domain.watches.watch import EVERYTHING, Cause, Event, Failure, Look, Outlook, Watch

_ROUND_SECONDS = 600.0
_PAGE = 1_000
_JUDGED_AGAIN = 10
"""How often candidates are judged while the definition changes each time: judging takes milliseconds, an edit more."""
_FORGOTTEN_IN = 100
"""Events go in a hundredth of the time that they are kept for."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_ALPHABET = string.ascii_letters + string.digits


@dataclass(slots=True)
class _Round:
    """A round in progress: how many events it has appended; causes are told by dates as of `since`.

    `latest` is the definition as it was read last, `defined` that by which candidates are looked for. `strayed` is
    whether any were judged by another one.
    """

    call: Call
    watch: Watch
    at: datetime
    defined: Defined
    latest: Defined
    since: datetime
    appended: int = 0
    searched_seconds: float = 0.0
    strayed: bool = False

    @property
    def definition(self) -> str:
        """The definition by which all candidates were looked for and judged; "" where there were several."""
        return "" if self.strayed else self.defined.definition

    def timed(self, candidates: Iterator[list[str]]) -> Iterator[list[str]]:
        """The same, and how long one waits for them."""
        begun = time.monotonic()
        for keys in candidates:
            self.searched_seconds += time.monotonic() - begun
            yield keys
            begun = time.monotonic()
        self.searched_seconds += time.monotonic() - begun


class Rounds:
    """Runs rounds, one at a time for each watch."""

    def __init__(
        self,
        watches: WatchRepository,
        ledger: LedgerRepository,
        audiences: Audiences,
        told: Bell,
        retention: timedelta,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._watches = watches
        self._ledger = ledger
        self._audiences = audiences
        self._told = told
        self._retention = retention
        self._clock = clock
        self._forgotten: dict[str, datetime] = {}

    def run(self, watch: Watch, lease: str, look: Look = EVERYTHING) -> Outlook:
        """One round of a watch as it was read under the lease, or as the last round has left it.

        Raises Overtaken, and what storage raises.
        """
        call = Call(Caller("audience-service", watch.org, frozenset()), Deadline.after(_ROUND_SECONDS))
        for generation in watch.garbage:
            self._ledger.remove(watch.org, generation, call.deadline)
            self._watches.cleaned(watch, lease, generation, call.deadline)
        moment = self._clock()
        if watch.wanted_until <= moment:
            self._watches.end(watch, lease, moment, call.deadline)
            return Outlook(moment)
        try:
            if watch.generation:
                return self._look(call, watch, lease, moment, look)
            return self._begin(call, watch, lease, moment)
        except (StoreUnavailable, OutOfTime):
            raise
        except AudienceError as error:
            self._watches.fail(watch, lease, Failure(error.reason, str(error)), call.deadline)
            self._told.ring((watch.org, watch.audience_id))
            return Outlook(moment)

    def _begin(self, call: Call, watch: Watch, lease: str, moment: datetime) -> Outlook:
        defined = read_definition(call, self._audiences.at(moment), watch.audience_id)
        generation = "watch-" + "".join(secrets.choice(_ALPHABET) for _ in range(21))
        self._watches.prepare(watch, lease, generation, call.deadline)
        self._ledger.record(watch.org, generation, defined.members, call.deadline)
        self._watches.begin(watch, lease, generation, moment, defined.definition, call.deadline)
        self._told.ring((watch.org, watch.audience_id))
        return self._outlook(call, defined.members, moment)

    def _look(self, call: Call, watch: Watch, lease: str, moment: datetime, look: Look) -> Outlook:
        watch = self._settle(call, watch)
        if look.last and look.last.seq != watch.seq:
            look = EVERYTHING  # others' events may be of records that no change tells of any more
        # Time never goes back in a ledger, though clocks differ: contacts would enter again whom time has made exit.
        at = watch.earliest(moment)
        audiences = self._audiences.at(at)
        defined = read_definition(call, audiences, watch.audience_id)
        if defined.definition != watch.definition:
            look = EVERYTHING
        found = _Round(call, watch, at, defined, defined, look.last.looked_at if look.last else watch.as_of or at)
        for keys in found.timed(self._candidates(found, look)):
            if events := self._judged(found, audiences, keys):
                self._ledger.append(watch.org, watch.generation, events, call.deadline)
                found.appended += len(events)
        known = watch.seq + found.appended
        if found.appended:
            watch = self._settle(call, watch)
        left, complete_at = None, at if look.last is None else look.changes.complete_at
        if found.strayed:
            complete_at = complete_at or watch.as_of  # nothing new, but that there were several definitions
        if complete_at:
            as_of = min(at, complete_at)
            left = self._watches.finish(watch, lease, watch.seq, as_of, found.definition, call.deadline)
        self._forget(call, watch, moment)
        outlook = self._outlook(call, defined.members, at, look)
        return replace(outlook, seq=known, searched_seconds=found.searched_seconds, watch=left)

    def _candidates(self, found: _Round, look: Look) -> Generator[list[str], None, None]:
        """The sks of those who may have entered or exited, each once."""
        call, members = found.call, found.defined.members
        if look.last is None:
            yield from self._ledger.differences(call.org, found.watch.generation, members, call.deadline)
            return
        changed = sorted(look.changes.keys)
        for start in range(0, len(changed), _PAGE):
            yield changed[start : start + _PAGE]
        if passed := passages(members, look.last.looked_at, found.at):
            for keys in self._ledger.passing(call.org, members.datatype, passed, call.deadline):
                yield [key for key in keys if key not in look.changes.keys]

    def _judged(self, found: _Round, audiences: Audiences, keys: Sequence[str]) -> list[Event]:
        """The events of those of the candidates who have entered or exited, by what defined the audience all the while.

        Raises Overtaken where it is edited without a pause.
        """
        for _ in range(_JUDGED_AGAIN):
            by = found.latest
            if not (events := self._events(found, keys)):
                return []
            found.latest = read_definition(found.call, audiences, found.watch.audience_id)
            found.strayed |= found.latest.definition != found.defined.definition
            if found.latest.versions == by.versions:
                return events
        raise Overtaken

    def _events(self, found: _Round, keys: Sequence[str]) -> list[Event]:
        """The events of those of the candidates who have entered or exited by the latest definition."""
        org, generation, deadline = found.call.org, found.watch.generation, found.call.deadline
        members, last = found.latest.members, found.watch.seq + found.appended
        flips = self._ledger.judge(org, generation, members, keys, deadline)
        causes = dict.fromkeys(flips, Cause.DATA)
        if found.latest.definition != found.watch.definition:
            causes = dict.fromkeys(flips, Cause.DEFINITION)
        elif flips and ticks(members):
            flipped = [flip.sk for flip in flips]
            without_time = self._ledger.judge(org, generation, at_moment(members, found.since), flipped, deadline)
            causes = {flip: Cause.DATA if flip in without_time else Cause.TIME for flip in flips}
        return [Event(last + n, flip, causes[flip], found.at) for n, flip in enumerate(flips, 1)]

    def _outlook(self, call: Call, members: Population, at: datetime, look: Look = EVERYTHING) -> Outlook:
        """What comes next. Until the moment has come that was foreseen, only what changed can bring an earlier one."""
        foreseen = look.last.next_passage if look.last else None
        among: Document = {}
        if foreseen and foreseen > at:
            among = {"sk": {"$in": sorted(look.changes.keys)}}

        def dated(conditions: Sequence[Document], paths: Sequence[str]) -> list[Record]:
            within = [{**condition, **among} for condition in conditions]
            return self._ledger.dated(call.org, members.datatype, within, paths, LOOKED_AT, call.deadline)

        passage = foreseen if among and not look.changes.keys else next_passage(members, at, dated, call.deadline)
        if among and foreseen and passage:
            passage = min(foreseen, passage)
        return Outlook(at, passage, ticks_unseen(members), follows(members))

    def _forget(self, call: Call, watch: Watch, moment: datetime) -> None:
        """Remove, now and then, the events that have been kept for their time."""
        before = moment - self._retention
        if before - self._forgotten.get(watch.generation, _LONG_AGO) > self._retention / _FORGOTTEN_IN:
            self._watches.keep_from(watch, before, call.deadline)  # first, so that nobody takes what is left for all
            self._ledger.forget(call.org, watch.generation, before, watch.seq, call.deadline)
            self._forgotten[watch.generation] = before

    def _settle(self, call: Call, watch: Watch) -> Watch:
        """Apply what the ledger has beyond the watch's last event, whoever appended it; answers with how far it is."""
        while events := self._ledger.read(watch.org, watch.generation, watch.seq, None, _PAGE, call.deadline):
            if late := _late(watch, events):
                self._ledger.postpone(watch.org, watch.generation, *late, call.deadline)
                continue
            self._ledger.apply(watch.org, watch.generation, events, call.deadline)
            self._watches.advance(watch, events, call.deadline)
            watch = replace(watch, seq=events[-1].seq, event_at=events[-1].at)
            self._told.ring((watch.org, watch.audience_id))
        return watch


def _late(watch: Watch, events: Sequence[Event]) -> tuple[int, datetime] | None:
    """The number behind which events are to be postponed, and until when; None where all happen in time."""
    last, earliest = watch.seq, watch.earliest(_LONG_AGO)
    for event in events:
        if event.at < earliest:
            return last, earliest
        last, earliest = event.seq, event.at
    return None
