"""Servers for tests: every store test runs on the embedded store and, where a URI is given, on that server too."""

import hashlib
import io
import itertools
import os
import random
import shutil
import sys
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

import grpc
import hypothesis
import pymongo
import pytest
import structlog
from pydantic import SecretStr

from audience_service.app import App
from audience_service.cli.log import configure_logs
from audience_service.cli.token import mint
from audience_service.domain.erasure import service as erasure_service
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store, mongo_store
from audience_service.settings import Settings
from tests.support.client import Client, Refusal
from tests.support.examples import PROFILE, PROPERTY_TIMEOUT

hypothesis.settings.load_profile(PROFILE)  # before any property test is defined

# Where an assert in one of these fails, it says what it compared, as one in a test module does.
pytest.register_assert_rewrite("tests.support.overlaps", "tests.support.versions", "tests.support.watch_world")

erasure_service.PROPAGATION_SECONDS = 0.0  # the one process of most tests reads a tombstone as it writes it


class _Stdout(io.TextIOBase):
    """Writes to what `sys.stdout` is at the time, which pytest replaces for each test.

    It holds that stream while it writes. `print` of Python 3.11 without `file` does not, and a thread that logged while
    pytest replaced the stream ended the process with a segmentation fault.
    """

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


configure_logs("text")  # as the service does: the traceback of a defect takes a second to draw otherwise
structlog.configure(logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stdout())))

KEY = "a key of the tests, longer than thirty-two bytes"
SEALING_KEY = "a sealing key of the tests that is longer than thirty-two bytes"
URI = os.environ.get("AUDIENCE_TEST_MONGODB_URI", "")
STORES = ["embedded", "mongodb"] if URI else ["embedded"]
DURABLE = os.environ.get("AUDIENCE_TEST_DURABLE_MONGODB", "")
"""A program that starts, kills and removes a MongoDB of the tests' own: `start`, `kill`, `stop`."""
REPLICA_SET = os.environ.get("AUDIENCE_TEST_REPLICA_SET_MONGODB", "")
"""A program that starts and removes a replica set of the tests' own: `start`, `stop`."""
NODE = shutil.which("node") or ""
_EMBEDDED: list[Store] = []
"""The embedded store while it is served."""


def test_settings(**changes: Any) -> Settings:
    """Settings that do not depend on the machine's environment."""
    defaults = {"listen": "127.0.0.1:0", "jwt_key": SecretStr(KEY), "mongodb_uri": None, "log_format": "json"}
    defaults |= {"watch_poll_interval_seconds": 0.02, "watch_heartbeat_seconds": 0.2, "max_watch_streams": 16}
    defaults |= {"sealing_key": SecretStr(SEALING_KEY)}
    defaults |= {"audit_log": "off", "hash_key": SecretStr(KEY + " of hashes")}
    return Settings(**{**defaults, **changes})


def seeded() -> random.Random:
    """The source of randomness of every tested server: each sample is drawn from the same seed."""
    return random.Random(3)


class Numbers:
    """Numbers to name orgs by: no two tests get the same, and a test gets the same ones in each run."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, Iterator[int]] = defaultdict(itertools.count)

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        test = zlib.crc32(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0].encode())
        return test * 10_000 + next(self._counts[test])


@dataclass
class Service:
    """A running server and the store below it."""

    kind: str
    app: App
    store: Store
    settings: Settings
    channel: grpc.Channel
    names: Iterator[int] = field(default_factory=Numbers)

    def client(self, org: str, **token: Any) -> Client:
        """A client of an org, with every scope by default."""
        bearer = mint(self.settings, org=org, subject=token.pop("subject", "tester"), **token)
        return Client(self.channel, (("authorization", f"Bearer {bearer}"), ("orgid", org)))

    @contextmanager
    def stalled_client(self, org: str) -> Iterator[Client]:
        """A client whose streams the server cannot fill: its window does not grow with the delays of a busy machine."""
        options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.app.port}", options) as channel:
            yield Client(channel, self.client(org).metadata)

    @property
    def open_stream_count(self) -> int:
        """The number of open streams, including uploads and watches."""
        return sum(limiter.open_count for limiter in self.app.server.admission.slots.values())

    def insert(self, org: str, contacts: list[dict[str, Any]], datatype: str = "contact") -> list[str]:
        """Store records, given their `data` and any envelope fields; answers with their ids."""
        records = [envelope(org, contact, datatype) for contact in contacts]
        self.store.database[datatype].insert_many(records)
        return [record["pk"] for record in records]


def envelope(org: str, contact: dict[str, Any], datatype: str = "contact") -> dict[str, Any]:
    """A record of the platform around a payload: `id` names it, other keys besides `data` are envelope fields."""
    fields = dict(contact)
    key = fields.pop("id", None) or _new_key(f"{org}/{datatype}")
    data = fields.pop("data", {})
    return {
        "pk": f"{datatype}-{key}",
        "sk": f"{org}/{datatype}/{key}",
        "datatype": datatype,
        "version": 0,
        **fields,
        "data": data,
    }


_KEYS: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)


def _new_key(prefix: str) -> str:
    """A key that lies anywhere among others, and is the same one in each run."""
    return hashlib.sha256(f"{prefix}/{next(_KEYS[prefix])}".encode()).hexdigest()[:32]


def run_service(kind: str, store: Store, **changes: Any) -> Iterator[Service]:
    """Serve a store on a free port for as long as the generator lives."""
    settings = test_settings(**changes)
    app = App(settings, store, seeded)
    app.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=40)
            yield Service(kind, app, store, settings, channel)
    finally:
        app.stop(grace_seconds=1)


@pytest.fixture(scope="session", params=STORES)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A server on each store in turn."""
    if request.param == "embedded":
        store = embedded_store([], ("contact", "lead", "customer"), new_random=seeded)
        _EMBEDDED.append(store)
        yield from run_service("embedded", store)
        _EMBEDDED.clear()
        return
    with mongo_database() as store:
        yield from run_service("mongodb", store)


@pytest.fixture(scope="session")
def real_service() -> Iterator[Service]:
    """A server on the real engine, for tests that only it can pass; they are not collected without one."""
    with mongo_database() as store:
        yield from run_service("mongodb", store)


@pytest.fixture(scope="session")
def real_uri() -> str:
    """The URI of the real engine, for tests that need one and no server on it; they are not collected without one."""
    return URI


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node.js, for tests of scripts; they are not collected without it."""
    return NODE


class mongo_database:  # noqa: N801 - reads as the context manager that it is
    """A database of its own on the test engine, indexed, dropped afterwards."""

    def __enter__(self) -> Store:
        self._name = f"audience_test_{uuid.uuid4().hex[:12]}"
        store = mongo_store(URI, self._name, seeded)
        for index in store.missing_indexes(("contact", "lead", "customer")):
            store.create_index(index)
        return store

    def __exit__(self, *_: object) -> None:
        with pymongo.MongoClient[dict[str, Any]](URI) as client:
            client.drop_database(self._name)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store of the test's own, in which no server tracks."""
    if request.param == "embedded":
        made = embedded_store([], ("contact",), new_random=seeded)
        yield made
        made.close()
        return
    with mongo_database() as made:
        yield made
        made.close()


@pytest.fixture
def org(service: Service) -> Iterator[str]:
    """An org of this test's own."""
    name = f"org{next(service.names)}x"  # a test may append to it without meeting another test
    yield name
    if service.kind == "embedded":  # which scans the records of all orgs in each query
        _empty(service.store, {"sk": {"$regex": f"^{name}"}})


@pytest.fixture
def client(service: Service, org: str) -> Client:
    """A client of the test's org."""
    return service.client(org)


@pytest.fixture
def insert(service: Service, org: str) -> Callable[..., list[str]]:
    """Store contacts in the test's org."""
    return lambda contacts, datatype="contact": service.insert(org, contacts, datatype)


@pytest.fixture
def refused() -> Callable[..., Refusal]:
    """Call something that must be refused, and return the refusal."""

    def call(rpc: Callable[[], Any]) -> Refusal:
        with pytest.raises(grpc.RpcError) as caught:
            answer = rpc()
            if hasattr(answer, "cancel"):
                list(answer)
        return Refusal(caught.value)

    return call


def _empty(store: Store, match: dict[str, Any]) -> None:
    for collection in store.database.list_collection_names():
        store.database[collection].delete_many(match)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Empty the embedded store after each module."""
    if nextitem is None or nextitem.path != item.path:
        for store in _EMBEDDED:
            _empty(store, {})


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need a real engine, one to kill or a replica set, where there is none.

    The header says so.

    Every property test is slow.
    """
    for item in items:
        if is_property_test(item):
            item.add_marker(pytest.mark.slow)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(PROPERTY_TIMEOUT))
    kept = items
    if not URI:
        kept = [item for item in kept if not {"real_service", "real_uri"} & {*getattr(item, "fixturenames", ())}]
    if not DURABLE:
        kept = [item for item in kept if "durable" not in getattr(item, "fixturenames", ())]
    if not REPLICA_SET:
        kept = [item for item in kept if "replica_set" not in getattr(item, "fixturenames", ())]
    if not NODE:
        kept = [item for item in kept if "node" not in getattr(item, "fixturenames", ())]
    keep = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = kept


def is_property_test(item: pytest.Item) -> bool:
    """Whether Hypothesis runs it."""
    return bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False))


def pytest_report_header() -> str:
    """Say what the store tests run on."""
    stores = f"stores: {', '.join(STORES)}" + ("" if URI else " (set AUDIENCE_TEST_MONGODB_URI for a real engine)")
    stores += "" if DURABLE else "; none is killed (set AUDIENCE_TEST_DURABLE_MONGODB)"
    stores += "" if REPLICA_SET else "; no replica set (set AUDIENCE_TEST_REPLICA_SET_MONGODB)"
    stores += "" if NODE else "; no scripts of Node (install node)"
    return stores
