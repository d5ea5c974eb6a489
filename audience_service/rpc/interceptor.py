"""Wraps every servicer: admits the call, receives and decodes its request, and maps errors to statuses.

A call passes these steps, all in one thread of its own:

    token -> rate -> permit to receive -> request -> permit or slot of the workload -> decode -> servicer -> response

1. The token is verified before the request is received. A call without a valid token occupies nothing.
2. The wrapped handlers stream bytes in both directions, so that they run before the request has arrived. grpcio would
   wait for the request of a unary handler without a limit, and would answer INTERNAL to bytes that it cannot parse.
3. The wrapped handlers are grpcio's non-blocking ones: they get a function that sends. The watchdog also sends a status
   by it (`calls.py`), which grpcio's other handlers do not allow.
4. The verification runs in the call's thread. grpcio looks up handlers in its only serving thread, which the check of a
   signature would block.
5. A request waits for its permit as bytes, which are limited. Decoded, it takes up to 26 times as many.
"""

from __future__ import annotations  # grpc's handler types are generic to the type checker only

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError, MalformedRequest, OutOfTime
from audience_service.rpc.admission import Admission
from audience_service.rpc.audit import AuditLog
from audience_service.rpc.auth import Authenticator
from audience_service.rpc.call_observer import CallObserver, observe_request
from audience_service.rpc.calls import CallEnded, OpenCall, OpenCalls
from audience_service.rpc.context import set_context
from audience_service.rpc.converters.member_bytes import SerializedMembers
from audience_service.rpc.errors import abort, code_of
from audience_service.rpc.method import Method, check_size
from audience_service.rpc.permits import large_bytes

_MAX_DEADLINE_SECONDS = 365 * 86_400.0
"""grpcio reports a deadline centuries ahead for a call without a deadline."""
_OPEN_REQUEST_TIMEOUT_SECONDS = 2.0
"""The time in which a health check must send its request."""

Send = Callable[[bytes | None], None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds.

    `unary` and `stream` are the deadlines of calls without one of their own. In `request` the client must send a unary
    request. In `idle` it must send the next message of a stream, or receive one.
    """

    unary: float
    stream: float
    request: float
    idle: float


class CallInterceptor(grpc.ServerInterceptor):
    """Wraps the handlers of the given services.

    Other services (health, reflection) need no token and no permit.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        services: Iterable[ServiceDescriptor],
        admission: Admission,
        open_calls: OpenCalls,
        timeouts: Timeouts,
        observer: CallObserver,
        audit_log: AuditLog,
    ) -> None:
        methods = (Method.of(method) for service in services for method in service.methods)
        self._methods = {method.path: method for method in methods}
        self._authenticator = authenticator
        self._admission = admission
        self._open_calls = open_calls
        self._timeouts = timeouts
        self._observer = observer
        self._audit_log = audit_log
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap each handler once."""
        path = handler_call_details.method
        if path not in self._wrapped:
            handler = continuation(handler_call_details)
            if handler is None:
                return None
            if path in self._methods:
                self._wrapped[path] = self._wrap(self._methods[path], handler)
            elif handler.stream_stream:
                self._wrapped[path] = self._wrap_reflection(path, handler)
            else:
                self._wrapped[path] = self._wrap_health(path, handler)
        return self._wrapped[path]

    def responses(
        self, method: Method, behavior: Callable[..., Any], messages: Iterator[bytes], call: OpenCall
    ) -> Generator[Message | SerializedMembers, None, None]:
        """The responses of a call that streams in one direction. Raises the errors of the call."""
        ctx = self._authenticate(method, call)
        self._admission.rates.check(ctx.caller)
        if method.is_client_streaming:
            with self._slot(method, ctx):
                response = behavior(self._decode_stream(method, messages, call), call.context)
            yield response
            return
        raw, size = self._receive(messages, ctx, call)
        with self._slot(method, ctx), self._admission.stream_bytes.occupy(ctx.caller, large_bytes(size)):
            request = observe_request(method.decode(raw))
            del raw
            with closing(behavior(request, call.context)) as responses:
                yield from responses

    def response(self, method: Method, behavior: Callable[..., Any], messages: Iterator[bytes], call: OpenCall) -> Any:
        """The response of a unary call. Raises the errors of the call."""
        ctx = self._authenticate(method, call)
        self._admission.rates.check(ctx.caller)
        self._admission.check_place(method.workload, ctx)
        raw, size = self._receive(messages, ctx, call)
        with self._admission.permits[method.workload].acquire(ctx, size):
            request = observe_request(method.decode(raw))
            del raw
            return behavior(request, call.context)

    @contextmanager
    def boundary(self, path: str, call: OpenCall, *, is_observed: bool = True) -> Iterator[None]:
        """Run a call: end it with OK or with the status of an error. Observe and audit it."""
        observed = self._observer.start(path, call.context.invocation_metadata()) if is_observed else None
        call.request_id = observed.request_id if observed else ""
        method = self._methods.get(path)
        audited = self._audit_log.begin(path, method.scope, call.context) if method else None
        outcome: tuple[str, str] | None = None
        failure: Exception | None = None
        self._open_calls.add(call)
        try:
            yield
            if call.claim_end() and call.context.is_active():
                outcome = "OK", ""
        except CallEnded:
            pass
        except Exception as error:
            if call.claim_end():
                failure = error
                if not call.cancel_event.is_set():
                    outcome = _outcome(error)
        finally:
            self._open_calls.discard(call)
            if call.failure:
                outcome = _outcome(call.failure)
            code, reason = outcome or call.outcome_for_client()
            code = "CANCELLED" if call.is_reset else code
            if observed:
                with suppress(Exception):  # a failure to observe must not fail the call
                    observed.finish(code, reason)
            with suppress(Exception):
                self._audit_log.finish(audited, code, reason)
        if failure:
            try:
                abort(call.context, failure)
            finally:
                del failure  # with its traceback, it would keep the request until the next garbage collection
        if code == "OK":
            call.complete()

    def _wrap(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary
        serialize = handler.response_serializer
        assert behavior  # noqa: S101 - Method refuses streams both ways
        assert serialize  # noqa: S101 - the generated code sets it

        def handle(messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
            call = OpenCall(context, send)
            with (
                self.boundary(method.path, call),
                closing(self.responses(method, behavior, messages, call)) as responses,
            ):
                for response in responses:
                    message = response.content if isinstance(response, SerializedMembers) else serialize(response)
                    del response  # while the client receives the message, its bytes are all that stays in memory
                    call.send(message, self._timeouts.idle)

        def handle_unary(messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
            call = OpenCall(context, send)
            with self.boundary(method.path, call):
                call.send(serialize(self.response(method, behavior, messages, call)), self._timeouts.idle)

        is_unary = not (method.is_client_streaming or method.is_server_streaming)
        return _non_blocking(handle_unary if is_unary else handle)

    def _wrap_health(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Receive the request in time, then answer. Each Watch occupies a thread until its client ends it.

        Grpcio's non-blocking Watch sends while it holds the lock that every check needs. One client that receives
        nothing would stop all checks, and the stop of the server.
        """
        behavior: Callable[..., Any] | None = handler.unary_unary or handler.unary_stream
        deserialize, serialize = handler.request_deserializer, handler.response_serializer
        assert behavior  # noqa: S101 - these are the kinds of the health service
        assert deserialize  # noqa: S101 - the generated code sets it
        assert serialize  # noqa: S101

        def handle(messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
            call = OpenCall(context, send)
            with self.boundary(path, call, is_observed=False):
                with self._admission.open_requests.acquire(connection=context.peer()):
                    raw = call.receive(messages, _OPEN_REQUEST_TIMEOUT_SECONDS)
                request = _decode_open(path, deserialize, raw or b"")
                if handler.unary_unary:
                    call.send(serialize(behavior(request, context)), self._timeouts.idle)
                    return
                with self._admission.health_watches.acquire(connection=context.peer()):
                    for response in behavior(request, context):
                        call.send(serialize(response), self._timeouts.idle)

        return _non_blocking(handle)

    def _wrap_reflection(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Limit the streams, each of which occupies a thread until its client ends it."""
        behavior = handler.stream_stream
        deserialize, serialize = handler.request_deserializer, handler.response_serializer
        assert behavior  # noqa: S101 - the caller has checked it
        assert deserialize  # noqa: S101 - the generated code sets it
        assert serialize  # noqa: S101

        def handle(messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
            call = OpenCall(context, send)

            def requests() -> Iterator[Any]:
                while (raw := call.receive(messages, self._timeouts.idle)) is not None:
                    yield _decode_open(path, deserialize, raw)

            with self.boundary(path, call), self._admission.reflection_streams.acquire():
                for response in behavior(requests(), context):
                    call.send(serialize(response), self._timeouts.idle)

        return _non_blocking(handle)

    def _authenticate(self, method: Method, call: OpenCall) -> RequestContext:
        caller = self._authenticator.authenticate(call.context.invocation_metadata(), method.scope)
        structlog.contextvars.bind_contextvars(org=caller.org)
        remaining = call.context.time_remaining()
        if remaining is None or remaining > _MAX_DEADLINE_SECONDS:
            is_stream = method.is_client_streaming or method.is_server_streaming
            remaining = self._timeouts.stream if is_stream else self._timeouts.unary
        ctx = RequestContext(caller, Deadline.after(remaining, call.cancel_event), call.request_id)
        set_context(ctx)
        return ctx

    def _receive(self, messages: Iterator[bytes], ctx: RequestContext, call: OpenCall) -> tuple[bytes | None, int]:
        """The bytes of the one request, None if the client sends none, and their number."""
        with self._admission.requests.acquire(ctx):
            raw = call.receive(messages, self._timeouts.request)
        check_size(raw or b"")  # a request above the limit would wait in vain
        return raw, len(raw or b"")

    def _slot(self, method: Method, ctx: RequestContext) -> Any:
        return self._admission.slots[method.workload].acquire(org=ctx.caller.org, caller=ctx.caller.subject)

    def _decode_stream(self, method: Method, messages: Iterator[bytes], call: OpenCall) -> Iterator[Message]:
        """The decoded messages of a stream. Raises as `Method.decode`, and OutOfTime if the call has ended."""
        while True:
            try:
                raw = call.receive(messages, self._timeouts.idle)
            except CallEnded:  # the use case saves its progress at an error that it knows
                raise OutOfTime("the caller has cancelled the call, or its deadline has passed") from None
            if raw is None:
                return
            yield method.decode(raw)


def _non_blocking(handle: Callable[..., None]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that receives and sends bytes, by a function that it gets."""
    vars(handle)["experimental_non_blocking"] = True  # grpcio's health service uses it too
    return grpc.stream_stream_rpc_method_handler(handle)


def _decode_open(path: str, deserialize: Callable[[bytes], Any], raw: bytes) -> Any:
    """The request of a call that needs no token. Raises MalformedRequest."""
    try:
        return deserialize(raw)
    except DecodeError:
        raise MalformedRequest(f"the bytes are not a request of {path}") from None


def _outcome(error: Exception) -> tuple[str, str]:
    """The code and the reason that the client gets for an error."""
    return (code_of(error).name, error.reason) if isinstance(error, AudienceError) else ("INTERNAL", "INTERNAL")
