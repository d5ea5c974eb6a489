"""Wraps every servicer: verifies the caller, decodes the request, and maps errors to statuses.

1. The verification runs in the handler, in the thread pool. grpcio looks up handlers in its only serving thread, which
   the check of a signature would block.
2. Requests arrive as bytes and are decoded here. grpcio itself answers INTERNAL to bytes that it cannot parse.
"""

from __future__ import annotations  # grpc's handler types are generic to the type checker only

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import grpc
import structlog
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from audience_service.domain.core.context import Deadline, RequestContext, Scope
from audience_service.domain.core.errors import AudienceError, InvalidArgument, MalformedRequest, OutOfTime
from audience_service.pb.audience.v1 import options_pb2
from audience_service.rpc.audit import AuditLog
from audience_service.rpc.auth import Authenticator
from audience_service.rpc.context import set_context
from audience_service.rpc.errors import abort, code_of
from audience_service.rpc.stream_limits import StreamLimiter, StreamSlot

_MAX_DEADLINE_SECONDS = 365 * 86_400.0
"""grpcio reports a deadline centuries ahead for a call without a deadline."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC, as declared in the protos."""

    path: str
    scope: Scope
    request: type[Message]
    required_ids: tuple[tuple[str, ...], ...]
    """The field paths of the ids that a request must set."""

    @classmethod
    def of(cls, descriptor: MethodDescriptor) -> Method:
        """The method of a descriptor.

        Raises ValueError if its required scope is missing or unknown, or if both sides stream.
        """
        options = descriptor.GetOptions().Extensions
        path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        if descriptor.client_streaming and descriptor.server_streaming:
            raise ValueError(f"{path} streams both ways, which no RPC of this service does; let one side stream")
        return cls(
            path=path,
            scope=Scope(options[options_pb2.required_scope]),
            request=GetMessageClass(descriptor.input_type),
            required_ids=tuple(_required_ids(descriptor.input_type)),
        )

    def decode(self, raw: bytes) -> Message:
        """The request in the bytes. Raises MalformedRequest, or InvalidArgument if a required id is missing."""
        try:
            request = self.request.FromString(raw)
        except DecodeError:
            name = self.request.DESCRIPTOR.full_name
            raise MalformedRequest(f"the bytes are not a {name}", metadata={"message": name}) from None
        for path in self.required_ids:
            if not reduce(getattr, path, request):
                raise InvalidArgument.at(".".join(path), "is missing; set it to an id")
        return request


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The deadlines, in seconds, of calls without one of their own."""

    unary_seconds: float
    stream_seconds: float


class CallInterceptor(grpc.ServerInterceptor):
    """Wraps the handlers of the given services.

    Other services (health, reflection) need no token. A stream of reflection occupies a thread until its client ends
    it, so a limiter of their own caps these streams. Other calls of these services pass unchanged.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        services: Iterable[ServiceDescriptor],
        stream_limiter: StreamLimiter,
        open_stream_limiter: StreamLimiter,
        timeouts: Timeouts,
        audit_log: AuditLog,
    ) -> None:
        methods = (Method.of(method) for service in services for method in service.methods)
        self._methods = {method.path: method for method in methods}
        self._authenticator = authenticator
        self._stream_limiter = stream_limiter
        self._open_stream_limiter = open_stream_limiter
        self._timeouts = timeouts
        self._audit_log = audit_log
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap each handler once."""
        path = handler_call_details.method
        if path in self._wrapped:
            return self._wrapped[path]
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        if path in self._methods:
            self._wrapped[path] = self.wrap(self._methods[path], handler)
        else:
            self._wrapped[path] = self._limit_open_stream(path, handler)
        return self._wrapped[path]

    def wrap(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler, wrapped in authentication, decoding and the mapping of errors."""
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._server_stream(method, handler.unary_stream), response_serializer=handler.response_serializer
            )
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(
                self._client_stream(method, handler.stream_unary), response_serializer=handler.response_serializer
            )
        assert handler.unary_unary  # noqa: S101 - the only kind that is left: Method refuses streams both ways
        return grpc.unary_unary_rpc_method_handler(
            self._unary_unary(method, handler.unary_unary), response_serializer=handler.response_serializer
        )

    def _unary_unary(self, method: Method, behavior: Callable[..., Any]) -> Callable[..., Any]:

        def handle(raw: bytes, context: grpc.ServicerContext) -> Any:
            with self._recorded(method, context) as cancel_event:
                self._authenticate(method, context, self._timeouts.unary_seconds, cancel_event)
                return behavior(method.decode(raw), context)

        return handle

    def _server_stream(self, method: Method, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def handle(raw: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._recorded(method, context) as cancel_event:
                self._authenticate(method, context, self._timeouts.stream_seconds, cancel_event)
                request = method.decode(raw)
                with self._stream_limiter.acquire(context) as slot, closing(behavior(request, context)) as responses:
                    for response in responses:
                        with slot.waiting_for_client():
                            yield response

        return handle

    def _client_stream(self, method: Method, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def handle(raws: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with self._recorded(method, context) as cancel_event:
                self._authenticate(method, context, self._timeouts.stream_seconds, cancel_event)
                with self._stream_limiter.acquire(context) as slot:
                    return behavior(_decode_stream(method, raws, slot), context)

        return handle

    @contextmanager
    def _recorded(self, method: Method, context: grpc.ServicerContext) -> Iterator[threading.Event]:
        """The error boundary of a call that has a record in the audit log."""
        call = self._audit_log.begin(method.path, method.scope, context)
        with _error_boundary(method.path, context, partial(self._audit_log.finish, call)) as cancel_event:
            yield cancel_event

    def _limit_open_stream(
        self, path: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        behavior = handler.stream_stream
        if not behavior:
            return handler

        def handle(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            # The stream counts as waiting for its client for its entire life, so the idle timeout ends it.
            with (
                _error_boundary(path, context),
                self._open_stream_limiter.acquire(context) as slot,
                slot.waiting_for_client(),
            ):
                yield from behavior(requests, context)

        return grpc.stream_stream_rpc_method_handler(handle, handler.request_deserializer, handler.response_serializer)

    def _authenticate(
        self, method: Method, context: grpc.ServicerContext, timeout: float, cancel_event: threading.Event
    ) -> None:
        caller = self._authenticator.authenticate(context.invocation_metadata(), method.scope)
        remaining = context.time_remaining()
        if remaining is None or remaining > _MAX_DEADLINE_SECONDS:
            remaining = timeout
        set_context(RequestContext(caller, Deadline.after(remaining, cancel_event)))
        structlog.contextvars.bind_contextvars(org=caller.org, subject=caller.subject)


def _required_ids(message: Descriptor, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The field paths of the ids that a message and its required sub-messages declare as REQUIRED."""
    for field in message.fields:
        behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.FieldBehavior.REQUIRED not in behaviors:
            continue
        if field.message_type:
            yield from _required_ids(field.message_type, (*parents, field.name))
        elif field.name == "id" or field.name.endswith("_id"):
            yield (*parents, field.name)


def _decode_stream(method: Method, raws: Iterator[bytes], slot: StreamSlot) -> Iterator[Message]:
    """The decoded messages of a stream. Raises as `Method.decode`, and OutOfTime if the client cancels."""
    while True:
        try:
            with slot.waiting_for_client():
                raw = next(raws, None)
        except grpc.RpcError:  # it has no code or details; the client cancelled, or the deadline has passed
            raise OutOfTime("the caller has cancelled the call, or its deadline has passed") from None
        if raw is None:
            return
        yield method.decode(raw)


@contextmanager
def _error_boundary(
    path: str, context: grpc.ServicerContext, on_finish: Callable[[str, str], None] | None = None
) -> Iterator[threading.Event]:
    """Map exceptions to the RPC's status, and log one line for each call. `on_finish` gets the code and the reason.

    Yields an event that is set when the client disconnects before the response. The log line then has CANCELLED.
    """
    structlog.contextvars.clear_contextvars()
    started_at = time.monotonic()
    code, reason = "CANCELLED", ""
    cancel_event = threading.Event()
    if not context.add_callback(lambda: cancel_event.set() if code == "CANCELLED" else None):
        cancel_event.set()  # the client disconnected before the call began
    try:
        yield cancel_event
        code = "OK"
    except Exception as error:
        code = reason = "INTERNAL"
        if isinstance(error, AudienceError):
            code, reason = code_of(error).name, error.reason
        abort(context, error)
    finally:
        with suppress(Exception):  # a failure to log must not fail the call
            if on_finish:
                on_finish(code, reason)
        with suppress(Exception):
            duration_ms = round((time.monotonic() - started_at) * 1000, 1)
            _log.info("rpc", method=path, code=code, duration_ms=duration_ms)
