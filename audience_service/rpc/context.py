"""The request context of the current RPC. grpcio runs every RPC in a context of its own, so one variable serves all."""

from contextvars import ContextVar

from audience_service.domain.core.context import RequestContext

_CONTEXT: ContextVar[RequestContext] = ContextVar("request_context")


def current_context() -> RequestContext:
    """The context of the current RPC. The interceptor sets it before a servicer runs."""
    return _CONTEXT.get()


def find_context() -> RequestContext | None:
    """The context of the current RPC, None before its token is verified."""
    return _CONTEXT.get(None)


def set_context(ctx: RequestContext) -> None:
    """Set the context for the rest of this RPC."""
    _CONTEXT.set(ctx)
