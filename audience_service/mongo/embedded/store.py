"""Opens the embedded store."""

import random
import threading
from collections.abc import Callable, Iterable, Sequence

from audience_service.domain.core.record import Record
from audience_service.domain.syncs.repository import SyncStorage
from audience_service.domain.uploads.processor import UploadStorage
from audience_service.mongo.audiences.repository import MongoUses
from audience_service.mongo.core.indexes import create_index, required_indexes
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.custom_audiences.cleanup import CustomAudienceSweeper
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.embedded.identifiers import EmbeddedIdentifiers
from audience_service.mongo.embedded.locking import serialize
from audience_service.mongo.embedded.overrides import (
    EmbeddedChangeStream,
    EmbeddedEventLog,
    EmbeddedInsights,
    EmbeddedKeyRanges,
    EmbeddedLists,
    EmbeddedLookalikes,
    EmbeddedMembers,
    EmbeddedMembershipChecks,
    EmbeddedPlans,
    EmbeddedSamples,
    EmbeddedSnapshotRows,
    embedded_database,
)
from audience_service.mongo.embedded.syncs import EmbeddedSyncMembers, EmbeddedSyncRows
from audience_service.mongo.export_log.repository import MongoExportLog
from audience_service.mongo.membership.partitions import MongoPartitions
from audience_service.mongo.query.key_sampler import KeySampler
from audience_service.mongo.segments.repository import MongoSegments
from audience_service.mongo.segments.versions import MongoVersions
from audience_service.mongo.snapshots.cleanup import SnapshotSweeper
from audience_service.mongo.snapshots.repository import MongoSnapshots
from audience_service.mongo.store import Store
from audience_service.mongo.syncs.batches import MongoSyncBatches
from audience_service.mongo.syncs.cleanup import SyncSweeper
from audience_service.mongo.syncs.repository import MongoSyncs
from audience_service.mongo.targeting.repository import MongoPlatformIds, MongoPlatformTrees
from audience_service.mongo.uploads.cleanup import UploadSweeper
from audience_service.mongo.uploads.list_rows import MongoListRows
from audience_service.mongo.uploads.rejected_rows import MongoRejected
from audience_service.mongo.uploads.repository import MongoUploads
from audience_service.mongo.uploads.unmatched_rows import MongoUnmatched
from audience_service.mongo.watch.history import MongoHistory
from audience_service.mongo.watch.registry import MongoWatches


def embedded_store(
    records: Iterable[Record],
    datatypes: Sequence[str],
    related: Sequence[str] = (),
    new_random: Callable[[], random.Random] = random.Random,
) -> Store:
    """Return a new store in memory that contains the records.

    `new_random` returns the generator that draws one sample of records.

    Raises UnsupportedByStore if the extra `embedded` is not installed, and for records with decimals.
    """
    database = embedded_database(records)
    scope = TenantScope()
    for index in required_indexes(datatypes, related):
        create_index(database, index)
    lock = threading.RLock()
    key_sampler = KeySampler(database, scope, background=False, new_random=new_random)
    snapshot_rows = EmbeddedSnapshotRows(database, scope)
    upload_sweeper = UploadSweeper(database, scope)
    return Store(
        segments=serialize(MongoSegments, lock, database, scope),
        versions=serialize(MongoVersions, lock, database, scope),
        uses=serialize(MongoUses, lock, database, scope),
        lists=EmbeddedLists(database, scope),
        members=EmbeddedMembers(database, scope),
        checks=EmbeddedMembershipChecks(database, scope),
        partitions=MongoPartitions(database, scope),
        plans=EmbeddedPlans(),
        samples=EmbeddedSamples(database, scope, new_random),
        slices=EmbeddedKeyRanges(database, scope, key_sampler),
        key_sampler=key_sampler,
        insights=EmbeddedInsights(),
        lookalikes=EmbeddedLookalikes(),
        snapshots=serialize(MongoSnapshots, lock, database, scope),
        snapshot_rows=snapshot_rows,
        snapshot_sweeper=SnapshotSweeper(database, snapshot_rows),
        custom_audiences=serialize(MongoCustomAudiences, lock, database, scope),
        custom_audience_sweeper=CustomAudienceSweeper(database, snapshot_rows, [upload_sweeper.delete_children]),
        upload_storage=UploadStorage(
            MongoUploads(database, scope),
            MongoUnmatched(database, scope),
            MongoListRows(database, scope),
            MongoRejected(database, scope),
        ),
        identifiers=EmbeddedIdentifiers(database, scope),
        upload_sweeper=upload_sweeper,
        sync_storage=SyncStorage(
            serialize(MongoSyncs, lock, database, scope),
            EmbeddedSyncRows(),
            EmbeddedSyncMembers(),
            MongoSyncBatches(database, scope),
        ),
        sync_sweeper=SyncSweeper(database),
        export_log=serialize(MongoExportLog, lock, database),
        watches=MongoWatches(database, scope),
        event_log=EmbeddedEventLog(database, scope),
        history=MongoHistory(database, scope),
        platform_ids=serialize(MongoPlatformIds, lock, database),
        platform_trees=serialize(MongoPlatformTrees, lock, database),
        open_change_stream=EmbeddedChangeStream,
        scope=scope,
        database=database,
    )
