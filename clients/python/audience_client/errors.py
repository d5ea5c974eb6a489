"""Errors of the service as exceptions: a class for each reason, below a class for each kind of status.

    AudienceError
    ├── InvalidRequest          InvalidField, InvalidFilter, ...
    ├── NotFound                AudienceNotFound, SnapshotNotFound, ...
    └── ...

`audience_client.reasons` has the classes of the reasons. It is generated from the service's table of errors.
"""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """An invalid field of a request: its path, such as `filter.where.age`, and what is wrong with it."""

    field: str
    description: str


class AudienceError(Exception):
    """An error status of a call.

    `reason` is the reason in the service's ErrorInfo, empty if the error is not the service's own. `metadata` has the
    details of the reason. `field_violations` names the invalid fields of the request. `retry_delay` is the time in
    seconds after which the call may succeed, None if repeating it does not help.
    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        metadata: dict[str, str] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = metadata or {}
        self.field_violations = field_violations
        self.retry_delay = retry_delay

    def __str__(self) -> str:
        lines = [f"{self.reason or self.code.name}: {self.message}"]
        if len(self.field_violations) > 1:  # the message names one field already
            lines += [f"  {violation.field}: {violation.description}" for violation in self.field_violations]
        return "\n".join(lines)


class InvalidRequest(AudienceError):
    """The request is malformed (INVALID_ARGUMENT). `field_violations` names the fields."""


class Unauthenticated(AudienceError):
    """The token is missing or not accepted (UNAUTHENTICATED)."""


class PermissionDenied(AudienceError):
    """The token does not permit the call (PERMISSION_DENIED)."""


class NotFound(AudienceError):
    """What the request names does not exist in the org (NOT_FOUND)."""


class AlreadyExists(AudienceError):
    """What the request creates exists already (ALREADY_EXISTS)."""


class Conflict(AudienceError):
    """Another call has changed the same thing (ABORTED)."""


class FailedPrecondition(AudienceError):
    """The call is not possible in the current state (FAILED_PRECONDITION)."""


class ResourceExhausted(AudienceError):
    """A limit is reached (RESOURCE_EXHAUSTED)."""


class Unavailable(AudienceError):
    """The service or its database is unavailable (UNAVAILABLE)."""


class DeadlineExceeded(AudienceError):
    """The response did not arrive in time (DEADLINE_EXCEEDED)."""


class OutOfRange(AudienceError):
    """A position or time is outside of the known range (OUT_OF_RANGE)."""


class Unsupported(AudienceError):
    """The server does not support the call (UNIMPLEMENTED)."""


class InternalError(AudienceError):
    """The service has a defect (INTERNAL). The metadata has the incident in its log."""


class SnapshotFailed(AudienceError):
    """The service could not create a snapshot, after several attempts. The message has the cause."""


BY_CODE: dict[grpc.StatusCode, type[AudienceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.INTERNAL: InternalError,
}
"""The class of errors with a status code and without a known reason."""


def from_rpc_error(rpc_error: Any, address: str = "") -> AudienceError:
    """The exception for a grpc.RpcError, of the class of its reason if it has one.

    A newer server's reason without a class here gives the class of its status code.
    """
    from audience_client.reasons import BY_REASON  # its classes derive from those above

    code = rpc_error.code()
    found = _details(rpc_error)
    info = found.get(error_details_pb2.ErrorInfo, error_details_pb2.ErrorInfo())
    request = found.get(error_details_pb2.BadRequest, error_details_pb2.BadRequest())
    retry = found.get(error_details_pb2.RetryInfo)
    message = rpc_error.details() or ""
    if not info.reason and address:
        message = f"{message}; called {address}"
    kind = BY_REASON.get(info.reason) or BY_CODE.get(code, AudienceError)
    return kind(
        message,
        code=code,
        reason=info.reason,
        metadata=dict(info.metadata),
        field_violations=tuple(FieldViolation(v.field, v.description) for v in request.field_violations),
        retry_delay=None if retry is None else retry.retry_delay.ToTimedelta().total_seconds(),
    )


def _details(rpc_error: Any) -> dict[type[Message], Any]:
    """The error details, by their type."""
    found: dict[type[Message], Any] = {}
    for key, value in rpc_error.trailing_metadata() or ():
        if key != _DETAILS_KEY:
            continue
        for packed in status_pb2.Status.FromString(value).details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
                detail = kind()
                if packed.Unpack(detail):
                    found[kind] = detail
    return found
