"""A server that stops: it asks its watchers to resume on another server, and does not wait for them."""

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store
from tests.conftest import STORES, URI, Service, envelope, mongo_database, run_service
from tests.contract.test_watch import VIPS, watching
from tests.support.client import Refusal
from tests.test_kills import ORG, victim

pytestmark = pytest.mark.slow

MEMBER_COUNT = 200_000
"""Members that no client's buffers hold."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store that no server has opened."""
    if request.param == "embedded":
        yield embedded_store([], ("contact",))
        return
    with mongo_database() as made:
        yield made


def test_watch_streams_end_immediately_when_the_server_stops(store: Store, refused: Callable[..., Refusal]) -> None:
    for service in run_service("", store):
        client = service.client("acme")
        with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
            stopping = threading.Thread(target=service.app.stop, args=(600,), daemon=True)
            stopping.start()
            refusal = refused(lambda: [watcher.next() for _ in range(1_000)])
            stopping.join(50)  # of the grace period of ten minutes
            assert not stopping.is_alive()
        assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "SERVER_STOPPING")


def test_a_process_with_watchers_stops_and_another_resumes(real_service: Service) -> None:
    with mongo_database() as store:
        with victim(URI, store.database.name) as (client, process):
            segment = client.create(name="vips", filter=VIPS)
            with watching(client, segment.id) as watcher:
                process.send_signal(signal.SIGTERM)
                assert process.wait(50) == 0
                token = watcher.token
        store.database["contact"].insert_one(envelope(ORG, {"id": "a", "data": {"tags": "vip"}}))
        for service in run_service("mongodb", store):
            with watching(service.client(ORG), segment.id, token) as watcher:
                assert watcher.events(1) == [("entered", "contact-a", "data")]


def test_other_streams_may_use_the_complete_grace_period(real_service: Service) -> None:
    with mongo_database() as store:
        store.database["contact"].insert_many([envelope(ORG, {"id": f"{number:06}"}) for number in range(MEMBER_COUNT)])
        for service in run_service("mongodb", store):
            all_contacts = {"filter": {"datatype": "contact", "where": {}}, "batchSize": 100}
            stream = service.client(ORG).call("StreamMembers", all_contacts, timeout=60)
            next(stream)
            stopping = threading.Thread(target=service.app.stop, args=(60,), daemon=True)
            stopping.start()
            *_, last = stream
            assert last.totals.member_count == MEMBER_COUNT
            stopping.join(50)
            assert not stopping.is_alive()
