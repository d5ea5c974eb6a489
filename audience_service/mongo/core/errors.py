"""Time limits of database commands, and the domain's errors for what the driver raises.

`with_deadline` is the one context manager around a command. It does three things, in this order:

1. It waits for a server, for as long as the URI allows.
2. It limits the commands inside to the rest of the deadline.
3. It replaces the driver's errors by the domain's. With a population, errors of its filter name the filter's path.

`server_errors.py` has the server's codes. An error that means nothing to a caller is a defect, and passes unchanged.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import pymongo
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidOperation,
    OperationFailure,
    ProtocolError,
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
    StoreRefused,
    StoreUnavailable,
)
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.server_errors import (
    CATEGORIES,
    CONFLICT_CODES,
    CURSOR_CODES,
    EXHAUSTED_CODES,
    MEMORY_CODES,
    REFUSAL_CODES,
    RETRYABLE_LABELS,
    TIMEOUT_CODES,
    UNAVAILABLE_CODES,
    UNCONFIRMED_CODES,
)

Result = TypeVar("Result")

_DUPLICATE_KEY = 11000
_MAX_OUTAGE_LENGTH = 300
_INVALID_PATTERN_CODES = frozenset((2, 8, 51091, 51108, 51156))
_BAD_VALUE = 2
# InternalError and UnknownError: also what an expression may fail with.
_UNSPECIFIC_CODES = frozenset((1, 8))
# The texts of name resolution on Linux, macOS and Windows. The driver keeps no other sign of its failure.
_UNKNOWN_NAME_TEXTS = ("Name or service not known", "nodename nor servname", "name resolution", "getaddrinfo failed")
_UNREACHABLE_CODES = CATEGORIES["NetworkError"] | CATEGORIES["NotPrimaryError"] | CATEGORIES["ShutdownError"] | {10058}
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


def retry_read(
    database: Database[dict[str, Any]],
    deadline: Deadline,
    command: Callable[[], Result],
    population: Population | None = None,
) -> Result:
    """Return what a command reads. If the database interrupts it, it runs once more, within the same deadline.

    So a read survives a step-down of the primary and a lost connection. The driver's own retries of reads are off:
    within a deadline, the driver would repeat a failed read until the deadline (`client.py`). Writes have the driver's
    retries, which the server recognises.

    Raises what `with_deadline` raises.
    """
    try:
        with with_deadline(database, deadline, population):
            return command()
    except StoreUnavailable as error:
        # The driver has already waited for a server; an operator's mistake does not pass by itself.
        if isinstance(error, StoreRefused) or isinstance(error.__cause__, ServerSelectionTimeoutError):
            raise
        with with_deadline(database, deadline, population):
            return command()


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
    """Raise the error of a bulk write unless every failure of it is a duplicate key.

    The driver's error contains the documents, which may be personal data and must not reach logs. So no error that
    this raises contains it. Raises what `map_driver_errors` raises, and BulkWriteFailed for a defect.
    """
    codes = _codes(error)
    if codes == {_DUPLICATE_KEY}:
        return
    mapped = _store_error(error)
    raise (mapped or BulkWriteFailed(f"a bulk write failed with the codes {sorted(codes)}")) from None


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
    if (
        isinstance(error, OperationFailure)
        and isinstance(population, CompiledFilter)
        and "'$geometry'" in repr(population.node)
        and _BAD_VALUE in _codes(error)
        and "loop" in str(error).lower()  # a ring, in the database's messages
    ):
        return InvalidFilter.at(
            population.field_path,
            "has a $geometry that the database refuses; let no edges cross, and put each hole inside its ring",
        )
    if (
        isinstance(error, OperationFailure)
        and isinstance(population, CompiledFilter)
        and population.has_expressions
        and (mapped is None or _codes(error) & (MEMORY_CODES | _UNSPECIFIC_CODES))
    ):
        return _expression_error(error, population)
    return mapped


def _store_error(error: PyMongoError) -> AudienceError | None:
    """Return the error of the database's state, or None if the error is a defect."""
    codes = _codes(error)
    if codes & UNCONFIRMED_CODES:
        return StoreUnavailable(
            f"the database has not confirmed that a majority has the write{_name_of(error)}; it may have been done, so "
            "read the record before you repeat the call"
        )
    if (error.timeout and not isinstance(error, ServerSelectionTimeoutError)) or codes & TIMEOUT_CODES:
        return OutOfTime("the database did not answer before the deadline")
    if codes & _INVALID_PATTERN_CODES and "regular expression" in str(error).lower():
        return InvalidFilter.at("filter.where", "contains a regular expression that the database refuses")
    if codes & REFUSAL_CODES or isinstance(error, ConfigurationError):
        return StoreRefused(f"the database refuses the service{_name_of(error)}; an operator has to correct this")
    if isinstance(error, ConnectionFailure) and any(text in str(error) for text in _UNKNOWN_NAME_TEXTS):
        return StoreRefused("the name service does not know the database's host; an operator has to correct this")
    if isinstance(error, ConnectionFailure | ProtocolError) or codes & _UNREACHABLE_CODES:
        return StoreUnavailable("the database cannot be reached")
    if isinstance(error, InvalidOperation) and "after close" in str(error):
        return StoreUnavailable("the service is stopping")
    if codes & CONFLICT_CODES:
        return StoreUnavailable("the write conflicted with concurrent writes of the same record; try again")
    if codes & CURSOR_CODES:
        return StoreUnavailable("the database ended the query; resume the stream from the last cursor received")
    if codes & EXHAUSTED_CODES:
        return StoreUnavailable(f"the database is short of memory, disk space or capacity{_name_of(error)}")
    if codes & UNAVAILABLE_CODES or any(error.has_error_label(label) for label in RETRYABLE_LABELS):
        return StoreUnavailable(f"the database interrupted the command{_name_of(error)}; try again")
    return None


def _expression_error(error: OperationFailure, population: CompiledFilter) -> AudienceError:
    """Return the error of an expression in the population's filter."""
    # The server's message may contain the value, which may be personal.
    if error.code in MEMORY_CODES:
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
    code = error.code if isinstance(error, OperationFailure) else None
    return frozenset(() if code is None else (code,))


def _name_of(error: PyMongoError) -> str:
    """Return the name that the server gives the error, in brackets, or its code; empty if it has neither."""
    details = error.details if isinstance(error, OperationFailure) else None
    name = (details or {}).get("codeName") or next((f"code {code}" for code in sorted(_codes(error))), "")
    return f" ({name})" if name else ""
