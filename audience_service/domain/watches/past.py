"""The past of watched audiences, as their ledgers know it: who was in at a moment."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.audiences.audience import filter_of
from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.clock import in_milliseconds
from audience_service.domain.ports import Record
from audience_service.domain.watches.errors import AudienceNotWatched, TimeOutOfRange
from audience_service.domain.watches.ports import Overtaken, PastRepository, WatchRepository


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of an audience's past: what its ledger was by the event `seq`, the last that had happened at `at`."""

    audience_id: str
    datatype: str
    at: datetime
    generation: str
    seq: int


class Past:
    """Finds moments, and who was in then."""

    def __init__(self, watches: WatchRepository, repository: PastRepository, audiences: Audiences) -> None:
        self._watches = watches
        self._repository = repository
        self._audiences = audiences

    def find(self, call: Call, audience_id: str, at: datetime) -> Moment:
        """A moment, whatever else is tracked meanwhile. Raises AudienceNotFound, AudienceNotWatched, TimeOutOfRange."""
        datatype, at = self._datatype(call, audience_id), in_milliseconds(at)
        generation, until = self._ledger(call, audience_id, at)
        seq = self._repository.last_event(call.org, generation, until, at, call.deadline)
        return self._known(call, Moment(audience_id, datatype, at, generation, seq))

    def resume(self, call: Call, audience_id: str, at: datetime, generation: str, seq: int) -> Moment:
        """A moment that was found before, where it is known still. Raises as `find` does."""
        datatype = self._datatype(call, audience_id)
        return self._known(call, Moment(audience_id, datatype, in_milliseconds(at), generation, seq))

    def members(
        self, call: Call, moment: Moment, paths: Sequence[str], batch_size: int, after: str
    ) -> Generator[list[Record], None, None]:
        """Who was in, behind the sk `after`, in sk order, with what their records have at the paths now.

        Whatever has become of the records; of one that is gone, pk and sk. Raises AudienceNotWatched, TimeOutOfRange,
        where that comes to be so.
        """
        batches = self._repository.members(
            call.org, moment.generation, moment.seq, moment.datatype, paths, batch_size, after, call.deadline
        )
        try:
            with closing(batches):
                for records in batches:
                    self._known(call, moment)
                    yield records
        except Overtaken:  # events that were needed have gone, and the watch says why
            self._known(call, moment)
            raise
        self._known(call, moment)

    def _datatype(self, call: Call, audience_id: str) -> str:
        """What an audience's members are, whether its filter can be run now or not. Raises AudienceNotFound."""
        return filter_of(self._audiences.find(call, audience_id)).datatype

    def _known(self, call: Call, moment: Moment) -> Moment:
        """The moment, if it is known still: then nothing that tells of it was missing when it was read before.

        A ledger's end, and from when on it is kept, are noted before anything is removed.
        """
        generation, _ = self._ledger(call, moment.audience_id, moment.at)
        if generation != moment.generation:
            raise AudienceNotWatched.of(moment.audience_id)
        return moment

    def _ledger(self, call: Call, audience_id: str, at: datetime) -> tuple[str, int]:
        """The generation that knows of a moment, and its last event. Raises AudienceNotWatched, TimeOutOfRange."""
        watch = self._watches.get(call.org, audience_id, call.deadline)
        if watch is None or watch.known_since is None or watch.as_of is None:
            raise AudienceNotWatched.of(audience_id)
        if not watch.known_since <= at <= watch.as_of:
            raise TimeOutOfRange.outside(watch.known_since, watch.as_of)
        return watch.generation, watch.seq
