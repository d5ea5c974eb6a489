"""The call that is being answered. grpcio runs every RPC in a context of its own, so one variable serves all."""

from contextvars import ContextVar

from audience_service.domain.core.context import RequestContext

_CONTEXT: ContextVar[RequestContext] = ContextVar("request_context")


def current_context() -> RequestContext:
    """The call being answered; set by the interceptor before a servicer runs."""
    return _CONTEXT.get()


def set_context(ctx: RequestContext) -> None:
    """Make it the current one for the rest of this RPC."""
    _CONTEXT.set(ctx)
