"""The store: every repository on one database, and the chores around them."""

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo import ReadPreference
from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import AudienceError
from audience_service.domain.lookalikes.ports import LookalikeRepository
from audience_service.domain.membership.verdicts import CheckRepository
from audience_service.domain.ports import (
    InsightRepository,
    ListRepository,
    MemberRepository,
    PartitionRepository,
    PlanRepository,
    Record,
    SampleRepository,
    SegmentRepository,
    SliceRepository,
    UseRepository,
    VersionRepository,
)
from audience_service.domain.snapshots.ports import DifferenceRepository, FrozenRepository, SnapshotRepository
from audience_service.domain.targeting.platform_ids import PlatformIdRepository
from audience_service.domain.uploads.intake import Storage
from audience_service.domain.uploads.ports import IdentifierRepository
from audience_service.domain.watches.ports import (
    ChangeFeed,
    LedgerRepository,
    PastRepository,
    StartRepository,
    WatchRepository,
)
from audience_service.mongo.changes import MongoChanges
from audience_service.mongo.checks import MongoChecks
from audience_service.mongo.collections import connect
from audience_service.mongo.custom import MongoCustomAudiences
from audience_service.mongo.custom_sweep import CustomSweeper
from audience_service.mongo.embedded import (
    EmbeddedChanges,
    EmbeddedChecks,
    EmbeddedFrozen,
    EmbeddedInsights,
    EmbeddedLedger,
    EmbeddedLists,
    EmbeddedLookalikes,
    EmbeddedMembers,
    EmbeddedPlans,
    EmbeddedSlices,
    embedded_database,
)
from audience_service.mongo.embedded_identifiers import EmbeddedIdentifiers
from audience_service.mongo.failures import limited, translated
from audience_service.mongo.identifiers import MongoIdentifiers
from audience_service.mongo.indexes import Index, collated_collections, create_index, missing_indexes, required_indexes
from audience_service.mongo.insights import MongoInsights
from audience_service.mongo.landmarks import LandmarkReader
from audience_service.mongo.ledger import MongoLedger
from audience_service.mongo.list_rows import MongoListRows
from audience_service.mongo.lists import MongoLists
from audience_service.mongo.lookalikes import MongoLookalikes
from audience_service.mongo.members import MongoMembers
from audience_service.mongo.partitions import MongoPartitions
from audience_service.mongo.past import MongoPast
from audience_service.mongo.plans import MongoPlans
from audience_service.mongo.platform_ids import MongoPlatformIds
from audience_service.mongo.samples import MongoSamples
from audience_service.mongo.segments import MongoSegments
from audience_service.mongo.slices import MongoSlices
from audience_service.mongo.snapshot_diff import MongoDifferences
from audience_service.mongo.snapshot_rows import MongoFrozen
from audience_service.mongo.snapshot_sweep import SnapshotSweeper
from audience_service.mongo.snapshots import MongoSnapshots
from audience_service.mongo.starts import MongoStarts
from audience_service.mongo.turns import (
    EmbeddedCustomAudiences,
    EmbeddedSegments,
    EmbeddedSnapshots,
    EmbeddedUses,
    EmbeddedVersions,
)
from audience_service.mongo.unmatched import MongoUnmatched
from audience_service.mongo.uploads import MongoUploads, UploadSweeper
from audience_service.mongo.uses import MongoUses
from audience_service.mongo.versions import MongoVersions
from audience_service.mongo.watches import MongoWatches

_LOOK_SECONDS = 10.0
"""What a look at the database's indexes and collections may take: a connection that swallows answers ends no watch."""


@dataclass(frozen=True, slots=True)
class Store:
    """The repositories on one database."""

    segments: SegmentRepository
    versions: VersionRepository
    uses: UseRepository
    lists: ListRepository
    members: MemberRepository
    checks: CheckRepository
    partitions: PartitionRepository
    plans: PlanRepository
    samples: SampleRepository
    slices: SliceRepository
    landmarks: LandmarkReader
    insights: InsightRepository
    lookalikes: LookalikeRepository
    snapshots: SnapshotRepository
    frozen: FrozenRepository
    differences: DifferenceRepository
    sweeper: SnapshotSweeper
    customs: CustomAudienceRepository
    custom_sweeper: CustomSweeper
    upload_storage: Storage
    identifiers: IdentifierRepository
    upload_sweeper: UploadSweeper
    watches: WatchRepository
    ledger: LedgerRepository
    starts: StartRepository
    past: PastRepository
    platform_ids: PlatformIdRepository
    changes: Callable[[Callable[[], None]], ChangeFeed]
    """Makes a process's feed of changes, which calls what it is given when there are any."""
    database: Database[dict[str, Any]]

    def is_reachable(self) -> bool:
        """Whether the database answers within 3 seconds."""
        try:
            with limited(self.database, Deadline.after(3)):
                self.database.command("ping")
        except AudienceError:
            return False
        return True

    def missing_indexes(self, datatypes: Sequence[str], related: Sequence[str] = ()) -> list[Index]:
        """The required indexes that are not there. Raises StoreUnavailable, OutOfTime."""
        with limited(self.database, Deadline.after(_LOOK_SECONDS)):
            return missing_indexes(self.database, datatypes, related)

    def create_index(self, index: Index) -> None:
        """Create one. Raises StoreUnavailable."""
        with translated():
            create_index(self.database, index)

    def collated_collections(self, datatypes: Sequence[str]) -> list[str]:
        """The collections whose default collation would break the tenant scope. Raises StoreUnavailable, OutOfTime."""
        with limited(self.database, Deadline.after(_LOOK_SECONDS)):
            return collated_collections(self.database, datatypes)

    def insert(self, records: Sequence[Record]) -> None:
        """Insert records of one datatype. Raises StoreUnavailable."""
        with translated():
            self.database[records[0]["datatype"]].insert_many([dict(record) for record in records], ordered=False)

    def close(self) -> None:
        """Close the connections."""
        self.landmarks.close()
        self.database.client.close()


def mongo_store(uri: str, database: str, new_random: Callable[[], random.Random] = random.Random) -> Store:
    """The store on a MongoDB. Connects on first use. Raises ValueError for a URI that is none.

    `new_random` returns the generator that draws one sample of records.
    """
    connected = connect(uri, database)
    landmarks = LandmarkReader(connected, new_random=new_random)
    frozen = MongoFrozen(connected)
    # Whatever the URI says of reads: one that is behind would find changes that are none, be it of what an audience is,
    # and would not know of a use that was registered while the audience was deleted.
    primary = connected.with_options(read_preference=ReadPreference.PRIMARY)
    uploads = UploadSweeper(primary)
    return Store(
        segments=MongoSegments(primary),
        versions=MongoVersions(connected),
        uses=MongoUses(primary),
        lists=MongoLists(connected),
        members=MongoMembers(connected),
        checks=MongoChecks(connected),
        partitions=MongoPartitions(connected),
        plans=MongoPlans(connected),
        samples=MongoSamples(connected, new_random),
        slices=MongoSlices(connected, landmarks),
        landmarks=landmarks,
        insights=MongoInsights(connected),
        lookalikes=MongoLookalikes(connected),
        snapshots=MongoSnapshots(primary),
        frozen=frozen,
        differences=MongoDifferences(connected),
        sweeper=SnapshotSweeper(connected, frozen),
        customs=MongoCustomAudiences(primary),
        custom_sweeper=CustomSweeper(connected, frozen, [uploads.drop_belongings]),
        upload_storage=Storage(MongoUploads(connected), MongoUnmatched(connected), MongoListRows(connected)),
        identifiers=MongoIdentifiers(connected),
        upload_sweeper=uploads,
        watches=MongoWatches(primary),
        ledger=MongoLedger(primary),
        starts=MongoStarts(primary),
        past=MongoPast(primary),
        platform_ids=MongoPlatformIds(connected),
        changes=partial(MongoChanges, primary),
        database=connected,
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
    turn = threading.RLock()
    landmarks = LandmarkReader(database, background=False, new_random=new_random)
    frozen = EmbeddedFrozen(database)
    uploads = UploadSweeper(database)
    return Store(
        segments=EmbeddedSegments(database, turn),
        versions=EmbeddedVersions(database, turn),
        uses=EmbeddedUses(database, turn),
        lists=EmbeddedLists(database),
        members=EmbeddedMembers(database),
        checks=EmbeddedChecks(database),
        partitions=MongoPartitions(database),
        plans=EmbeddedPlans(database),
        samples=MongoSamples(database, new_random),
        slices=EmbeddedSlices(database, landmarks),
        landmarks=landmarks,
        insights=EmbeddedInsights(),
        lookalikes=EmbeddedLookalikes(),
        snapshots=EmbeddedSnapshots(database, turn),
        frozen=frozen,
        differences=MongoDifferences(database),
        sweeper=SnapshotSweeper(database, frozen),
        customs=EmbeddedCustomAudiences(database, turn),
        custom_sweeper=CustomSweeper(database, frozen, [uploads.drop_belongings]),
        upload_storage=Storage(MongoUploads(database), MongoUnmatched(database), MongoListRows(database)),
        identifiers=EmbeddedIdentifiers(database),
        upload_sweeper=uploads,
        watches=MongoWatches(database),
        ledger=EmbeddedLedger(database),
        starts=MongoStarts(database),
        past=MongoPast(database),
        platform_ids=MongoPlatformIds(database),
        changes=EmbeddedChanges,
        database=database,
    )
