"""What the driver raises, as the domain's errors."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import ConnectionFailure, CursorNotFound, ExecutionTimeout, OperationFailure, PyMongoError

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import AudienceError, InvalidFilter, OutOfTime, StoreUnavailable

# Codes of the server's error table (mongo/base/error_codes.yml).
_UNREACHABLE = frozenset((6, 7, 89, 91, 189, 11600, 11602, 13435, 13436))
_OUT_OF_TIME = frozenset((50, 202, 262))
_MAX_TIME_MS = 2**31 - 1

_INVALID_PATTERN = frozenset((51091, 51108))


@contextmanager
def translated() -> Iterator[None]:
    """Turn driver errors into StoreUnavailable, OutOfTime or InvalidFilter; let what is a defect through."""
    try:
        yield
    except PyMongoError as error:
        known = _known(error)
        if known is None:
            raise
        raise known from error


def _known(error: PyMongoError) -> AudienceError | None:
    code = error.code if isinstance(error, OperationFailure) else None
    if isinstance(error, ExecutionTimeout) or code in _OUT_OF_TIME:
        return OutOfTime("the database did not answer before the deadline")
    if isinstance(error, ConnectionFailure) or code in _UNREACHABLE:
        return StoreUnavailable("the database cannot be reached")
    if isinstance(error, CursorNotFound):
        return StoreUnavailable("the database closed the cursor; resume the stream from its last cursor")
    if code in _INVALID_PATTERN:
        return InvalidFilter.at("filter.where", "holds a regular expression that the database refuses")
    return None


def time_limit(deadline: Deadline) -> dict[str, Any]:
    """The deadline as the option `maxTimeMS` of a command, empty for none. Raises OutOfTime.

    Rounded up: 0 would mean no limit at all. Some clients send a deadline in thousands of years for none.
    """
    left = deadline.remaining()
    return {} if left is None else {"maxTimeMS": min(math.ceil(left * 1000), _MAX_TIME_MS)}
