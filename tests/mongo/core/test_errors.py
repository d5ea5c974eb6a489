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
    StoreRefused,
    StoreUnavailable,
)
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.mongo.core.errors import (
    BulkWriteFailed,
    map_driver_errors,
    raise_unless_duplicate,
    retry_read,
    with_deadline,
)
from audience_service.mongo.core.server_errors import CATEGORIES
from tests.conftest import URI, Service


def bulk_write_error(*codes: int) -> driver.BulkWriteError:
    """What the driver raises of documents that could not be inserted: it holds them."""
    failures = [{"code": code, "op": {"email": "ann@example.com"}} for code in codes]
    return driver.BulkWriteError({"writeErrors": failures})


FOUND_AS_DEFECTS = (
    64, 79, 100, 133, 134, 136, 175, 237, 239, 246, 279, 290, 314, 402, 9001, 11601, 13388, 14031, 146, 1, 8, 13, 18,
    24, 112, 148,
)  # fmt: skip
"""Codes that were once answered as INTERNAL, and some without a category."""


def test_no_state_of_the_database_is_a_defect() -> None:
    """Every code of MongoDB's categories becomes UNAVAILABLE or DEADLINE_EXCEEDED, alone and in a bulk write."""
    categorised = frozenset().union(*CATEGORIES.values())
    for code in {*FOUND_AS_DEFECTS, *categorised}:
        for raised in (driver.OperationFailure("x", code), driver.WriteConcernError("x", code), bulk_write_error(code)):
            with pytest.raises((StoreUnavailable, OutOfTime)), map_driver_errors():
                raise raised


@pytest.mark.parametrize("code", [2, 9, 14, 20, 40, 66, 115, 10334, 40324])
def test_a_malformed_command_stays_a_defect(code: int) -> None:
    with pytest.raises(driver.OperationFailure), map_driver_errors():
        raise driver.OperationFailure("x", code)


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (driver.AutoReconnect("x"), StoreUnavailable, "cannot be reached"),
        (driver.ServerSelectionTimeoutError("x"), StoreUnavailable, "cannot be reached"),
        (driver.ServerSelectionTimeoutError("db:1: [Errno -2] Name or service not known"), StoreRefused, "host"),
        (driver.ConfigurationError("The DNS query name does not exist"), StoreRefused, "operator"),
        (driver.InvalidOperation("Cannot use MongoClient after close"), StoreUnavailable, "stopping"),
        (driver.ProtocolError("x"), StoreUnavailable, "cannot be reached"),
        (driver.NetworkTimeout("x"), OutOfTime, "deadline"),
        (driver.WTimeoutError("x", 64), StoreUnavailable, "may have been done"),
        (driver.WTimeoutError("x", 50), OutOfTime, "deadline"),
        (driver.WriteConcernError("x", 100, {"codeName": "UnsatisfiableWriteConcern"}), StoreUnavailable, "Unsatisf"),
        (driver.NotPrimaryError("x"), StoreUnavailable, "cannot be reached"),
        (driver.OperationFailure("x", 11600), StoreUnavailable, "cannot be reached"),
        (driver.CursorNotFound("x", 43), StoreUnavailable, "last cursor"),
        (driver.ExecutionTimeout("x", 50), OutOfTime, "deadline"),
        (driver.OperationFailure("x", 134, {"codeName": "ReadConcernMajority"}), StoreUnavailable, "(ReadConcernMaj"),
        (driver.OperationFailure("x", 14031), StoreUnavailable, "(code 14031)"),
        (driver.OperationFailure("x", 18, {"codeName": "AuthenticationFailed"}), StoreRefused, "(AuthenticationFailed"),
        (driver.OperationFailure("x", 13), StoreRefused, "operator"),
        (driver.OperationFailure("x", 1000, {"errorLabels": ["RetryableWriteError"]}), StoreUnavailable, "code 1000"),
        (driver.OperationFailure("Regular expression is invalid", 51091), InvalidFilter, "regular expression"),
        (bulk_write_error(11000, 91), StoreUnavailable, "cannot be reached"),
        (bulk_write_error(11000, 50), OutOfTime, "deadline"),
        (bulk_write_error(11000), driver.BulkWriteError, "batch"),
        (ValueError("a defect"), ValueError, "a defect"),
    ],
)
def test_a_drivers_error_becomes_the_domains(raised: Exception, expected: type[Exception], text: str) -> None:
    with pytest.raises(expected) as caught, map_driver_errors():
        raise raised
    assert type(caught.value) is expected
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("failures", "outcome"),
    [
        ([], 1),
        ([driver.NotPrimaryError("x")], 2),
        ([driver.OperationFailure("x", 134)], 2),
        ([driver.OperationFailure("x", 9001)] * 2, StoreUnavailable),
        ([driver.ServerSelectionTimeoutError("x")], StoreUnavailable),
        ([driver.OperationFailure("x", 18)], StoreRefused),
        ([driver.ExecutionTimeout("x", 50)], OutOfTime),
    ],
)
def test_an_interrupted_read_is_repeated_once(service: Service, failures: list[Exception], outcome: Any) -> None:
    """A wait for a server, a refusal and the deadline are not repeated."""
    calls = []

    def command() -> int:
        calls.append(1)
        if len(calls) <= len(failures):
            raise failures[len(calls) - 1]
        return len(calls)

    def read() -> int:
        return retry_read(service.store.database, Deadline.after(5), command)

    if isinstance(outcome, int):
        assert read() == outcome
    else:
        with pytest.raises(outcome):
            read()
        assert len(calls) == len(failures)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (driver.OperationFailure("Regular expression is invalid", 51091), InvalidFilter),
        (driver.OperationFailure("cannot convert", 241), ExpressionFailed),
        (driver.OperationFailure("no more details", 8), ExpressionFailed),
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
        raise_unless_duplicate(bulk_write_error(11000, 121))
    text = "".join(traceback.format_exception(caught.value))
    assert "121" in text
    assert "ann@example.com" not in text
    with pytest.raises(StoreUnavailable) as unavailable, map_driver_errors():
        try:
            raise bulk_write_error(11000, 14031)
        except driver.BulkWriteError as error:
            raise_unless_duplicate(error)
    assert unavailable.value.__cause__ is None


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


@pytest.mark.slow
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
