"""kill -9 of the server and of the database during a call: the client resumes and gets exactly the right members.

Each test starts its own victim; a second server takes over. A test kills its victim after a message has arrived or a
command was sent to the database, never after a time.
"""

import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from audience_service.cli.token import mint
from audience_service.domain.core.errors import AudienceError
from audience_service.mongo.custom_audiences.documents import INTERRUPTED
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1.resources_pb2 import (
    CREATION_STATE_CREATING,
    CREATION_STATE_FAILED,
    CREATION_STATE_READY,
)
from tests import conftest
from tests.conftest import DURABLE, KEY, URI, Service, envelope, mongo_database, run_service
from tests.support.client import Client, Refusal
from tests.support.command import run_server
from tests.support.proxy import Proxy, wait_until_serving
from tests.support.snapshots import state_of
from tests.support.uploads import Uploader, chunk, header, messages
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ORG = "killed"
COUNT = 20_000
ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
ODD: dict[str, Any] = {"datatype": "contact", "where": {"odd": True}}
EVEN: dict[str, Any] = {"datatype": "contact", "where": {"odd": False}}
LEASE: dict[str, float] = {"snapshot_lease_seconds": 2, "snapshot_timeout_seconds": 20}


class CommandProxy(Proxy):
    """A proxy to the database that signals when a command was sent, and drops its reply."""

    def __init__(self, host: str, port: int, command: bytes) -> None:
        self.sent = threading.Event()
        self._command = command
        super().__init__(host, port)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.sent.is_set():
                    sink.sendall(data)
                if self._command in data:
                    self.sent.set()
        sink.close()


def fill(store: Store) -> list[str]:
    """Contacts, and their ids in order."""
    contacts = [envelope(ORG, {"id": f"{n:06}", "data": {"odd": n % 2 == 1, "pad": "x" * 200}}) for n in range(COUNT)]
    store.database["contact"].insert_many(contacts)
    return [contact["pk"] for contact in contacts]


@contextmanager
def victim(uri: str, database: str) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """A server process to kill, and a client of it."""
    settings = {
        "AUDIENCE_MONGODB_URI": uri,
        "AUDIENCE_DATABASE": database,
        "AUDIENCE_JWT_KEY": KEY,
        "AUDIENCE_SNAPSHOT_LEASE_SECONDS": "2",
        "AUDIENCE_WATCH_LEASE_SECONDS": "1",
        "AUDIENCE_WATCH_POLL_INTERVAL_SECONDS": "0.1",
        "AUDIENCE_WATCH_HEARTBEAT_SECONDS": "0.2",
    }
    bearer = mint(conftest.test_settings(), org=ORG, subject="tester")
    with run_server(**settings) as (process, address, _), grpc.insecure_channel(address) as channel:
        yield Client(channel, (("authorization", f"Bearer {bearer}"), ("orgid", ORG))), process


def kill(process: subprocess.Popen[str]) -> None:
    """End a process as the operating system does when memory is short."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def read_until_cut(stream: Any, first: Any) -> list[Any]:
    """The messages of a stream up to its cut."""
    messages = [first]
    with pytest.raises(grpc.RpcError):
        messages.extend(stream)
    assert not any(message.HasField("totals") for message in messages)
    return messages


@pytest.fixture(scope="module")
def filled_service() -> Iterator[tuple[Service, list[str]]]:
    """A database of contacts, and the server that takes over."""
    with mongo_database() as store:
        ids = fill(store)
        for service in run_service("mongodb", store, **LEASE):
            yield service, ids


@pytest.fixture
def second_server(real_service: Service, filled_service: tuple[Service, list[str]]) -> tuple[Service, list[str]]:
    """The same, for tests that are collected only with a real engine."""
    return filled_service


def test_a_stream_resumes_on_another_server_after_a_kill(second_server: tuple[Service, list[str]]) -> None:
    service, ids = second_server
    request = {"filter": ALL_CONTACTS, "batchSize": 100, "fields": ["pad"]}
    with victim(URI, service.store.database.name) as (client, process):
        stream = client.call("StreamMembers", request)
        first = next(stream)
        kill(process)
        messages = read_until_cut(stream, first)
    rest = list(service.client(ORG).call("StreamMembers", {**request, "cursor": messages[-1].cursor}))
    assert [member.id for message in [*messages, *rest] for member in message.members] == ids
    assert rest[-1].totals.member_count == COUNT


def test_a_diff_resumes_on_another_server_after_a_kill(second_server: tuple[Service, list[str]]) -> None:
    service, ids = second_server
    client = service.client(ORG)
    odd, even = (client.snapshot(filter=found).id for found in (ODD, EVEN))
    request = {"fromSnapshotId": odd, "toSnapshotId": even, "batchSize": 10}
    with victim(URI, service.store.database.name) as (other, process):
        stream = other.call("DiffSnapshots", request)
        first = next(stream)
        kill(process)
        messages = read_until_cut(stream, first)
    rest = list(client.call("DiffSnapshots", {**request, "batchSize": 1_000, "cursor": messages[-1].cursor}))
    assert [found for message in [*messages, *rest] for found in message.entered_ids] == ids[0::2]
    assert [found for message in [*messages, *rest] for found in message.exited_ids] == ids[1::2]
    totals = rest[-1].totals
    assert (totals.entered_count, totals.exited_count, totals.unchanged_count) == (COUNT // 2, COUNT // 2, 0)


def test_another_server_fails_a_killed_servers_snapshot_and_a_retry_finishes_it(
    second_server: tuple[Service, list[str]],
) -> None:
    service, ids = second_server
    client = service.client(ORG)
    rows, manifests = (service.store.database[name] for name in ("audience_member", "audience_snapshot"))
    at = urlsplit(URI)
    proxy = CommandProxy(at.hostname or "127.0.0.1", at.port or 27017, b"whenNotMatched")
    request = {"filter": ALL_CONTACTS, "requestId": "killed"}
    with victim(f"mongodb://127.0.0.1:{proxy.port}/", service.store.database.name) as (other, process):
        other.call("CreateSnapshot", request)
        assert proxy.sent.wait(40)
        kill(process)
    proxy.disconnect()
    [manifest] = manifests.find({"sk": {"$regex": f"^{ORG}/"}, "data.unique.request": {"$regex": "killed"}})
    half = manifest["pk"]
    # Whatever the database does with the dead server's command, its rows are not served as a snapshot.
    eventually(lambda: state_of(client.call("GetSnapshot", {"id": half})) == "FAILED")
    with pytest.raises(grpc.RpcError) as caught:
        list(client.call("StreamMembers", {"snapshotId": half}))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    made = client.snapshot(**request)
    assert (made.id, made.count) == (half, COUNT)
    assert client.members(snapshotId=half, batchSize=10_000) == ids
    assert rows.count_documents({"audience": f"{half}.2"}) == COUNT


def test_a_lookalike_whose_server_is_killed_is_failed_and_created_by_a_refresh(
    second_server: tuple[Service, list[str]],
) -> None:
    """Another server shows FAILED once the lease has expired, refuses its members, and starts the creation again."""
    service, _ = second_server
    client = service.client(ORG)
    source = client.create(name="odd", filter=ODD).id
    at = urlsplit(URI)
    proxy = CommandProxy(at.hostname or "127.0.0.1", at.port or 27017, b"toHashedIndexKey")
    spec = {"sourceAudienceId": source, "count": 10, "fields": ["pad", "odd"], "includeSource": True}
    with victim(f"mongodb://127.0.0.1:{proxy.port}/", service.store.database.name) as (other, process):
        made = other.custom(name="killed lookalike", type="lookalike", lookalike=spec)
        assert made.creation_state == CREATION_STATE_CREATING
        assert proxy.sent.wait(40)
        kill(process)
    proxy.disconnect()
    failed = client.settled(made.id)
    assert (failed.creation_state, failed.error) == (CREATION_STATE_FAILED, INTERRUPTED)
    with pytest.raises(grpc.RpcError) as caught:
        client.count(audienceId=made.id)
    assert Refusal(caught.value).info.reason == "UNUSABLE_AUDIENCE"
    client.call("RefreshCustomAudience", {"id": made.id})
    ready = client.settled(made.id)
    assert (ready.creation_state, ready.contact_count, ready.version) == (CREATION_STATE_READY, 10, 0)
    assert client.count(audienceId=made.id) == 10
    client.call("DeleteCustomAudience", {"id": made.id})


def test_an_upload_resumes_exactly_on_another_server_after_a_kill(
    second_server: tuple[Service, list[str]],
) -> None:
    service, ids = second_server
    client, uploads = service.client(ORG), service.store.database["audience_upload"]
    made = client.custom(name="killed list").id
    data = "".join(["id,note\n", *(f"{pk},{'x' * 50}\n" for pk in ids), "contact-nobody,\n", f"{ids[0]},\n"]).encode()
    requests: queue.Queue[Any] = queue.Queue()
    requests.put(header(made))
    for at in range(0, len(data) * 3 // 4, 65_536):
        requests.put(chunk(at, data[at : at + 65_536]))
    with victim(URI, service.store.database.name) as (other, process):
        call = Uploader(other).start(iter(requests.get, None))
        eventually(lambda: bool(uploads.count_documents({"audience": made, "position.offset": {"$gt": 0}})))
        kill(process)
        requests.put(None)
        assert call.exception(timeout=40) is not None
    start = client.call("GetUpload", {"audienceId": made, "uploadId": "first"}).next_offset
    assert 0 < start < len(data)
    assert client.members(audienceId=made) == []
    done = Uploader(client).send(messages(header(made), data, start))
    counts = (done.row_count, done.matched_row_count, done.duplicate_row_count, done.unmatched_row_count)
    assert counts == (
        COUNT + 2,
        COUNT,
        1,
        1,
    )
    assert client.members(audienceId=made, batchSize=10_000) == ids


@pytest.fixture(scope="module")
def durable() -> Iterator[str]:
    """The URI of a database that may be killed."""
    try:
        yield _database("start")
    finally:
        _database("stop")


def _database(command: str) -> str:
    done = subprocess.run([DURABLE, command], capture_output=True, text=True, timeout=300, check=True)  # noqa: S603
    return (done.stdout.split() or [""])[-1]


def test_a_killed_database_loses_nothing(durable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in (
        "membership.repository.CURSOR_BATCH_SIZE",
        "snapshots.rows.CURSOR_BATCH_SIZE",
    ):  # back to the database every few records
        monkeypatch.setattr(f"audience_service.mongo.{batch}", 10)
    with ExitStack() as stack:
        store = mongo_store(durable, "audience_killed")
        for index in store.missing_indexes(("contact", "lead", "customer")):
            store.create_index(index)
        ids = fill(store)
        client = stack.enter_context(_running(store)).client(ORG)
        odd, even = (client.snapshot(filter=found) for found in (ODD, EVEN))
        streamed = {"snapshotId": odd.id, "batchSize": 10}
        compared = {"fromSnapshotId": odd.id, "toSnapshotId": even.id, "batchSize": 10}
        streams = [client.call("StreamMembers", streamed), client.call("DiffSnapshots", compared)]
        firsts = [next(stream) for stream in streams]
        at = urlsplit(durable)
        proxy = CommandProxy(at.hostname or "127.0.0.1", at.port or 27017, b"whenNotMatched")
        stack.callback(proxy.disconnect)
        other_store = mongo_store(f"mongodb://127.0.0.1:{proxy.port}/", "audience_killed")
        second = stack.enter_context(ExitStack())
        second_server = second.enter_context(_running(other_store))
        wait_until_serving(second_server)
        other = second_server.client(ORG)
        request = {"filter": ALL_CONTACTS, "requestId": "killed"}
        other.call("CreateSnapshot", request)
        assert proxy.sent.wait(40)
        _database("kill")
        proxy.disconnect()
        received = [read_until_cut(stream, first) for stream, first in zip(streams, firsts, strict=True)]
        second.close()
        assert _database("start") == durable
        eventually(lambda: not store.find_outage())
        assert client.call("GetSnapshot", {"id": odd.id}) == odd
        streamed, compared = ({**request, "batchSize": 10_000} for request in (streamed, compared))
        rest = list(client.call("StreamMembers", {**streamed, "cursor": received[0][-1].cursor}))
        assert [member.id for message in [*received[0], *rest] for member in message.members] == ids[1::2]
        rest = list(client.call("DiffSnapshots", {**compared, "cursor": received[1][-1].cursor}))
        assert [found for message in [*received[1], *rest] for found in message.entered_ids] == ids[0::2]
        eventually(lambda: state_of(client.call("CreateSnapshot", request)) == "READY")
        made = client.snapshot(**request)
        assert made.count == COUNT
        assert client.members(snapshotId=made.id, batchSize=10_000) == ids


def is_reachable(store: Store) -> bool:
    """Whether the database answers."""
    try:
        store.check_reachable()
    except AudienceError:
        return False
    return True


@contextmanager
def _running(store: Store) -> Iterator[Service]:
    yield from run_service("mongodb", store, **LEASE)
