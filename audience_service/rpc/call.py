"""The call that is being answered. grpcio runs every RPC in a context of its own, so one variable serves all."""

from contextvars import ContextVar

from audience_service.domain.caller import Call

_CURRENT: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """The call being answered; set by the interceptor before a servicer runs."""
    return _CURRENT.get()


def enter_call(call: Call) -> None:
    """Make it the current one for the rest of this RPC."""
    _CURRENT.set(call)
