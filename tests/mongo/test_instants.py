"""What a snapshot asks of the driver, by the deployment that it is connected to."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Timestamp
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from audience_service.domain.audiences.purposes import suppressed
from audience_service.domain.caller import Deadline
from audience_service.domain.contact_list import ContactList
from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.snapshots.snapshot import Snapshot, SnapshotState
from audience_service.mongo.instants import has_instants, instant_of
from audience_service.mongo.snapshot_rows import MongoFrozen

MOMENT = datetime(2026, 11, 25, tzinfo=UTC)
SNAPSHOT = Snapshot("snapshot-a", "", SnapshotState.CREATING, "contact", MOMENT, MOMENT, "ann", attempt=3)


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
def test_replica_sets_and_sharded_clusters_read_as_of_one_instant(kinds: list[str], has: bool) -> None:
    assert has_instants(topology(*kinds)) is has


def test_the_instant_stands_in_the_answer() -> None:
    stamp = Timestamp(int(MOMENT.timestamp()), 7)
    assert instant_of({"cursor": {"atClusterTime": stamp}}) == instant_of({"atClusterTime": stamp}) == MOMENT
    assert instant_of({"cursor": {"firstBatch": []}}) is None


class Database:
    """The driver's side of a database, which keeps the commands that it is sent."""

    def __init__(self, kind: str, answer: Mapping[str, Any] | Exception) -> None:
        self.client = SimpleNamespace(topology_description=topology(kind))
        self.read_concern, self.write_concern = ReadConcern("majority"), WriteConcern("majority")
        self.commands: list[dict[str, Any]] = []
        self._answer = answer

    def __getitem__(self, name: str) -> Any:
        counted = [{"_id": SNAPSHOT.rows_id, "n": 2, "first": 2**32 + 1, "second": -1}]
        return SimpleNamespace(aggregate=lambda *_, **__: counted)

    def command(self, command: dict[str, Any]) -> Mapping[str, Any]:
        self.commands.append(command)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def freeze(database: Any, population: CompiledFilter | ContactList, purpose: str = "") -> Any:
    reasons = suppressed("contact", purpose)
    return MongoFrozen(database).freeze("acme", SNAPSHOT, population, reasons, Deadline.after(10), lambda: None)


EVERYONE = CompiledFilter("contact", {"state": {"$ne": "deleted"}})


def test_a_replica_set_is_asked_for_one_instant() -> None:
    stamp = Timestamp(int(MOMENT.timestamp()), 1)
    database = Database("RSPrimary", {"cursor": {"atClusterTime": stamp}})
    frozen = freeze(database, EVERYONE)
    [command] = database.commands
    assert command["readConcern"] == {"level": "snapshot"}
    assert command["writeConcern"] == {"w": "majority"}
    assert command["pipeline"][-1]["$merge"]["whenMatched"] == "fail"
    assert (frozen.one_instant, frozen.read_at) == (True, MOMENT)
    assert (frozen.count, frozen.digest) == (2, "00000001ffffffff")


def test_who_may_not_be_reached_is_looked_up_as_of_that_instant() -> None:
    database = Database("RSPrimary", {"cursor": {"atClusterTime": Timestamp(1, 1)}})
    assert freeze(database, EVERYONE, "email").one_instant
    assert "'from': 'subscriber'" in str(database.commands[0]["pipeline"])


def test_a_standalone_is_not() -> None:
    database = Database("Standalone", {"cursor": {}})
    frozen = freeze(database, EVERYONE)
    assert database.commands[0]["readConcern"] == {"level": "majority"}
    assert database.commands[0]["pipeline"][-1]["$merge"]["whenMatched"] == "keepExisting"
    assert not frozen.one_instant


def test_the_tenant_scope_is_in_the_command_that_writes() -> None:
    database = Database("Standalone", {"cursor": {}})
    freeze(database, EVERYONE)
    [command] = database.commands
    assert command["pipeline"][0]["$match"]["sk"] == {"$gte": "acme/", "$lt": "acme0"}
    assert command["pipeline"][-1]["$merge"]["into"] == "audience_member"


@pytest.mark.parametrize(
    "answer", [{"cursor": {}, "writeConcernError": {"code": 64}}, OperationFailure("too old", 239, {})]
)
def test_members_that_may_not_be_kept_and_history_that_is_gone_fail_it(answer: Any) -> None:
    with pytest.raises(StoreUnavailable):
        freeze(Database("RSPrimary", answer), EVERYONE)
