"""Observes calls: counts them, and logs a line for each one that ends.

The interceptor starts a call and ends it; these are its only two uses of this module.
"""

import time
from collections.abc import Iterable

import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from audience_service.observability import metrics

_log = structlog.get_logger()

MethodLabels = tuple[str, str, str]
"""The labels grpc_type, grpc_service and grpc_method of a method."""


class ObservedCall:
    """A call in progress."""

    def __init__(self, observer: "CallObserver", path: str) -> None:
        self._observer = observer
        self._path = path
        self._labels = observer.labels_of(path)
        self._started_at = time.monotonic()
        metrics.CALLS_STARTED.labels(*self._labels).inc()
        metrics.CALLS_OPEN.labels(*self._labels).inc()

    def finish(self, code: str, reason: str = "") -> None:
        """End the call with a status code, and for an error with the reason in its ErrorInfo."""
        seconds = time.monotonic() - self._started_at
        metrics.CALLS_OPEN.labels(*self._labels).dec()
        metrics.CALLS_HANDLED.labels(*self._labels, code).inc()
        metrics.CALL_SECONDS.labels(*self._labels).observe(seconds)
        if reason:
            metrics.ERRORS.labels(self._labels[2], reason).inc()
        org = structlog.contextvars.get_contextvars().get("org")
        if org in self._observer.orgs:
            metrics.ORG_CALLS.labels(org, code).inc()
        _log.info("rpc", method=self._path, code=code, duration_ms=round(seconds * 1000, 1))


class CallObserver:
    """Observes the calls of the given services."""

    def __init__(self, services: Iterable[ServiceDescriptor], orgs: Iterable[str] = ()) -> None:
        """`orgs` are those that metrics count separately."""
        self.orgs = frozenset(orgs)
        self._labels = {
            f"/{service.full_name}/{method.name}": (_type_of(method), service.full_name, method.name)
            for service in services
            for method in service.methods
        }

    def start(self, path: str) -> ObservedCall:
        """Begin to observe a call of a method. Call it in the thread that handles the call."""
        structlog.contextvars.clear_contextvars()
        return ObservedCall(self, path)

    def labels_of(self, path: str) -> MethodLabels:
        """The labels of a method. Methods of other services that the interceptor limits stream both ways."""
        service, _, method = path.removeprefix("/").partition("/")
        return self._labels.get(path, ("bidi_stream", service, method))


def _type_of(method: MethodDescriptor) -> str:
    return "client_stream" if method.client_streaming else "server_stream" if method.server_streaming else "unary"
