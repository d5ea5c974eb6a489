"""The store: every repository on one database, and the chores around them."""

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo import ReadPreference
from pymongo.database import Database

from audience_service.domain.audiences.repository import (
    ListRepository,
    MemberRepository,
    SliceRepository,
    UseRepository,
)
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.core.record import Record
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.explain.repository import PlanRepository
from audience_service.domain.history.repository import HistoryRepository
from audience_service.domain.insights.repository import InsightRepository
from audience_service.domain.lookalikes.repository import LookalikeRepository
from audience_service.domain.membership.repository import MembershipCheckRepository, PartitionRepository
from audience_service.domain.schema.repository import SampleRepository
from audience_service.domain.segments.repository import SegmentRepository, VersionRepository
from audience_service.domain.snapshots.repository import DifferenceRepository, SnapshotRepository, SnapshotRowRepository
from audience_service.domain.targeting.platform_ids import PlatformIdRepository
from audience_service.domain.uploads.processor import UploadStorage
from audience_service.domain.uploads.repository import IdentifierRepository
from audience_service.domain.watch.repository import (
    ChangeStream,
    EventLogRepository,
    SnapshotBootstrapRepository,
    WatchRepository,
)
from audience_service.mongo.audiences.member_lists import MongoLists
from audience_service.mongo.audiences.repository import MongoUses
from audience_service.mongo.core.collections import connect
from audience_service.mongo.core.errors import map_driver_errors, with_deadline
from audience_service.mongo.core.indexes import (
    Index,
    collated_collections,
    create_index,
    missing_indexes,
    required_indexes,
)
from audience_service.mongo.custom_audiences.cleanup import CustomAudienceSweeper
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.embedded.identifiers import EmbeddedIdentifiers
from audience_service.mongo.embedded.locking import (
    EmbeddedCustomAudiences,
    EmbeddedSegments,
    EmbeddedSnapshots,
    EmbeddedUses,
    EmbeddedVersions,
)
from audience_service.mongo.embedded.overrides import (
    EmbeddedChangeStream,
    EmbeddedChecks,
    EmbeddedEventLog,
    EmbeddedInsights,
    EmbeddedLists,
    EmbeddedLookalikes,
    EmbeddedMembers,
    EmbeddedPlans,
    EmbeddedSlices,
    EmbeddedSnapshotRows,
    embedded_database,
)
from audience_service.mongo.explain.repository import MongoPlans
from audience_service.mongo.identifiers.repository import MongoIdentifiers
from audience_service.mongo.insights.repository import MongoInsights
from audience_service.mongo.lookalikes.repository import MongoLookalikes
from audience_service.mongo.membership.checks import MongoChecks
from audience_service.mongo.membership.partitions import MongoPartitions
from audience_service.mongo.membership.repository import MongoMembers
from audience_service.mongo.query.key_sampler import KeySampler
from audience_service.mongo.reach.repository import MongoSlices
from audience_service.mongo.schema.repository import MongoSamples
from audience_service.mongo.segments.repository import MongoSegments
from audience_service.mongo.segments.versions import MongoVersions
from audience_service.mongo.snapshots.cleanup import SnapshotSweeper
from audience_service.mongo.snapshots.diff import MongoSnapshotDiff
from audience_service.mongo.snapshots.repository import MongoSnapshots
from audience_service.mongo.snapshots.rows import MongoSnapshotRows
from audience_service.mongo.targeting.repository import MongoPlatformIds
from audience_service.mongo.uploads.list_rows import MongoListRows
from audience_service.mongo.uploads.repository import MongoUploads, UploadSweeper
from audience_service.mongo.uploads.unmatched_rows import MongoUnmatched
from audience_service.mongo.watch.change_stream import MongoChangeStreams
from audience_service.mongo.watch.event_log import MongoEventLog
from audience_service.mongo.watch.history import MongoHistory
from audience_service.mongo.watch.registry import MongoWatches
from audience_service.mongo.watch.snapshot_start import MongoSnapshotBootstrap

_INSPECT_TIMEOUT_SECONDS = 10.0
"""What a look at the database's indexes and collections may take: a connection that swallows answers ends no watch."""


@dataclass(frozen=True, slots=True)
class Store:
    """The repositories on one database."""

    segments: SegmentRepository
    versions: VersionRepository
    uses: UseRepository
    lists: ListRepository
    members: MemberRepository
    checks: MembershipCheckRepository
    partitions: PartitionRepository
    plans: PlanRepository
    samples: SampleRepository
    slices: SliceRepository
    key_sampler: KeySampler
    insights: InsightRepository
    lookalikes: LookalikeRepository
    snapshots: SnapshotRepository
    snapshot_rows: SnapshotRowRepository
    snapshot_diff: DifferenceRepository
    snapshot_sweeper: SnapshotSweeper
    custom_audiences: CustomAudienceRepository
    custom_audience_sweeper: CustomAudienceSweeper
    upload_storage: UploadStorage
    identifiers: IdentifierRepository
    upload_sweeper: UploadSweeper
    watches: WatchRepository
    event_log: EventLogRepository
    snapshot_bootstrap: SnapshotBootstrapRepository
    history: HistoryRepository
    platform_ids: PlatformIdRepository
    open_change_stream: Callable[[Callable[[], None]], ChangeStream]
    """Makes a process's feed of changes, which calls what it is given when there are any."""
    database: Database[dict[str, Any]]

    def is_reachable(self) -> bool:
        """Whether the database answers within 3 seconds."""
        try:
            with with_deadline(self.database, Deadline.after(3)):
                self.database.command("ping")
        except AudienceError:
            return False
        return True

    def missing_indexes(self, datatypes: Sequence[str], related: Sequence[str] = ()) -> list[Index]:
        """The required indexes that are not there. Raises StoreUnavailable, OutOfTime."""
        with with_deadline(self.database, Deadline.after(_INSPECT_TIMEOUT_SECONDS)):
            return missing_indexes(self.database, datatypes, related)

    def create_index(self, index: Index) -> None:
        """Create one. Raises StoreUnavailable."""
        with map_driver_errors():
            create_index(self.database, index)

    def collated_collections(self, datatypes: Sequence[str]) -> list[str]:
        """The collections whose default collation would break the tenant scope. Raises StoreUnavailable, OutOfTime."""
        with with_deadline(self.database, Deadline.after(_INSPECT_TIMEOUT_SECONDS)):
            return collated_collections(self.database, datatypes)

    def insert(self, records: Sequence[Record]) -> None:
        """Insert records of one datatype. Raises StoreUnavailable."""
        with map_driver_errors():
            self.database[records[0]["datatype"]].insert_many([dict(record) for record in records], ordered=False)

    def close(self) -> None:
        """Close the connections."""
        self.key_sampler.close()
        self.database.client.close()


def mongo_store(uri: str, database: str, new_random: Callable[[], random.Random] = random.Random) -> Store:
    """The store on a MongoDB. Connects on first use. Raises ValueError for a URI that is none.

    `new_random` returns the generator that draws one sample of records.
    """
    connection = connect(uri, database)
    key_sampler = KeySampler(connection, new_random=new_random)
    snapshot_rows = MongoSnapshotRows(connection)
    # Whatever the URI says of reads: one that is behind would find changes that are none, be it of what an audience is,
    # and would not know of a use that was registered while the audience was deleted.
    primary = connection.with_options(read_preference=ReadPreference.PRIMARY)
    upload_sweeper = UploadSweeper(primary)
    return Store(
        segments=MongoSegments(primary),
        versions=MongoVersions(connection),
        uses=MongoUses(primary),
        lists=MongoLists(connection),
        members=MongoMembers(connection),
        checks=MongoChecks(connection),
        partitions=MongoPartitions(connection),
        plans=MongoPlans(connection),
        samples=MongoSamples(connection, new_random),
        slices=MongoSlices(connection, key_sampler),
        key_sampler=key_sampler,
        insights=MongoInsights(connection),
        lookalikes=MongoLookalikes(connection),
        snapshots=MongoSnapshots(primary),
        snapshot_rows=snapshot_rows,
        snapshot_diff=MongoSnapshotDiff(connection),
        snapshot_sweeper=SnapshotSweeper(connection, snapshot_rows),
        custom_audiences=MongoCustomAudiences(primary),
        custom_audience_sweeper=CustomAudienceSweeper(connection, snapshot_rows, [upload_sweeper.delete_children]),
        upload_storage=UploadStorage(MongoUploads(connection), MongoUnmatched(connection), MongoListRows(connection)),
        identifiers=MongoIdentifiers(connection),
        upload_sweeper=upload_sweeper,
        watches=MongoWatches(primary),
        event_log=MongoEventLog(primary),
        snapshot_bootstrap=MongoSnapshotBootstrap(primary),
        history=MongoHistory(primary),
        platform_ids=MongoPlatformIds(connection),
        open_change_stream=partial(MongoChangeStreams, primary),
        database=connection,
    )


def embedded_store(
    records: Iterable[Record],
    datatypes: Sequence[str],
    related: Sequence[str] = (),
    new_random: Callable[[], random.Random] = random.Random,
) -> Store:
    """A new store in memory that holds the records. Raises UnsupportedByStore where its extra is not installed.

    `new_random` returns the generator that draws one sample of records.
    """
    database = embedded_database(records)
    for index in required_indexes(datatypes, related):
        create_index(database, index)
    lock = threading.RLock()
    key_sampler = KeySampler(database, background=False, new_random=new_random)
    snapshot_rows = EmbeddedSnapshotRows(database)
    upload_sweeper = UploadSweeper(database)
    return Store(
        segments=EmbeddedSegments(database, lock),
        versions=EmbeddedVersions(database, lock),
        uses=EmbeddedUses(database, lock),
        lists=EmbeddedLists(database),
        members=EmbeddedMembers(database),
        checks=EmbeddedChecks(database),
        partitions=MongoPartitions(database),
        plans=EmbeddedPlans(database),
        samples=MongoSamples(database, new_random),
        slices=EmbeddedSlices(database, key_sampler),
        key_sampler=key_sampler,
        insights=EmbeddedInsights(),
        lookalikes=EmbeddedLookalikes(),
        snapshots=EmbeddedSnapshots(database, lock),
        snapshot_rows=snapshot_rows,
        snapshot_diff=MongoSnapshotDiff(database),
        snapshot_sweeper=SnapshotSweeper(database, snapshot_rows),
        custom_audiences=EmbeddedCustomAudiences(database, lock),
        custom_audience_sweeper=CustomAudienceSweeper(database, snapshot_rows, [upload_sweeper.delete_children]),
        upload_storage=UploadStorage(MongoUploads(database), MongoUnmatched(database), MongoListRows(database)),
        identifiers=EmbeddedIdentifiers(database),
        upload_sweeper=upload_sweeper,
        watches=MongoWatches(database),
        event_log=EmbeddedEventLog(database),
        snapshot_bootstrap=MongoSnapshotBootstrap(database),
        history=MongoHistory(database),
        platform_ids=MongoPlatformIds(database),
        open_change_stream=EmbeddedChangeStream,
        database=database,
    )
