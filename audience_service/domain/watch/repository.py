"""What tracking asks of storage. As in domain/ports.py every method takes the org first, or a Watch, which names it.

But for `claim` and `keep`, which share out the watches of all orgs among processes and tell no more than whose they
are.
"""

from collections.abc import Collection, Generator, Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.history.model import Event, Failure, MembershipChange, Watch
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.watch.model import ChangedKeys


class WatchRepository(Protocol):
    """The watched audiences. A lease, a name that nobody else ever has, is held until it ends or is renewed."""

    def touch(self, org: str, audience_id: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Want a watch until a moment, or until the later one that is wanted already; None where there is none."""

    def create_provisional(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> bool:
        """Add a watch under a lease, both until a moment; whether there was none yet."""

    def confirm(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Want a proposed watch until a moment, and end its lease; None where the lease is somebody else's since."""

    def cancel(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """Remove a proposed watch, unless the lease is somebody else's since, whose it is then to end it."""

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """How many audiences of an org are watched, proposed ones included; `most` where there are more."""

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """The watch, if there is one."""

    def acquire(self, lease: str, timestamp: datetime, until: datetime, deadline: Deadline) -> tuple[str, str] | None:
        """Lease a watch, of any org, that nobody holds at a moment; answers with its org and audience."""

    def renew_all(self, leases: Collection[tuple[str, str, str]], until: datetime, deadline: Deadline) -> None:
        """Extend leases: org, audience and lease of each; those that somebody else has claimed since are left alone."""

    def renew(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Extend a lease; None where somebody else has claimed the watch since, or there is none any more."""

    def release(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """End a lease."""

    def create_epoch(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Name a generation that is about to be recorded: it is garbage until it begins. Raises Overtaken."""

    def start_epoch(
        self, watch: Watch, lease: str, watch_epoch: str, started_at: datetime, definition: str, deadline: Deadline
    ) -> None:
        """Go on with a prepared generation, where there is none, before its first event. Raises Overtaken."""

    def advance_seq(self, watch: Watch, events: Sequence[Event], deadline: Deadline) -> None:
        """Note that all events of the generation up to the last of these have been applied, whoever says so.

        Never goes back. Raises Overtaken where they do not happen behind `as_of`, as it stands by then.
        """

    def advance_watermark(
        self,
        watch: Watch,
        lease: str,
        seq: int,
        watermark: datetime,
        definition: str,
        deadline: Deadline,
    ) -> Watch:
        """Note that nothing is missing from the events up to `seq` as of a moment. Raises Overtaken."""

    def set_retained_from(self, watch: Watch, timestamp: datetime, deadline: Deadline) -> None:
        """Note that events from before a moment may be gone from now on. Never goes back. Raises Overtaken."""

    def fail(self, watch: Watch, lease: str, failure: Failure, deadline: Deadline) -> None:
        """Note that the audience cannot be tracked, until a round finishes. Raises Overtaken."""

    def close_epoch(self, watch: Watch, lease: str, timestamp: datetime, deadline: Deadline) -> None:
        """End the generation of a watch that is wanted no more at a moment; without any and without garbage, the watch.

        Raises Overtaken, also where it is wanted again.
        """

    def epoch_deleted(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Strike a generation that has been removed off the garbage."""


class EventLogRepository(Protocol):
    """The ledgers, one to a generation, and who is in according to them."""

    def record_members(self, org: str, watch_epoch: str, population: Population, deadline: Deadline) -> None:
        """Record the members of a population as those of a generation before its first event.

        Only for a generation of which nobody knows yet: where it fails it may go on, and the generation is never used.
        """

    def diff(
        self, org: str, watch_epoch: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """The sks of those who are a population's members and not recorded as in, or the reverse, in sk order.

        The database compares; only differences leave it. They are candidates: a record that is written meanwhile may
        be among them wrongly.
        """

    def find_crossing(
        self, org: str, datatype: str, conditions: Sequence[Document], deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """The sks of the records of a datatype that meet any of the conditions, each once."""

    def find_dated(
        self,
        org: str,
        datatype: str,
        conditions: Sequence[Document],
        paths: Sequence[str],
        limit: int,
        deadline: Deadline,
    ) -> list[Record]:
        """Up to `limit` of these records, with what they have at the paths."""

    def evaluate(
        self, org: str, watch_epoch: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[MembershipChange]:
        """Those of the records with these sks whose membership is another one than recorded, in sk order."""

    def append(self, org: str, watch_epoch: str, events: Sequence[Event], deadline: Deadline) -> None:
        """Append events, one after the other. Raises Overtaken at the first whose number is taken."""

    def apply(self, org: str, watch_epoch: str, events: Sequence[Event], deadline: Deadline) -> None:
        """Record who is in after events, each over what is recorded of an earlier one. Idempotent, in any order."""

    def adjust_timestamps(
        self, org: str, watch_epoch: str, after: int, timestamp: datetime, deadline: Deadline
    ) -> None:
        """Let no event behind the number `after` happen before a moment; for those that nobody has been told of."""

    def read(
        self, org: str, watch_epoch: str, after: int, until: int | None, limit: int, deadline: Deadline
    ) -> list[Event]:
        """Up to `limit` events behind the number `after`, up to and including `until`, in order and without a gap.

        None where the next one is not there, whatever comes behind it.
        """

    def trim(self, org: str, watch_epoch: str, before: datetime, until: int, deadline: Deadline) -> None:
        """Remove the events from before a moment, the oldest first, none behind the number `until`."""

    def remove(self, org: str, watch_epoch: str, deadline: Deadline) -> None:
        """Remove all there is of a generation."""


class SnapshotBootstrapRepository(Protocol):
    """Where watches begin."""

    def diff_snapshot(
        self, org: str, watch_epoch: str, seq: int, snapshot: Snapshot, after: str, deadline: Deadline
    ) -> Generator[tuple[list[MembershipChange], str], None, None]:
        """From a snapshot to who was in by the event `seq`, which has been applied: behind the sk `after`, in sk order.

        In batches, each with the sk that it reaches. Raises Overtaken where events behind `seq` have gone.
        """


class Subscription(Protocol):
    """What changes among an org's records of a datatype."""

    @property
    def datatype(self) -> str:
        """The datatype."""

    @property
    def is_streaming(self) -> bool:
        """Whether changes are being told of now."""

    @property
    def has_pending(self) -> bool:
        """Whether there are changes to be told of, or some that cannot be told."""

    @property
    def is_complete(self) -> bool:
        """Whether all that has changed since the last call of `take` can be told."""

    def drain(self) -> ChangedKeys:
        """What has changed since the last call; the first ones tell of no more than what changes from then on."""

    def close(self) -> None:
        """Ask no more."""


class ChangeStream(Protocol):
    """Tells of changes as they are made, where the deployment does."""

    def subscribe(self, org: str, datatype: str) -> Subscription | None:
        """Be told of the changes among an org's records from about now on; None where nobody ever is."""

    def close(self) -> None:
        """End all of it."""
