"""Maps domain errors to gRPC statuses, in unary calls and in the middle of streams."""

import random
import uuid
from typing import NoReturn

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from audience_service.domain.core import errors
from audience_service.domain.custom_audiences import errors as custom
from audience_service.domain.history import errors as history_errors
from audience_service.domain.watch import errors as watch_errors
from audience_service.rpc.call_observer import current_request_id

DOMAIN = "audience.crm.appengine.internal"
"""The domain in ErrorInfo. It is unique among services, so that a reason means one thing everywhere (AIP-193)."""

CODES: dict[type[errors.AudienceError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenKeysOutdated: grpc.StatusCode.UNAVAILABLE,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.StaleVersion: grpc.StatusCode.ABORTED,
    errors.NotStatic: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AudienceInUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnusableAudience: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ErasureNotConfigured: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SnapshotNotReady: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PlatformNotImported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.MissingIndex: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnknownSealingKey: grpc.StatusCode.OUT_OF_RANGE,
    watch_errors.WatchTokenExpired: grpc.StatusCode.OUT_OF_RANGE,
    history_errors.AudienceNotWatched: grpc.StatusCode.FAILED_PRECONDITION,
    history_errors.TimeOutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    watch_errors.TooManyWatches: grpc.StatusCode.RESOURCE_EXHAUSTED,
    watch_errors.ServerStopping: grpc.StatusCode.UNAVAILABLE,
    errors.TooManyStreams: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyCalls: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RequestTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ClientTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.TooManySnapshots: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.UnsupportedByStore: grpc.StatusCode.UNIMPLEMENTED,
    custom.NotRefreshable: grpc.StatusCode.FAILED_PRECONDITION,
    custom.NotUploadable: grpc.StatusCode.FAILED_PRECONDITION,
    custom.TooManyLookalikes: grpc.StatusCode.RESOURCE_EXHAUSTED,
    custom.TooManyRefreshes: grpc.StatusCode.RESOURCE_EXHAUSTED,
    custom.NotALookalike: grpc.StatusCode.FAILED_PRECONDITION,
    custom.SeedTooSmall: grpc.StatusCode.FAILED_PRECONDITION,
    custom.UploadTakenOver: grpc.StatusCode.ABORTED,
    custom.OffsetMismatch: grpc.StatusCode.OUT_OF_RANGE,
    custom.UploadIncomplete: grpc.StatusCode.OUT_OF_RANGE,
    custom.ChecksumMismatch: grpc.StatusCode.ABORTED,
}
"""The status code of each error class. An error takes the code of its nearest ancestor in this table."""

# Clients accept 8 KiB of trailers by default. They contain the message twice: as text, and as base64 in the details.
_MAX_MESSAGE_LENGTH, _MAX_FIELD_PATH_LENGTH, _MAX_VIOLATIONS = 250, 400, 20

_MAX_DELAY_FACTOR = 2.0
"""Delays before a retry are spread between one and this many times their length.

Else callers that were refused together would come back together: 300 of them kept a process busy for 0.1 s.
"""
_RANDOM = random.Random()  # noqa: S311 - spreads delays

_log = structlog.get_logger()


def code_of(error: errors.AudienceError) -> grpc.StatusCode:
    """The status code of an error."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End the RPC with the status of an error.

    An error that is not an AudienceError is a defect: it is logged and becomes INTERNAL.
    """
    if isinstance(error, errors.AudienceError):
        status = _build_status(code_of(error), str(error), _build_details(error), current_request_id())
    else:
        incident = uuid.uuid4().hex[:8]
        _log.error("internal error", incident=incident, exc_info=error)
        info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"incident": incident})
        status = _build_status(
            grpc.StatusCode.INTERNAL, f"internal error; the log has incident {incident}", [info], current_request_id()
        )
    context.set_trailing_metadata(status.trailing_metadata)
    context.abort(status.code, status.details)
    raise AssertionError("abort raises")


def set_status(context: grpc.ServicerContext, error: errors.AudienceError, request_id: str) -> None:
    """Set the status that the RPC will end with. Threads other than the call's own pass its request id."""
    status = _build_status(code_of(error), str(error), _build_details(error), request_id)
    context.set_trailing_metadata(status.trailing_metadata)
    context.set_code(status.code)
    context.set_details(status.details)


def _build_details(error: errors.AudienceError) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_truncate(v.field, _MAX_FIELD_PATH_LENGTH),
                description=_truncate(v.description, _MAX_MESSAGE_LENGTH),
            )
            for v in error.violations[:_MAX_VIOLATIONS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after_seconds * _RANDOM.uniform(1, _MAX_DELAY_FACTOR) * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _build_status(code: grpc.StatusCode, message: str, details: list[Message], request_id: str) -> grpc.Status:
    status = status_pb2.Status(code=code.value[0], message=_truncate(message, _MAX_MESSAGE_LENGTH))
    if request_id:
        details = [*details, error_details_pb2.RequestInfo(request_id=request_id)]
    for detail in details:
        status.details.add().Pack(detail)
    return rpc_status.to_status(status)


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
