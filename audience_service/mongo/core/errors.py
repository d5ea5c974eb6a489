"""Time limits of database commands, and the domain's errors for what the driver raises.

`with_deadline` is the one context manager around a command. It does three things, in this order:

1. It waits for a server, for as long as the URI allows.
2. It limits the commands inside to the rest of the deadline.
3. It replaces the driver's errors by the domain's. With a population, errors of its filter name the filter's path.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

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
from audience_service.domain.core.errors import (
    AudienceError,
    ExpressionFailed,
    FilterTooLarge,
    InvalidFilter,
    OutOfTime,
    StoreUnavailable,
)
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population

# Codes of the server's error table (mongo/base/error_codes.yml).
_UNREACHABLE_CODES = frozenset((6, 7, 89, 91, 189, 11600, 11602, 13435, 13436))
_CONFLICT_CODES = frozenset((24, 112))
_TIMEOUT_CODES = frozenset((50, 202, 262))
_DUPLICATE_KEY = 11000
_MAX_OUTAGE_LENGTH = 300
_INVALID_PATTERN_CODES = frozenset((2, 8, 51091, 51108, 51156))
_OUT_OF_MEMORY_CODES = frozenset((146, 292, 17261))
# maxTimeMS counts whole milliseconds in 31 bits, and 0 means no limit. Some clients that set no deadline send one in
# thousands of years.
_MIN_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS = 0.005, 2**31 / 1000 - 1


@contextmanager
def with_deadline(
    database: Database[dict[str, Any]], deadline: Deadline, population: Population | None = None
) -> Iterator[None]:
    """Limit the commands inside to a deadline, and raise the domain's errors for the driver's.

    The driver limits its network waits, and sends the remaining time as maxTimeMS. The server stops the query at the
    deadline, and a connection that swallows answers does not block a thread beyond it. The limit is a context
    variable, so the body must not contain a generator's yield.

    Raises OutOfTime before it sends a command if no time remains. Raises what `map_driver_errors` raises.
    """
    remaining = deadline.remaining()
    if remaining is not None and remaining < _MIN_TIMEOUT_SECONDS:
        raise OutOfTime("the deadline is less than 5 ms away")
    seconds = None if remaining is None else min(remaining, _MAX_TIMEOUT_SECONDS)
    try:
        _require_server(database)
        with pymongo.timeout(seconds):
            yield
    except (PyMongoError, InvalidFilter) as error:
        _raise_domain_error(error, population)


@contextmanager
def map_driver_errors(population: Population | None = None) -> Iterator[None]:
    """Raise the domain's errors for the driver's; a defect passes unchanged.

    Raises StoreUnavailable, OutOfTime and InvalidFilter. With a population, InvalidFilter names the path of its
    filter, and an expression of the filter that fails on a record raises ExpressionFailed or FilterTooLarge.
    """
    try:
        yield
    except (PyMongoError, InvalidFilter) as error:
        _raise_domain_error(error, population)


def raise_unless_duplicate(error: BulkWriteError) -> None:
    """Raise BulkWriteFailed unless every failure of a bulk write is a duplicate key.

    The error omits the documents in the driver's error: they may be personal data, which must not reach logs.
    """
    codes = _codes(error)
    if codes != {_DUPLICATE_KEY}:
        raise BulkWriteFailed(f"a bulk write failed with the codes {sorted(codes)}") from None


class BulkWriteFailed(Exception):
    """The database refused a bulk write, for a reason that no caller causes."""


def describe_outage(error: BaseException) -> str:
    """Return why the database cannot be used, in one line: the driver's message without its list of servers."""
    text = " ".join(str(error).split())
    if isinstance(error, OperationFailure):
        text = f"the database refuses the command with code {error.code}: {text.partition(', full error')[0]}"
    return f"{type(error).__name__}: {text.partition(', Timeout:')[0][:_MAX_OUTAGE_LENGTH]}"


def _require_server(database: Database[dict[str, Any]]) -> None:
    """Wait for a server as long as the URI allows: within a deadline, the driver would wait until the deadline.

    It waits for a server that the database's read preference accepts. For some repositories that is the primary,
    whatever the URI says.
    """
    client = database.client
    if not isinstance(client, MongoClient):
        return  # the embedded store is always available
    if not client.topology_description.has_readable_server(database.read_preference):
        _ = client.is_primary


def _raise_domain_error(error: PyMongoError | InvalidFilter, population: Population | None) -> NoReturn:
    mapped = _to_domain_error(error, population)
    if mapped is None:
        raise error
    raise mapped from error


def _to_domain_error(error: PyMongoError | InvalidFilter, population: Population | None) -> AudienceError | None:
    mapped = error if isinstance(error, InvalidFilter) else _store_error(error)
    if population is None:
        return None if mapped is error else mapped
    if isinstance(mapped, InvalidFilter):
        return InvalidFilter.at(population.field_path, mapped.violations[0].description)
    if mapped is None and isinstance(error, OperationFailure):
        return _expression_error(error, population)
    return mapped


def _store_error(error: PyMongoError) -> AudienceError | None:
    codes = _codes(error)
    if (error.timeout and not isinstance(error, ServerSelectionTimeoutError)) or codes & _TIMEOUT_CODES:
        return OutOfTime("the database did not answer before the deadline")
    if isinstance(error, ConnectionFailure) or codes & _UNREACHABLE_CODES:
        return StoreUnavailable("the database cannot be reached")
    if codes & _CONFLICT_CODES:
        return StoreUnavailable("the write conflicted with concurrent writes of the same record; try again")
    if isinstance(error, CursorNotFound):
        return StoreUnavailable("the database ended the query; resume the stream from the last cursor received")
    if codes & _INVALID_PATTERN_CODES and "regular expression" in str(error).lower():
        return InvalidFilter.at("filter.where", "contains a regular expression that the database refuses")
    return None


def _expression_error(error: OperationFailure, population: Population) -> AudienceError | None:
    """Return the error of an expression in the population's filter, or None if the filter has no expressions."""
    if not (isinstance(population, CompiledFilter) and population.has_expressions):
        return None
    # The server's message may contain the value, which may be personal.
    if error.code in _OUT_OF_MEMORY_CODES:
        return FilterTooLarge.at(
            population.field_path, "contains an expression that needs more memory than the database allows"
        )
    kind = (error.details or {}).get("codeName") or error.code
    return ExpressionFailed.at(
        population.field_path, f"an expression in it fails on a record ({kind}); guard it by $ifNull, $type or $convert"
    )


def _codes(error: PyMongoError) -> frozenset[int]:
    """Return the server's codes of an error: for a bulk write, those of all its failures."""
    if isinstance(error, BulkWriteError):
        failures = [*error.details.get("writeErrors", []), *error.details.get("writeConcernErrors", [])]
        return frozenset(failure["code"] for failure in failures)
    return frozenset((error.code,)) if isinstance(error, OperationFailure) and error.code is not None else frozenset()
