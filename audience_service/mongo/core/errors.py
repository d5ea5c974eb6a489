"""What the driver raises, as the domain's errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError, InvalidFilter, OutOfTime, StoreUnavailable

# Codes of the server's error table (mongo/base/error_codes.yml).
_UNREACHABLE_CODES = frozenset((6, 7, 89, 91, 189, 11600, 11602, 13435, 13436))
_CONFLICT_CODES = frozenset((24, 112))
_TIMEOUT_CODES = frozenset((50, 202, 262))
_DUPLICATE_KEY = 11000
_INVALID_PATTERN_CODES = frozenset((2, 8, 51091, 51108, 51156))
# maxTimeMS is whole milliseconds, in which nothing at all means no limit, and fits 31 bits; some clients send a
# deadline in thousands of years for none.
_MIN_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS = 0.005, 2**31 / 1000 - 1


@contextmanager
def with_deadline(database: Database[dict[str, Any]], deadline: Deadline) -> Iterator[None]:
    """Hold the driver's calls inside to a deadline, and turn what they raise into the domain's errors.

    The driver bounds its waits on the network by it and sends the rest along as maxTimeMS, so that a query that
    outlives its caller stops, and a connection that swallows answers costs no thread for longer. Not for use across a
    generator's yield: the limit is a context variable. Raises OutOfTime before anything is sent where no time is left.
    """
    remaining = deadline.remaining()
    if remaining is not None and remaining < _MIN_TIMEOUT_SECONDS:
        raise OutOfTime("the deadline has all but passed")
    with map_driver_errors():
        _require_server(database)
    with map_driver_errors(), pymongo.timeout(None if remaining is None else min(remaining, _MAX_TIMEOUT_SECONDS)):
        yield


def _require_server(database: Database[dict[str, Any]]) -> None:
    """Wait for a server as long as the URI says, since the driver would wait for one as long as the deadline lasts.

    For one that the database is read from, which is the primary for some repositories, whatever the URI says of reads.
    """
    client = database.client
    if not isinstance(client, MongoClient):
        return  # the embedded store is always there
    if not client.topology_description.has_readable_server(database.read_preference):
        _ = client.is_primary


def raise_unless_duplicate(error: BulkWriteError) -> None:
    """Raise what kept a bulk write from inserting, if it was anything else than that all of it is there already.

    Without the documents that the driver's error holds: they may be people's data, and logs are not to have it.
    """
    codes = _codes(error)
    if codes != {_DUPLICATE_KEY}:
        raise BulkWriteFailed(f"a bulk write failed with the codes {sorted(codes)}") from None


class BulkWriteFailed(Exception):
    """A bulk write was refused by the database, for a reason that is no caller's doing."""


@contextmanager
def map_driver_errors() -> Iterator[None]:
    """Turn driver errors into StoreUnavailable, OutOfTime or InvalidFilter; let what is a defect through."""
    try:
        yield
    except PyMongoError as error:
        mapped = _to_domain_error(error)
        if mapped is None:
            raise
        raise mapped from error


def _to_domain_error(error: PyMongoError) -> AudienceError | None:
    codes = _codes(error)
    if (error.timeout and not isinstance(error, ServerSelectionTimeoutError)) or codes & _TIMEOUT_CODES:
        return OutOfTime("the database did not answer before the deadline")
    if isinstance(error, ConnectionFailure) or codes & _UNREACHABLE_CODES:
        return StoreUnavailable("the database cannot be reached")
    if codes & _CONFLICT_CODES:
        return StoreUnavailable("the database could not write beside other writes of the same record; try again")
    if isinstance(error, CursorNotFound):
        return StoreUnavailable("the database ended the query; resume the stream from the last cursor received")
    if codes & _INVALID_PATTERN_CODES and "regular expression" in str(error).lower():
        return InvalidFilter.at("filter.where", "holds a regular expression that the database refuses")
    return None


def _codes(error: PyMongoError) -> frozenset[int]:
    """The server's codes of an error; of a bulk write, those of all that it could not do."""
    if isinstance(error, BulkWriteError):
        failures = [*error.details.get("writeErrors", []), *error.details.get("writeConcernErrors", [])]
        return frozenset(failure["code"] for failure in failures)
    return frozenset((error.code,)) if isinstance(error, OperationFailure) and error.code is not None else frozenset()
