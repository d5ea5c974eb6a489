"""The store: every repository on one database, with health check, indexes and cleanup."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo import ReadPreference
from pymongo.database import Database

from audience_service.domain.audiences.repository import (
    KeyRangeRepository,
    ListRepository,
    MemberRepository,
    UseRepository,
)
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.core.record import Record
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.explain.repository import PlanRepository
from audience_service.domain.export_log.repository import ExportLogRepository
from audience_service.domain.history.repository import HistoryRepository
from audience_service.domain.insights.repository import InsightRepository
from audience_service.domain.lookalikes.repository import LookalikeRepository
from audience_service.domain.membership.repository import MembershipCheckRepository, PartitionRepository
from audience_service.domain.schema.repository import SampleRepository
from audience_service.domain.segments.repository import SegmentRepository, VersionRepository
from audience_service.domain.snapshots.repository import (
    SnapshotRepository,
    SnapshotRowRepository,
)
from audience_service.domain.syncs.repository import SyncStorage
from audience_service.domain.targeting.platform_ids import PlatformIdRepository
from audience_service.domain.targeting.platform_tree import PlatformTreeRepository
from audience_service.domain.uploads.processor import UploadStorage
from audience_service.domain.uploads.repository import IdentifierRepository
from audience_service.domain.watch.repository import ChangeStream, EventLogRepository, WatchRepository
from audience_service.mongo.audiences.member_lists import MongoLists
from audience_service.mongo.audiences.repository import MongoUses
from audience_service.mongo.core.client import Listener, connect
from audience_service.mongo.core.collections import SEGMENTS
from audience_service.mongo.core.errors import describe_outage, map_driver_errors, with_deadline
from audience_service.mongo.core.indexes import (
    Index,
    collated_collections,
    create_index,
    missing_indexes,
)
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.custom_audiences.cleanup import CustomAudienceSweeper
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.explain.repository import MongoPlans
from audience_service.mongo.export_log.repository import MongoExportLog
from audience_service.mongo.identifiers.repository import MongoIdentifiers
from audience_service.mongo.insights.repository import MongoInsights
from audience_service.mongo.lookalikes.repository import MongoLookalikes
from audience_service.mongo.membership.checks import MongoMembershipChecks
from audience_service.mongo.membership.partitions import MongoPartitions
from audience_service.mongo.membership.repository import MongoMembers
from audience_service.mongo.query.key_sampler import KeySampler
from audience_service.mongo.reach.repository import MongoKeyRanges
from audience_service.mongo.schema.repository import MongoSamples
from audience_service.mongo.segments.repository import MongoSegments
from audience_service.mongo.segments.versions import MongoVersions
from audience_service.mongo.snapshots.cleanup import SnapshotSweeper
from audience_service.mongo.snapshots.repository import MongoSnapshots
from audience_service.mongo.snapshots.rows import MongoSnapshotRows
from audience_service.mongo.syncs.batches import MongoSyncBatches
from audience_service.mongo.syncs.cleanup import SyncSweeper
from audience_service.mongo.syncs.members import MongoSyncMembers
from audience_service.mongo.syncs.repository import MongoSyncs
from audience_service.mongo.syncs.rows import MongoSyncRows
from audience_service.mongo.targeting.repository import MongoPlatformIds, MongoPlatformTrees
from audience_service.mongo.uploads.cleanup import UploadSweeper
from audience_service.mongo.uploads.list_rows import MongoListRows
from audience_service.mongo.uploads.rejected_rows import MongoRejected
from audience_service.mongo.uploads.repository import MongoUploads
from audience_service.mongo.uploads.unmatched_rows import MongoUnmatched
from audience_service.mongo.watch.change_stream import MongoChangeStreams
from audience_service.mongo.watch.event_log import MongoEventLog
from audience_service.mongo.watch.history import MongoHistory
from audience_service.mongo.watch.registry import MongoWatches

_REACHABLE_TIMEOUT_SECONDS = 5.0
"""Time limit of a health check: some round trips of a second each, for a new connection."""
_INSPECT_TIMEOUT_SECONDS = 10.0
"""Time limit for reading indexes and collections, in case a connection swallows answers."""


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
    slices: KeyRangeRepository
    key_sampler: KeySampler
    insights: InsightRepository
    lookalikes: LookalikeRepository
    snapshots: SnapshotRepository
    snapshot_rows: SnapshotRowRepository
    snapshot_sweeper: SnapshotSweeper
    custom_audiences: CustomAudienceRepository
    custom_audience_sweeper: CustomAudienceSweeper
    upload_storage: UploadStorage
    identifiers: IdentifierRepository
    upload_sweeper: UploadSweeper
    sync_storage: SyncStorage
    sync_sweeper: SyncSweeper
    export_log: ExportLogRepository
    watches: WatchRepository
    event_log: EventLogRepository
    history: HistoryRepository
    platform_ids: PlatformIdRepository
    platform_trees: PlatformTreeRepository
    open_change_stream: Callable[[Callable[[], None]], ChangeStream]
    """Opens the change stream of a process. The stream calls the given function when it has changes."""
    scope: TenantScope
    """The scope of every repository."""
    database: Database[dict[str, Any]]

    def check_reachable(self) -> None:
        """Return if the database answers a read by key, as calls send it. Raises StoreUnavailable, OutOfTime.

        A ping would also succeed without rights, without a majority and while no node is primary.
        """
        primary = self.database.with_options(read_preference=ReadPreference.PRIMARY)
        with with_deadline(primary, Deadline.after(_REACHABLE_TIMEOUT_SECONDS)):
            primary[SEGMENTS].find_one({"_id": ""}, {"_id": 1})

    def find_outage(self) -> str:
        """Return why the database does not answer such a read, empty if it answers."""
        try:
            self.check_reachable()
        except AudienceError as error:
            return describe_outage(error.__cause__ or error)
        return ""

    def missing_indexes(self, datatypes: Sequence[str], related: Sequence[str] = ()) -> list[Index]:
        """Return the required indexes that are missing. Raises StoreUnavailable, OutOfTime."""
        with with_deadline(self.database, Deadline.after(_INSPECT_TIMEOUT_SECONDS)):
            return missing_indexes(self.database, datatypes, related)

    def create_index(self, index: Index) -> None:
        """Create an index. Raises StoreUnavailable."""
        with map_driver_errors():
            create_index(self.database, index)

    def collated_collections(self, datatypes: Sequence[str]) -> list[str]:
        """Return the collections whose collation breaks the tenant scope. Raises StoreUnavailable, OutOfTime."""
        with with_deadline(self.database, Deadline.after(_INSPECT_TIMEOUT_SECONDS)):
            return collated_collections(self.database, datatypes)

    def has_records(self, org: str, datatype: str) -> bool:
        """Return whether the org has a record of the datatype. Raises StoreUnavailable."""
        with map_driver_errors():
            return self.database[datatype].find_one(self.scope.match(org), {"_id": 1}) is not None

    def insert(self, records: Sequence[Record]) -> None:
        """Insert records of one datatype. Raises StoreUnavailable."""
        with map_driver_errors():
            self.database[records[0]["datatype"]].insert_many([dict(record) for record in records], ordered=False)

    def close(self) -> None:
        """Close the connections."""
        self.key_sampler.close()
        self.database.client.close()


def mongo_store(
    uri: str,
    database: str,
    new_random: Callable[[], random.Random] = random.Random,
    listeners: Sequence[Listener] = (),
) -> Store:
    """Return the store on a MongoDB. It connects on first use.

    `new_random` returns the generator that draws one sample of records. `listeners` observe the driver.

    Raises ValueError for a malformed URI.
    """
    connection = connect(uri, database, listeners)
    scope = TenantScope()
    key_sampler = KeySampler(connection, scope, new_random=new_random)
    # These repositories read from the primary, whatever the URI says. A stale secondary would cause false changes of
    # members and definitions. It would also miss a use that was registered while its audience was being deleted, and
    # rows that were just written: a list would be published, or a snapshot completed, with a wrong count. The others
    # read rows of lists there as well (`lookups.source`).
    primary = connection.with_options(read_preference=ReadPreference.PRIMARY)
    snapshot_rows = MongoSnapshotRows(primary, scope)
    upload_sweeper = UploadSweeper(primary, scope)
    return Store(
        segments=MongoSegments(primary, scope),
        versions=MongoVersions(connection, scope),
        uses=MongoUses(primary, scope),
        lists=MongoLists(primary, scope),
        members=MongoMembers(connection, scope),
        checks=MongoMembershipChecks(connection, scope),
        partitions=MongoPartitions(connection, scope),
        plans=MongoPlans(connection, scope),
        samples=MongoSamples(connection, scope, new_random),
        slices=MongoKeyRanges(connection, scope, key_sampler),
        key_sampler=key_sampler,
        insights=MongoInsights(connection, scope),
        lookalikes=MongoLookalikes(connection, scope),
        snapshots=MongoSnapshots(primary, scope),
        snapshot_rows=snapshot_rows,
        snapshot_sweeper=SnapshotSweeper(primary, snapshot_rows),
        custom_audiences=MongoCustomAudiences(primary, scope),
        custom_audience_sweeper=CustomAudienceSweeper(primary, snapshot_rows, [upload_sweeper.delete_children]),
        upload_storage=UploadStorage(
            MongoUploads(primary, scope),
            MongoUnmatched(primary, scope),
            MongoListRows(primary, scope),
            MongoRejected(primary, scope),
        ),
        identifiers=MongoIdentifiers(connection, scope),
        upload_sweeper=upload_sweeper,
        sync_storage=SyncStorage(
            MongoSyncs(primary, scope),
            MongoSyncRows(primary, scope),
            MongoSyncMembers(primary, scope),
            MongoSyncBatches(primary, scope),
        ),
        sync_sweeper=SyncSweeper(primary),
        export_log=MongoExportLog(primary),
        watches=MongoWatches(primary, scope),
        event_log=MongoEventLog(primary, scope),
        history=MongoHistory(primary, scope),
        platform_ids=MongoPlatformIds(primary),
        platform_trees=MongoPlatformTrees(primary),
        open_change_stream=partial(MongoChangeStreams, primary),
        scope=scope,
        database=connection,
    )
