"""Observes calls: counts them, gives each a request id, and logs a line for each one that ends.

The interceptor starts a call, names its request, and ends it; these are its only uses of this module.
"""

import random
import re
import secrets
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from audience_service.observability import metrics
from audience_service.observability.tracing import end_span, start_call_span, trace_id_of
from audience_service.rpc.context import find_context
from audience_service.rpc.slow_calls import SlowCall, SlowCallLog

REQUEST_ID_KEY = "x-request-id"
_SERVER_ERRORS = frozenset(("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "DATA_LOSS"))
"""The codes by which OpenTelemetry considers a call failed on the server (its conventions for gRPC)."""
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_RANDOM = random.Random()  # noqa: S311 - draws samples
_REQUEST: ContextVar[Message | None] = ContextVar("request", default=None)

_log = structlog.get_logger()

MethodLabels = tuple[str, str, str]
"""The labels grpc_type, grpc_service and grpc_method of a method."""
Metadata = Iterable[tuple[str, str | bytes]]
Request = TypeVar("Request", bound=Message)


@dataclass(frozen=True, slots=True)
class CallLogOptions:
    """Which calls get a log line, and which orgs metrics of their own.

    `success_share` is the share of successful calls that are logged; calls that fail are always logged.
    """

    access_log: bool = True
    success_share: float = 1.0
    orgs: frozenset[str] = frozenset()


class _MethodMetrics:
    """The metrics of one method. Looking them up by their labels takes longer than counting."""

    def __init__(self, labels: MethodLabels) -> None:
        self.started = metrics.CALLS_STARTED.labels(*labels)
        self.open = metrics.CALLS_OPEN.labels(*labels)
        self.seconds = metrics.CALL_SECONDS.labels(*labels)
        self.ok = metrics.CALLS_HANDLED.labels(*labels, "OK")


class ObservedCall:
    """A call in progress."""

    def __init__(self, observer: "CallObserver", path: str, metadata: Metadata, request_id: str) -> None:
        self.request_id = request_id
        self._observer = observer
        self._path = path
        self._labels = observer.labels_of(path)
        self._metrics = observer.metrics_of(self._labels)
        self._started_at = time.monotonic()
        self._span = start_call_span(*self._labels[1:], metadata)
        if self._span:
            structlog.contextvars.bind_contextvars(trace_id=trace_id_of(self._span))
        self._metrics.started.inc()
        self._metrics.open.inc()

    def finish(self, code: str, reason: str = "") -> None:
        """End the call with a status code, and for an error with the reason in its ErrorInfo."""
        seconds = time.monotonic() - self._started_at
        self._metrics.open.dec()
        (self._metrics.ok if code == "OK" else metrics.CALLS_HANDLED.labels(*self._labels, code)).inc()
        self._metrics.seconds.observe(seconds)
        if self._span:
            status = grpc.StatusCode[code].value[0]
            end_span(self._span, reason if code in _SERVER_ERRORS else "", **{"rpc.grpc.status_code": status})
        if reason:
            metrics.ERRORS.labels(self._labels[2], reason).inc()
        if self._observer.options.orgs:
            org = structlog.contextvars.get_contextvars().get("org")
            if org in self._observer.options.orgs:
                metrics.ORG_CALLS.labels(org, code).inc()
        fields = {"method": self._path, "code": code, "duration_ms": round(seconds * 1000, 1)}
        if self._observer.is_logged(code):
            _log.info("rpc", **fields, **({"reason": reason} if reason else {}))
        self._observer.add_slow_call(self._labels[0], seconds, fields)
        _REQUEST.set(None)  # grpcio keeps the call's context until a garbage collection, and with it the request


class CallObserver:
    """Observes the calls of the given services."""

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        options: CallLogOptions = CallLogOptions(),
        slow_calls: SlowCallLog | None = None,
    ) -> None:
        self.options = options
        self._slow_calls = slow_calls
        self._labels = {
            f"/{service.full_name}/{method.name}": (_type_of(method), service.full_name, method.name)
            for service in services
            for method in service.methods
        }
        self._metrics: dict[MethodLabels, _MethodMetrics] = {}

    def start(self, path: str, metadata: Metadata) -> ObservedCall:
        """Begin to observe a call of a method. Call it in the thread that handles the call."""
        structlog.contextvars.clear_contextvars()
        request_id = _read_request_id(metadata) or secrets.token_hex(16)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        return ObservedCall(self, path, metadata, request_id)

    def labels_of(self, path: str) -> MethodLabels:
        """The labels of a method. Methods of other services that the interceptor limits stream both ways."""
        service, _, method = path.removeprefix("/").partition("/")
        return self._labels.get(path, ("bidi_stream", service, method))

    def metrics_of(self, labels: MethodLabels) -> _MethodMetrics:
        """The metrics of a method."""
        if labels not in self._metrics:
            self._metrics[labels] = _MethodMetrics(labels)
        return self._metrics[labels]

    def is_logged(self, code: str) -> bool:
        """Whether a call that ended with this code gets a line in the log."""
        options = self.options
        return options.access_log and (code != "OK" or _RANDOM.random() < options.success_share)

    def add_slow_call(self, grpc_type: str, seconds: float, fields: dict[str, Any]) -> None:
        """Log a unary call that was slow, if its token was verified and its request decoded."""
        if not self._slow_calls or grpc_type != "unary" or not self._slow_calls.is_slow(seconds):
            return
        ctx, request = find_context(), _REQUEST.get()
        if ctx and request is not None:
            bound = structlog.contextvars.get_contextvars()
            self._slow_calls.add(SlowCall(ctx, request, {**bound, **fields}))


def observe_request(request: Request) -> Request:
    """The request, remembered as that of the current call."""
    _REQUEST.set(request)
    return request


def current_request_id() -> str:
    """The request id of the current call; empty outside a call."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def _read_request_id(metadata: Metadata) -> str:
    """The caller's own id, empty if it sent none or an unsuitable one."""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return ""


def _type_of(method: MethodDescriptor) -> str:
    return "client_stream" if method.client_streaming else "server_stream" if method.server_streaming else "unary"
