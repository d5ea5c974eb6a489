"""Failures that a replica set reports, injected into its commands: no call is INTERNAL, and each recovers."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pymongo
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict

from audience_service.mongo.store import mongo_store
from tests.conftest import REPLICA_SET, Service, envelope, run_service, seeded
from tests.support.client import Refusal
from tests.support.proxy import wait_until_serving
from tests.support.rpcs import METHODS, about, named, refusal
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ORG = "failures"
ALL_CONTACTS = {"datatype": "contact", "where": {}}
READS, WRITES = ["find", "aggregate", "getMore"], ["insert", "update", "delete", "findAndModify"]

CODES = {
    "NetworkError": 9001,
    "RetriableError": 134,
    "Interruption": 11601,
    "NotPrimaryError": 10107,
    "ShutdownError": 91,
    "CursorInvalidatedError": 175,
    "ExceededTimeLimitError": 290,
    "SnapshotError": 246,
    "StaleShardVersionError": 13388,
    "no category, transient": 133,
    "no category, unspecific": 8,
    "out of memory": 146,
    "out of disk space": 14031,
    "refused": 18,
}
"""One code of each category that a command of a replica set may fail with."""

IDS = {"Snapshot": "snapshot-x", "Sync": "sync-x", "CustomAudience": "custom-x", "Lookalike": "custom-x"}
"""An id by a part of the RPC's name; other RPCs get that of a segment."""
REQUESTS: dict[str, Any] = {
    "EraseContact": {"contactId": "", "email": "ann@example.com"},
    "RegisterUse": {"use": {"consumerKind": "campaign", "consumerId": "spring"}},
    "ReleaseUse": {"consumerKind": "campaign"},
    "CreateCustomAudience": {"customAudience": {"name": "VIPs", "type": "file_upload"}},
    "UpdateCustomAudience": {"customAudience": {"id": "custom-x", "name": "VIPs"}, "updateMask": "name"},
    "ListFields": {"datatype": "contact"},
    "CheckMembership": {"audienceIds": ["SEGMENT"], "contactIds": ["contact-x"]},
    "ExportIdentifiers": {"platform": "meta"},
    "GetOverlapRegions": {"audienceIds": ["SEGMENT", "segment-x"]},
    "AddSegmentContacts": {"contactIds": ["contact-x"]},
    "RemoveSegmentContacts": {"contactIds": ["contact-x"]},
    "CreateSegment": {"segment": {"name": "new", "filter": ALL_CONTACTS}},
    "UpdateSegment": {"segment": {"id": "SEGMENT", "name": "other"}, "updateMask": "name"},
    "RollbackSegment": {"targetVersion": "0"},
    "CreateSync": {"sync": {"name": "VIPs", "audienceIds": ["SEGMENT"], "platform": "meta"}},
    "UpdateSync": {"sync": {"id": "sync-x", "name": "other"}, "updateMask": "name"},
}
"""What the requests of these RPCs need besides an id."""
WITHOUT_COMMANDS = ("ListCustomAudienceTypes", "ListInterests", "ListLocations", "ListTargetingOptions")


@dataclass
class ReplicaSet:
    """A service on a replica set whose commands can be made to fail."""

    service: Service
    admin: Any
    contact_ids: list[str]

    @contextmanager
    def failing(self, commands: list[str], mode: Any = "alwaysOn", **failure: Any) -> Iterator[None]:
        """Let the service's commands fail in the body."""
        data = {"failCommands": commands, "appName": "audience-service", **failure}
        self.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        try:
            yield
        finally:
            self.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    def read(self) -> int:
        """The reach of everybody."""
        answer = self.service.client(ORG).call("EstimateReach", {"filter": ALL_CONTACTS}, timeout=40)
        assert answer.exact
        return int(answer.count)

    def write(self, timeout: float = 40) -> str:
        """The id of a new segment."""
        name = f"segment {next(self.service.names)}"
        request = {"segment": {"name": name, "filter": ALL_CONTACTS}}
        return str(self.service.client(ORG).call("CreateSegment", request, timeout=timeout).id)

    def insert(self, key: str) -> str:
        """The id of a new contact, which another client writes."""
        contact = envelope(ORG, {"id": key})
        self.admin.client[self.service.store.database.name]["contact"].insert_one(contact)
        self.contact_ids = sorted([*self.contact_ids, contact["pk"]])
        return str(contact["pk"])

    def stream(self) -> list[str]:
        """The ids of everybody."""
        messages = self.service.client(ORG).call("StreamMembers", {"filter": ALL_CONTACTS}, timeout=40)
        return [member.id for message in messages for member in message.members]


@pytest.fixture(scope="module")
def replica_set() -> Iterator[ReplicaSet]:
    """A replica set of one node, started and removed by this module."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    environment = {"AUDIENCE_TEST_REPLICA_SET_PORT": str(27_118 + worker), **os.environ}
    printed = subprocess.run(  # noqa: S603
        [REPLICA_SET, "start"], env=environment, capture_output=True, text=True, check=True, timeout=200
    )
    uri = printed.stdout.split()[-1]
    try:
        store = mongo_store(uri, "audience_test_failures", seeded)
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        with pymongo.MongoClient[dict[str, Any]](uri) as admin:
            for service in run_service("mongodb", store):
                ids = service.insert(ORG, [{} for _ in range(300)])
                yield ReplicaSet(service, admin.admin, sorted(ids))
    finally:
        subprocess.run([REPLICA_SET, "stop"], env=environment, check=True, timeout=60)  # noqa: S603


def outcome(call: Any) -> str:
    """The status of a call, and the reason of an error."""
    try:
        call()
    except grpc.RpcError as error:
        refusal = Refusal(error)
        return f"{refusal.code.name} {refusal.info.reason if refusal.details else '?'}"
    return "OK"


@pytest.mark.parametrize("category", CODES)
def test_no_failure_of_the_database_is_internal(replica_set: ReplicaSet, category: str) -> None:
    """One read, one write and one stream of each category of code; all three work once the failure is over."""
    code = CODES[category]
    reason = {18: "UNAVAILABLE STORE_REFUSED", 290: "DEADLINE_EXCEEDED OUT_OF_TIME"}
    expected = reason.get(code, "UNAVAILABLE STORE_UNAVAILABLE")
    with replica_set.failing(READS, errorCode=code):
        assert {outcome(replica_set.read), outcome(replica_set.stream)} == {expected}
    with replica_set.failing(WRITES, errorCode=code):
        refusal = outcome(lambda: replica_set.write(timeout=1))
    # The driver repeats a retryable write until the deadline, at which the client may be faster than the server.
    assert refusal == expected or refusal.startswith("DEADLINE_EXCEEDED"), refusal
    assert outcome(replica_set.write) == "OK"
    assert replica_set.read() == len(replica_set.contact_ids)
    assert replica_set.stream() == replica_set.contact_ids


def failing_request(method: MethodDescriptor, segment_id: str) -> Any:
    """A request of an RPC that reads or writes something."""
    [service_id] = [name for key, name in IDS.items() if key in named(method)][:1] or [segment_id]
    request: Any = about(method, [service_id])
    for field in method.input_type.fields:
        if field.message_type and field.message_type.name == "Filter":
            ParseDict(ALL_CONTACTS, getattr(request, field.name))
    written = json.dumps(REQUESTS.get(method.name, {})).replace("SEGMENT", segment_id)
    return ParseDict(json.loads(written), request)


@pytest.mark.parametrize("code", CODES.values())
def test_no_rpc_has_a_defect_when_its_first_command_fails(replica_set: ReplicaSet, code: int) -> None:
    """Each RPC that the protos declare fails by the database, and none as INTERNAL or UNKNOWN."""
    client, segment_id = replica_set.service.client(ORG), replica_set.write()
    found = {}
    for method in METHODS:
        if method.name in WITHOUT_COMMANDS:
            continue
        request = failing_request(method, segment_id)
        with replica_set.failing([*READS, *WRITES], errorCode=code):
            error = refusal(replica_set.service, method, request, client.metadata, timeout=1)
        found[named(method)] = f"{error.code.name} {error.details}" if error else "OK"
    expected = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert {rpc: answer for rpc, answer in found.items() if not answer.startswith(expected)} == {}


@pytest.mark.parametrize("code", [64, 79, 100])
def test_a_write_without_its_majority_says_that_it_may_have_been_done(
    replica_set: ReplicaSet, code: int, refused: Any
) -> None:
    with replica_set.failing(WRITES, writeConcernError={"code": code, "errmsg": "no majority"}):
        refusal = refused(replica_set.write)
    assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert "may have been done" in refusal.message


@pytest.mark.parametrize("code", [9001, 134, 10107, 91])
def test_one_interruption_is_not_noticed(replica_set: ReplicaSet, code: int) -> None:
    """A count and an overlap are repeated by the service, a write by the driver."""
    with replica_set.failing(["aggregate"], {"times": 1}, errorCode=code):
        assert replica_set.read() == len(replica_set.contact_ids)
    two = {"audienceId": replica_set.write(), "otherAudienceId": replica_set.write()}
    with replica_set.failing(["aggregate"], {"times": 1}, errorCode=code):
        overlap = replica_set.service.client(ORG).call("GetOverlap", two)
    assert overlap.count == len(replica_set.contact_ids)
    with replica_set.failing(["insert"], {"times": 1}, errorCode=code, errorLabels=["RetryableWriteError"]):
        assert replica_set.write()


def test_calls_and_health_follow_a_step_down(replica_set: ReplicaSet) -> None:
    """Writes during an election are UNAVAILABLE, and succeed after it."""
    wait_until_serving(replica_set.service)
    replica_set.admin.command({"replSetStepDown": 2, "force": True})
    eventually(lambda: outcome(replica_set.write) == "OK")
    assert replica_set.stream() == replica_set.contact_ids
    wait_until_serving(replica_set.service)


def test_a_watch_outlives_134_and_9001(replica_set: ReplicaSet) -> None:
    """Both are retriable by MongoDB's own categories, and once ended watches for good."""
    client = replica_set.service.client(ORG)
    request = {"audienceId": replica_set.write()}
    stream = client.call("WatchMembership", request, timeout=60)
    request["resumeToken"] = next(stream).resume_token
    for number, code in enumerate((134, 9001)):
        with replica_set.failing([*READS, *WRITES], {"times": 6}, errorCode=code):
            entered = replica_set.insert(f"watched-{number}")
            ids: set[str] = set()
            while entered not in ids:
                try:
                    for message in stream:
                        request["resumeToken"] = message.resume_token
                        ids |= {event.contact_id for event in message.events}
                        if entered in ids:
                            break
                except grpc.RpcError as error:
                    assert Refusal(error).code.name == "UNAVAILABLE"
                    stream = client.call("WatchMembership", request, timeout=60)
