"""Traces for OpenTelemetry: a span for each call and each unit of background work, and in it for database commands.

1. Without `configure_tracing` no span exists, and OpenTelemetry is not imported.
2. A span has names, ids and numbers. It has no value of a filter or of a record.
3. grpcio runs each call in a context of its own, so the span of a call is the current one until the call ends.
4. A unit of background work is a trace of its own (`background_span`), whichever call caused it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

SERVICE_NAME = "audience-service"
"""The name of the service in traces, unless OTEL_SERVICE_NAME has another."""

_provider: "TracerProvider | None" = None

Params = ParamSpec("Params")
Result = TypeVar("Result")


def configure_tracing(exporter: "SpanExporter | None" = None) -> None:
    """Create spans from now on. They go to the exporter, by default by OTLP as the OTEL_* variables say.

    Raises ImportError if the extra `tracing` is not installed.
    """
    global _provider
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    resource = Resource({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(OTLPSpanExporter()))
    _provider = provider


def close_tracing() -> None:
    """Export the spans that are left, and create none from now on."""
    global _provider
    if _provider:
        _provider.shutdown()
    _provider = None


def start_call_span(service: str, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> "Span | None":
    """The span of a call, current in this context from now on; None without tracing. The caller ends it.

    It continues the trace of the W3C headers in the metadata, `traceparent` and `tracestate`, if they are valid.
    """
    if not _provider:
        return None
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {key: value for key, value in metadata or () if isinstance(value, str)}
    span = _provider.get_tracer(SERVICE_NAME).start_span(
        f"{service}/{method}",
        TraceContextTextMapPropagator().extract(headers),
        trace.SpanKind.SERVER,
        {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )
    context.attach(trace.set_span_in_context(span))
    return span


def start_command_span(name: str, attributes: Mapping[str, str]) -> "Span | None":
    """The span of a database command in the current span; None without tracing or without a current span."""
    if not _provider:
        return None
    from opentelemetry import trace

    if not _has_span():
        return None
    return _provider.get_tracer(SERVICE_NAME).start_span(name, None, trace.SpanKind.CLIENT, attributes)


def end_span(span: "Span", error: str = "", **attributes: str | int) -> None:
    """End a span, as failed if there is an error."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes(attributes)
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def trace_id_of(span: "Span") -> str:
    """The id of the span's trace, in hexadecimal digits."""
    return f"{span.get_span_context().trace_id:032x}"


def traced(name: str) -> Callable[[Callable[Params, Result]], Callable[Params, Result]]:
    """A decorator: each run of the function is a span of the current call."""

    def decorate(function: Callable[Params, Result]) -> Callable[Params, Result]:
        @wraps(function)
        def run(*args: Params.args, **kwargs: Params.kwargs) -> Result:
            if not _provider or not _has_span():
                return function(*args, **kwargs)
            with _provider.get_tracer(SERVICE_NAME).start_as_current_span(
                name, record_exception=False, set_status_on_exception=False
            ):
                return function(*args, **kwargs)

        return run

    return decorate


@contextmanager
def background_span(name: str, **attributes: str) -> Iterator[None]:
    """The body, or the function that this decorates, as a trace of its own. An exception adds its class alone."""
    if not _provider:
        yield
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Status, StatusCode

    with _provider.get_tracer(SERVICE_NAME).start_as_current_span(
        name, Context(), attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def _has_span() -> bool:
    from opentelemetry import trace

    span: Any = trace.get_current_span()
    return bool(span.get_span_context().is_valid)
