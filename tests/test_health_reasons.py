"""The log line of an outage: why the database does not answer. The health check goes on after any error."""

from functools import partial

import pytest
import structlog
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from audience_service import background
from audience_service.mongo.core.errors import describe_outage
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import mongo_store
from tests.conftest import run_service
from tests.support.stores import with_methods
from tests.support.waiting import eventually
from tests.test_background import is_serving


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ServerSelectionTimeoutError("db:1: [Errno 111] Connection refused, Timeout: 3s, Topology: <big>"),
            "ServerSelectionTimeoutError: db:1: [Errno 111] Connection refused",
        ),
        (
            OperationFailure("Authentication failed., full error: {'ok': 0.0}", 18),
            "OperationFailure: the database refuses the command with code 18: Authentication failed.",
        ),
    ],
)
def test_an_outage_is_described_in_one_line(error: Exception, expected: str) -> None:
    assert describe_outage(error) == expected


@pytest.mark.slow
def test_an_unreachable_database_has_a_reason() -> None:
    store = mongo_store("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", "crm")
    assert "refused" in store.find_outage()
    store.close()


@pytest.mark.parametrize("code", [13, 18])
def test_a_process_serves_after_the_database_has_refused_it(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """13 is a missing privilege, 18 failed authentication. An operator may correct both while the process runs."""
    monkeypatch.setattr(background, "_HEALTH_INTERVAL_SECONDS", 0.02)
    failures = [OperationFailure("refused", code)] * 2

    def collated_collections(*_: object) -> list[str]:
        if failures:
            raise failures.pop()
        return []

    store = with_methods(embedded_store([], ("contact",)), collated_collections=collated_collections)
    with structlog.testing.capture_logs() as lines:
        for service in run_service("embedded", store):
            eventually(partial(is_serving, service))
    assert [line["failures"] for line in lines if line["event"] == "health check failed"] == [1, 2]
