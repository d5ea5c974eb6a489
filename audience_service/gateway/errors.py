"""Errors as HTTP: a status, and the body `{code, message, details}` of google.rpc.Status as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "audience.crm.appengine.internal"
"""The domain in ErrorInfo, the service's own."""

MAX_VIOLATIONS = 20
"""The most invalid fields that an error names."""
_CLIENT_CLOSED_REQUEST = 499
_HTTP_STATUSES: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: _CLIENT_CLOSED_REQUEST,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The HTTP status of each code (google/rpc/code.proto); 500 for the others."""
_HTTP_STATUSES_BY_REASON: dict[str, int] = {"REQUEST_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
"""Reasons that HTTP clients must not take for the status of their code: they send again after a 429."""
_DEFAULT_RETRY_SECONDS = 1

Violations = Sequence[tuple[str, str]]
"""The path and the problem of each invalid field."""


class GatewayError(Exception):
    """An error response."""

    def __init__(self, http_status: int, status: status_pb2.Status, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.message)
        self.http_status = http_status
        self.status = status
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        """The JSON object of the response."""
        return status_as_dict(self.status)

    @classmethod
    def of(
        cls,
        http_status: int,
        code: grpc.StatusCode,
        message: str,
        *details: Message,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """An error of the gateway itself."""
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            status.details.add().Pack(detail)
        return cls(http_status, status, headers)

    @classmethod
    def no_such_path(cls, raw_path: bytes) -> Self:
        """404 for a path that no RPC has."""
        message = f"no such path: {raw_path.decode('ascii', 'replace')[:200]}"
        return cls.of(HTTPStatus.NOT_FOUND, grpc.StatusCode.NOT_FOUND, message)

    @classmethod
    def method_not_allowed(cls, verb: str, raw_path: bytes, allowed: Iterable[str]) -> Self:
        """405 for a path that has other methods."""
        allow = ", ".join(allowed)
        message = f"{verb[:20]} is not a method of {raw_path.decode('ascii', 'replace')[:200]}; use one of {allow}"
        return cls.of(HTTPStatus.METHOD_NOT_ALLOWED, grpc.StatusCode.UNIMPLEMENTED, message, headers={"allow": allow})

    @classmethod
    def invalid(cls, violations: Violations) -> Self:
        """400 for fields of the request, as the service reports them: each once, with its first problem."""
        problems = {_encodable(field): _encodable(problem) for field, problem in reversed(violations)}
        shown = list(reversed(problems.items()))[:MAX_VIOLATIONS]
        message = "invalid request: " + "; ".join(f"{field}: {problem}" for field, problem in shown[:3])
        message += "; and more" if len(problems) > 3 else ""
        return cls.of(
            HTTPStatus.BAD_REQUEST,
            grpc.StatusCode.INVALID_ARGUMENT,
            message,
            error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain=DOMAIN),
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
                    for field, problem in shown
                ]
            ),
        )

    @classmethod
    def invalid_field(cls, field: str, problem: str) -> Self:
        """400 for one field."""
        return cls.invalid([(field, problem)])

    @classmethod
    def malformed(cls, message: str) -> Self:
        """400 for a request that cannot be read."""
        info = error_details_pb2.ErrorInfo(reason="MALFORMED_REQUEST", domain=DOMAIN)
        return cls.of(HTTPStatus.BAD_REQUEST, grpc.StatusCode.INVALID_ARGUMENT, message, info)

    @classmethod
    def too_large(cls, max_bytes: int) -> Self:
        """413 for a body above the limit."""
        info = error_details_pb2.ErrorInfo(reason="REQUEST_TOO_LARGE", domain=DOMAIN)
        message = f"the body is larger than {max_bytes} bytes; send less"
        return cls.of(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, message, info)

    @classmethod
    def too_slow(cls) -> Self:
        """408 for a client that does not send its request in time."""
        info = error_details_pb2.ErrorInfo(reason="CLIENT_TIMEOUT", domain=DOMAIN)
        return cls.of(
            HTTPStatus.REQUEST_TIMEOUT,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "the request was not received in time; send it faster",
            info,
            headers={"connection": "close"},
        )

    @classmethod
    def no_response(cls) -> Self:
        """504 for a service that does not respond."""
        message = "the audience service did not answer in time"
        return cls.of(HTTPStatus.GATEWAY_TIMEOUT, grpc.StatusCode.DEADLINE_EXCEEDED, message)

    @classmethod
    def internal(cls) -> Self:
        """500 for a defect of the gateway, which its log describes."""
        message = "internal error of the gateway; its log has it"
        return cls.of(HTTPStatus.INTERNAL_SERVER_ERROR, grpc.StatusCode.INTERNAL, message)

    @classmethod
    def from_rpc(cls, error: Any) -> Self:
        """The error of an RPC, with the service's details. It is an error of grpc or of grpc.aio."""
        code = error.code()
        encoded = next((v for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin"), None)
        if not isinstance(encoded, bytes):
            return cls._without_details(code, error.details() or "")
        status = status_pb2.Status.FromString(encoded)
        http_status = http_status_of(code, _reason_of(status))
        return cls(http_status, status, _headers_of(code, http_status, status))

    @classmethod
    def _without_details(cls, code: grpc.StatusCode, message: str) -> Self:
        """The error of a channel or of grpc itself, whose text can name addresses of the network inside."""
        if code is grpc.StatusCode.UNAVAILABLE:
            message = "the audience service cannot be reached"
        http_status = http_status_of(code)
        status = status_pb2.Status(code=code.value[0], message=message)
        return cls(http_status, status, _headers_of(code, http_status, status))


def status_as_dict(status: status_pb2.Status) -> dict[str, object]:
    """The JSON object of a status. Every detail of the service has its fields in it."""
    return MessageToDict(status, always_print_fields_with_no_presence=True)


def http_status_of(code: grpc.StatusCode, reason: str = "") -> int:
    """The HTTP status of an error with this code and reason."""
    if reason in _HTTP_STATUSES_BY_REASON:
        return _HTTP_STATUSES_BY_REASON[reason]
    return int(_HTTP_STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR))


def _reason_of(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")


def _headers_of(code: grpc.StatusCode, http_status: int, status: status_pb2.Status) -> dict[str, str]:
    """`Retry-After` in whole seconds, rounded up, for an error after which the same request can succeed."""
    if http_status == HTTPStatus.UNAUTHORIZED:
        return {"www-authenticate": "Bearer"}
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            return {"retry-after": str(max(1, -(-retry.retry_delay.ToMilliseconds() // 1000)))}
    return {"retry-after": str(_DEFAULT_RETRY_SECONDS)} if code is grpc.StatusCode.UNAVAILABLE else {}


def _encodable(text: str) -> str:
    """The text with each unpaired surrogate, which no message can have, replaced."""
    return text.encode("utf-8", "replace").decode()
