"""The read options of a snapshot, by the deployment that it is connected to."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Timestamp
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from audience_service.domain.audiences.suppression import suppression_conditions
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.snapshots.model import Snapshot
from audience_service.mongo.core.cluster_time import cluster_time_of, supports_snapshot_reads
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.snapshots.rows import MongoSnapshotRows

CLUSTER_TIME = datetime(2026, 11, 25, tzinfo=UTC)
SNAPSHOT = Snapshot("snapshot-a", "", CreationState.CREATING, "contact", CLUSTER_TIME, CLUSTER_TIME, "ann", attempt=3)


def topology(*kinds: str) -> Any:
    """A topology as the driver describes it, of servers of these kinds."""
    servers = {(kind, number): SimpleNamespace(server_type_name=kind) for number, kind in enumerate(kinds)}
    return SimpleNamespace(server_descriptions=lambda: servers)


@pytest.mark.parametrize(
    ("kinds", "has"),
    [
        (["Standalone"], False),
        (["Unknown"], False),
        ([], False),
        (["RSPrimary", "RSSecondary", "Unknown"], True),
        (["RSSecondary"], True),
        (["Mongos", "Unknown"], True),
        (["LoadBalancer"], True),
    ],
)
def test_replica_sets_and_sharded_clusters_support_snapshot_reads(kinds: list[str], has: bool) -> None:
    assert supports_snapshot_reads(topology(*kinds)) is has


def test_the_reply_contains_the_cluster_time() -> None:
    stamp = Timestamp(int(CLUSTER_TIME.timestamp()), 7)
    assert (
        cluster_time_of({"cursor": {"atClusterTime": stamp}})
        == cluster_time_of({"atClusterTime": stamp})
        == CLUSTER_TIME
    )
    assert cluster_time_of({"cursor": {"firstBatch": []}}) is None


class Database:
    """The driver's side of a database, which keeps the commands that it is sent."""

    def __init__(self, kind: str, answer: Mapping[str, Any] | Exception) -> None:
        self.client = SimpleNamespace(topology_description=topology(kind))
        self.read_concern, self.write_concern = ReadConcern("majority"), WriteConcern("majority")
        self.commands: list[dict[str, Any]] = []
        self._answer = answer

    def __getitem__(self, name: str) -> Any:
        row = {"n": 2, "first": 2**32 + 1, "second": -1, "sampled": []}
        counted = [{"_id": SNAPSHOT.list_version_id, **row}]
        return SimpleNamespace(aggregate=lambda *_, **__: counted, find=lambda *_, **__: [])

    def command(self, command: dict[str, Any]) -> Mapping[str, Any]:
        self.commands.append(command)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def write_snapshot(database: Any, population: CompiledFilter | MemberList, purpose: str = "") -> Any:
    reasons = suppression_conditions("contact", purpose)
    return MongoSnapshotRows(database, TenantScope()).write(
        "acme", SNAPSHOT, population, reasons, Deadline.after(10), lambda: None
    )


ALL_CONTACTS = CompiledFilter("contact", {"state": {"$ne": "deleted"}})


def test_a_replica_set_reads_at_one_point_in_time() -> None:
    stamp = Timestamp(int(CLUSTER_TIME.timestamp()), 1)
    database = Database("RSPrimary", {"cursor": {"atClusterTime": stamp}})
    result = write_snapshot(database, ALL_CONTACTS)
    [command] = database.commands
    assert command["readConcern"] == {"level": "snapshot"}
    assert command["writeConcern"] == {"w": "majority"}
    assert command["pipeline"][-1]["$merge"]["whenMatched"] == "fail"
    assert (result.point_in_time, result.read_at) == (True, CLUSTER_TIME)
    assert (result.summary.count, result.summary.digest) == (2, "00000001ffffffff")


def test_suppression_lookups_use_the_same_point_in_time() -> None:
    database = Database("RSPrimary", {"cursor": {"atClusterTime": Timestamp(1, 1)}})
    assert write_snapshot(database, ALL_CONTACTS, "email").point_in_time
    assert "'from': 'subscriber'" in str(database.commands[0]["pipeline"])


def test_a_standalone_does_not_read_at_one_point_in_time() -> None:
    database = Database("Standalone", {"cursor": {}})
    result = write_snapshot(database, ALL_CONTACTS)
    assert database.commands[0]["readConcern"] == {"level": "majority"}
    assert database.commands[0]["pipeline"][-1]["$merge"]["whenMatched"] == "keepExisting"
    assert not result.point_in_time


def test_the_tenant_scope_is_in_the_command_that_writes() -> None:
    database = Database("Standalone", {"cursor": {}})
    write_snapshot(database, ALL_CONTACTS)
    [command] = database.commands
    assert command["pipeline"][0]["$match"]["sk"] == {"$gte": "acme/", "$lt": "acme0"}
    assert command["pipeline"][-1]["$merge"]["into"] == "audience_member"


@pytest.mark.parametrize(
    "answer", [{"cursor": {}, "writeConcernError": {"code": 64}}, OperationFailure("too old", 239, {})]
)
def test_write_concern_errors_and_expired_history_fail_it(answer: Any) -> None:
    with pytest.raises(StoreUnavailable):
        write_snapshot(Database("RSPrimary", answer), ALL_CONTACTS)
