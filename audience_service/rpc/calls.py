"""The open calls of this process, and how they end.

A call ends in one of four ways. The first thread to call `OpenCall.claim_end` decides which, so that a client gets one
status:

1. Its thread has sent the response, or has raised an error.
2. The client cancels, or its deadline passes.
3. The client does not send its request in time, or does not receive a response. The watchdog ends the call.
4. The server stops, and the call outlasts the grace period.
"""

from __future__ import annotations  # grpc's types are generic to the type checker only

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import structlog

from audience_service.domain.core.errors import AudienceError, ClientTimeout, OutOfTime
from audience_service.rpc.errors import set_status

_WATCHDOG_INTERVAL_SECONDS = 0.25
_DEADLINE_TOLERANCE_SECONDS = 0.1
"""A call that its client ends this shortly before its deadline ended by the deadline."""

_log = structlog.get_logger()


class CallEnded(Exception):
    """The call has ended already, so its thread sends nothing more."""


class CancelEvent(threading.Event):
    """Set when the call is cancelled. It wakes the call's thread from a wait for something else."""

    waker: threading.Event | None = None

    def set(self) -> None:
        """Cancel, and wake the thread."""
        super().set()
        if waker := self.waker:
            waker.set()


class _Wait(NamedTuple):
    """The call waits for its client until a time on the monotonic clock, and then ends with an error."""

    until: float
    timeout_seconds: float
    is_sending: bool

    @property
    def error(self) -> AudienceError:
        seconds = self.timeout_seconds
        if self.is_sending:
            return ClientTimeout(f"the client received nothing for {seconds:g} s; resume the stream")
        return ClientTimeout(
            f"the client sent no message for {seconds:g} s; send the request at once, or resume the stream"
        )


class OpenCall:
    """One call. `send` sends the bytes of a message, or the status for None; grpcio's test server has none."""

    def __init__(self, context: grpc.ServicerContext, send: Callable[[bytes | None], None] | None = None) -> None:
        self.context = context
        self.cancel_event = CancelEvent()
        self.failure: AudienceError | None = None
        """The error that another thread ended the call with."""
        self.is_reset = False
        """Whether that thread has cancelled the call, since its client could not receive the status of `failure`."""
        self.request_id = ""
        self._send = send
        self._lock = threading.Lock()
        self._has_ended = False
        self._is_overdue: bool | None = None
        self._wait: _Wait | None = None
        if not context.add_callback(self._on_termination):
            self.cancel_event.set()  # the client disconnected before the call began

    def claim_end(self, failure: AudienceError | None = None) -> bool:
        """Whether the caller may send the status, which is that of `failure` if given. True for the first one only."""
        with self._lock:
            is_first = not self._has_ended
            if is_first:
                self.failure = failure
            self._has_ended = True
        return is_first

    def outcome_for_client(self) -> tuple[str, str]:
        """The code that the client sees if it has ended the call, and the reason: by its deadline, or by cancelling.

        A client ends a call at its deadline itself, a network delay before the server's clock says so.
        """
        if self._is_overdue is None:
            remaining = self.context.time_remaining()
            self._is_overdue = remaining is not None and remaining <= _DEADLINE_TOLERANCE_SECONDS
        return ("DEADLINE_EXCEEDED", OutOfTime.reason) if self._is_overdue else ("CANCELLED", "")

    def receive(self, messages: Iterator[bytes], timeout_seconds: float) -> bytes | None:
        """The client's next message, or None after the last one. Raises CallEnded, also if the client cancels."""
        self._wait = _Wait(time.monotonic() + timeout_seconds, timeout_seconds, is_sending=False)
        try:
            message = next(messages, None)
        except grpc.RpcError:  # it has no code or details: the client cancelled, or its deadline has passed
            self.cancel_event.set()
            raise CallEnded from None
        finally:
            self._wait = None
        if message is None and (self._has_ended or self.cancel_event.is_set()):
            raise CallEnded
        return message

    def send(self, message: bytes, timeout_seconds: float) -> None:
        """Send a message, once the client has received enough of the previous ones. Raises CallEnded."""
        assert self._send  # noqa: S101 - only grpcio's test server passes none, and it sends by itself
        self._wait = _Wait(time.monotonic() + timeout_seconds, timeout_seconds, is_sending=True)
        try:
            self._send(message)
        finally:
            self._wait = None
        if self._has_ended or not self.context.is_active():
            raise CallEnded

    def complete(self) -> None:
        """Send the status OK. Call it after `claim_end`."""
        if self._send:
            self._send(None)

    def end_from_outside(self, error: AudienceError, *, is_readable: bool = True) -> None:
        """End the call from another thread, unless it has ended. Its own thread stops at the next step.

        A client that receives nothing (not `is_readable`) cannot receive the status either. It gets CANCELLED.
        """
        if not self.claim_end(error):
            return
        if is_readable and self._send:
            set_status(self.context, error, self.request_id)
            self._send(None)
        else:
            self.is_reset = True
            self.context.cancel()
        self.cancel_event.set()

    def end_if_overdue(self, now: float) -> None:
        """End the call if its client has kept it waiting for too long."""
        wait = self._wait
        if wait and now >= wait.until:
            self.end_from_outside(wait.error, is_readable=not wait.is_sending)

    def _on_termination(self) -> None:
        if not self._has_ended:
            self.outcome_for_client()  # noted now, since the thread may work on until the deadline has passed
            self.cancel_event.set()


class OpenCalls:
    """The open calls, with the watchdog that ends those whose clients are too slow."""

    def __init__(self) -> None:
        self._calls: set[OpenCall] = set()
        self._lock = threading.Lock()
        self._stop_event = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="call-watchdog", daemon=True)

    def __len__(self) -> int:
        """The number of open calls."""
        return len(self._calls)

    def add(self, call: OpenCall) -> None:
        """Add a call that begins."""
        with self._lock:
            self._calls.add(call)

    def discard(self, call: OpenCall) -> None:
        """Remove a call whose thread ends."""
        with self._lock:
            self._calls.discard(call)

    def start(self) -> None:
        """Start the watchdog."""
        self._watchdog.start()

    def stop(self) -> None:
        """Stop the watchdog."""
        self._stop_event.set()

    def end_overdue(self, now: float) -> None:
        """End the calls whose clients have kept them waiting for too long, as of a time on the monotonic clock."""
        self._for_each(lambda call: call.end_if_overdue(now))

    def end_all(self, error: AudienceError) -> None:
        """End every call with an error."""
        self._for_each(lambda call: call.end_from_outside(error))

    def _for_each(self, action: Callable[[OpenCall], Any]) -> None:
        with self._lock:
            calls = tuple(self._calls)
        for call in calls:
            try:
                action(call)
            except Exception as error:
                _log.error("a call could not be ended", exc_info=error)

    def _watch(self) -> None:
        while not self._stop_event.wait(_WATCHDOG_INTERVAL_SECONDS):
            self.end_overdue(time.monotonic())
