"""A server that can restart, and clients of it."""

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from audience_client import AudienceClient

from audience_service.app import App
from audience_service.cli.token import mint
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store, mongo_store
from tests.conftest import STORES, URI, envelope, mongo_database, seeded, test_settings
from tests.support.command import free_port

EXAMPLES = Path(__file__).parents[2] / "clients/python/examples"
DATATYPES = ("contact",)


def on_mongodb(test: Callable[..., None]) -> Callable[..., None]:
    """For tests of what the embedded store lacks, such as purposes and insights."""
    for mark in (pytest.mark.usefixtures("real_uri"), pytest.mark.parametrize("server", ["mongodb"], indirect=True)):
        test = mark(test)
    return test


class Server:
    """A server on a port of its own. After a restart it serves the same data on the same port."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._orgs = itertools.count()
        self.address = f"127.0.0.1:{free_port()}"  # that nobody gets during a restart
        self.restarts = 0
        self.start()

    def start(self) -> None:
        """Serve a newly opened store."""
        self.store = self._open_store()
        self.settings = test_settings(listen=self.address)
        self._app = App(self.settings, self.store, seeded)
        self._app.start()

    def stop(self) -> None:
        """Cut all calls and stop."""
        self._app.stop(grace_seconds=0)

    def restart(self) -> None:
        """Stop, and start with the same data."""
        self.restarts += 1
        self.stop()
        self.start()

    def new_org(self) -> str:
        """The name of an org without data."""
        return f"org{next(self._orgs)}"

    def token(self, org: str, **claims: Any) -> str:
        """A token for an org."""
        return mint(self.settings, org=org, subject="tester", **claims)

    def insert(self, org: str, contacts: list[dict[str, Any]]) -> list[str]:
        """Store contacts, given their `data`; returns their ids."""
        records = [envelope(org, {"data": data}) for data in contacts]
        self.store.database["contact"].insert_many(records)
        return [record["pk"] for record in records]


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on each store in turn, for the tests of a module."""
    if request.param == "embedded":
        store = embedded_store([], DATATYPES, new_random=seeded)
        yield from _serve(lambda: store)
        return
    with mongo_database() as opened:
        opened.close()
        yield from _serve(lambda: mongo_store(URI, opened.database.name, seeded))


def _serve(open_store: Callable[[], Store]) -> Iterator[Server]:
    server = Server(open_store)
    yield server
    server.stop()


@pytest.fixture
def org(server: Server) -> str:
    """An org of the test's own."""
    return server.new_org()


@pytest.fixture
def client(server: Server, org: str) -> Iterator[AudienceClient]:
    """A client of the test's org."""
    with AudienceClient(server.address, org=org, token=lambda: server.token(org)) as opened:
        yield opened


@pytest.fixture
def example() -> Callable[[str], ModuleType]:
    """Loads an example by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
