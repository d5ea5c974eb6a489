"""The driver's errors and the deadline, at the boundary."""

import traceback
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient, ReadPreference
from pymongo import errors as driver
from pymongo.database import Database
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import (
    ExpressionFailed,
    FilterTooLarge,
    InvalidFilter,
    OutOfTime,
    StoreUnavailable,
)
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.mongo.core.errors import BulkWriteFailed, map_driver_errors, raise_unless_duplicate, with_deadline
from tests.conftest import URI, Service


def bulk_write_error(*codes: int) -> driver.BulkWriteError:
    """What the driver raises of documents that could not be inserted: it holds them."""
    failures = [{"code": code, "op": {"email": "ann@example.com"}} for code in codes]
    return driver.BulkWriteError({"writeErrors": failures})


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (driver.AutoReconnect("x"), StoreUnavailable),
        (driver.ServerSelectionTimeoutError("x"), StoreUnavailable),
        (driver.NetworkTimeout("x"), OutOfTime),
        (driver.WTimeoutError("x", 64), OutOfTime),
        (driver.NotPrimaryError("x"), StoreUnavailable),
        (driver.OperationFailure("x", 11600), StoreUnavailable),
        (driver.CursorNotFound("x", 43), StoreUnavailable),
        (driver.ExecutionTimeout("x", 50), OutOfTime),
        (driver.OperationFailure("x", 262), OutOfTime),
        (driver.OperationFailure("Regular expression is invalid", 51091), InvalidFilter),
        (bulk_write_error(11000, 91), StoreUnavailable),
        (bulk_write_error(11000, 50), OutOfTime),
        (bulk_write_error(11000), driver.BulkWriteError),
        (driver.OperationFailure("no rights", 13), driver.OperationFailure),
        (ValueError("a defect"), ValueError),
    ],
)
def test_a_drivers_error_becomes_the_domains(raised: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected), map_driver_errors():
        raise raised


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (driver.OperationFailure("Regular expression is invalid", 51091), InvalidFilter),
        (driver.OperationFailure("cannot convert", 241), ExpressionFailed),
        (driver.OperationFailure("too much memory", 292), FilterTooLarge),
    ],
)
def test_errors_of_a_filter_name_its_field_path(raised: Exception, expected: type[InvalidFilter]) -> None:
    """A request may contain more than one filter, and the error says which of them failed."""
    compiled = FilterCompiler(["contact"]).compile(Filter("contact", {"$expr": {"$gt": [{"$toInt": "$age"}, 1]}}))
    population = replace(compiled, field_path="audience_ids[1]")
    with pytest.raises(expected) as caught, map_driver_errors(population):
        raise raised
    assert [violation.field for violation in caught.value.violations] == ["audience_ids[1]"]


def test_a_bulk_write_error_omits_the_documents() -> None:
    raise_unless_duplicate(bulk_write_error(11000, 11000))
    with pytest.raises(BulkWriteFailed) as caught:
        raise_unless_duplicate(bulk_write_error(11000, 14031))
    text = "".join(traceback.format_exception(caught.value))
    assert "14031" in text
    assert "ann@example.com" not in text


class MaxTimeRecorder(CommandListener):
    """Remembers the maxTimeMS of every count."""

    def __init__(self) -> None:
        self.limits: list[int | None] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "aggregate":
            self.limits.append(event.command.get("maxTimeMS"))

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


def test_a_deadline_becomes_max_time_ms_and_never_rounds_to_zero(real_service: Service) -> None:
    spy = MaxTimeRecorder()
    with MongoClient[dict[str, Any]](URI, event_listeners=[spy]) as client:
        database: Database[dict[str, Any]] = client[real_service.store.database.name]
        collection = database["contact"]
        collection.count_documents({})
        for seconds in (0.5, 5, 99_999_999 * 3600):
            with with_deadline(database, Deadline.after(seconds)):
                collection.count_documents({})
    none, short, some, ages = spy.limits
    assert none is None
    assert short is not None
    assert some is not None
    assert ages is not None
    assert 1 <= short <= 500
    assert 4_000 <= some <= 5_000
    assert 2**30 < ages < 2**31


class Headless(MongoClient[dict[str, Any]]):
    """A client of a replica set that has a secondary, and no primary just now."""

    @property
    def topology_description(self) -> Any:
        """It has servers to read from, but for who wants the primary."""
        return SimpleNamespace(has_readable_server=lambda preference: preference != ReadPreference.PRIMARY)


def test_only_reads_from_the_primary_wait_for_one() -> None:
    with Headless("mongodb://127.0.0.1:1/?readPreference=secondary&serverSelectionTimeoutMS=50") as client:
        database = client.get_database("crm")
        with with_deadline(database, Deadline.after(60)):
            pass
        primary = database.with_options(read_preference=ReadPreference.PRIMARY)
        with pytest.raises(StoreUnavailable), with_deadline(primary, Deadline.after(60)):
            pytest.fail("it would be waited for until the deadline")


@pytest.mark.parametrize("seconds", [-1, 0, 0.001])
def test_an_expired_deadline_sends_no_command(service: Service, seconds: float) -> None:
    with pytest.raises(OutOfTime), with_deadline(service.store.database, Deadline.after(seconds)):
        pytest.fail("it was sent")
