"""What contract tests share."""

from collections.abc import Iterator

import pytest

from audience_service.mongo.store import Store
from audience_service.mongo.watch import history as history_module
from tests.conftest import Service, mongo_database, run_service
from tests.support import tenants
from tests.support.client import Client
from tests.support.history import PAID, MakeHarness
from tests.support.lookalikes import people, segment
from tests.support.waiting import eventually
from tests.support.watch_harness import TrackAudience, WatchHarness


@pytest.fixture
def unwatched(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the watches of the test, so that the server stops tracking them before the next test."""
    yield
    for name in ("service", "real_service"):
        if name in request.fixturenames:
            end_watches(request.getfixturevalue(name))


def end_watches(service: Service) -> None:
    """End every watch of a server once no stream is open."""
    eventually(lambda: service.open_stream_count == 0)
    service.store.database["audience_watch"].delete_many({})


@pytest.fixture
def track_audience(service: Service, org: str) -> TrackAudience:
    """An audience of the test's org, by its filter."""
    return lambda where: WatchHarness(service, org, where)


@pytest.fixture
def runners(real_service: Service) -> tuple[Client, str]:
    """A client of an org of 3,000, and the segment of the 300 who score 90."""
    org = f"like{next(real_service.names)}x"
    real_service.insert(org, people(3_000))
    client = real_service.client(org)
    return client, segment(client, {"score": 90})


@pytest.fixture(scope="module")
def disclosing_service(real_service: Service) -> Iterator[Service]:
    """A server without suppression and without a baseline cache."""
    with mongo_database() as store:
        yield from run_service("mongodb", store, insights_min_bucket_size=0, insights_baseline_cache_seconds=0)


@pytest.fixture
def read_by_twos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read by twos, so that much can happen between."""
    monkeypatch.setattr(history_module, "CURSOR_BATCH_SIZE", 2)


@pytest.fixture
def track_paid_audience(service: Service, org: str) -> MakeHarness:
    """An audience of paid contacts."""
    return lambda: WatchHarness(service, org, PAID)


@pytest.fixture
def raced(client: Client) -> str:
    """A segment to race about, called `raced`."""
    made: str = client.create(name="raced", filter={"datatype": "contact", "where": {"tags": "vip"}}).id
    return made


@pytest.fixture
def orgs(service: Service) -> Iterator[tuple[Store, str, str]]:
    """Two orgs, one's name the beginning of the other's, with the same ids for a segment, its list and contacts."""
    number = next(service.names)
    ours, theirs = f"tenant{number}", f"tenant{number}2"
    for org, keys in ((ours, "ab"), (theirs, "abcd")):
        service.insert(org, [{"id": key} for key in keys])
        service.store.segments.insert(org, tenants.segment(f"of {org}"), None, tenants.NO_DEADLINE)
        service.store.lists.add(org, tenants.LIST, [f"contact-{key}" for key in keys], tenants.NO_DEADLINE)
    yield service.store, ours, theirs
    for name in (
        "contact",
        "segment",
        "segment_version",
        "audience_use",
        "audience_member",
        "audience_snapshot",
        "custom",
    ):
        service.store.database[name].delete_many({"sk": {"$regex": f"^{ours}2?/"}})
