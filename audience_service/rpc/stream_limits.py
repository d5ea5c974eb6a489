"""A cap on streams, each of which holds a thread while it lasts, and an end to those whose clients do nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from audience_service.domain.core.errors import TooManyStreams


class StreamSlot:
    """One open stream."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        self._waiting_since: float | None = None

    @contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """While a message waits for the client to take it, or the service for the client's next one."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def cancel_if_idle(self, idle_timeout_seconds: float) -> None:
        """Cancel the stream if its client has done nothing for so long."""
        since = self._waiting_since
        if since is not None and time.monotonic() - since > idle_timeout_seconds:
            self._context.cancel()


class StreamLimiter:
    """As many slots as may be open at once."""

    def __init__(self, max_streams: int, idle_timeout_seconds: float) -> None:
        self._max_streams = max_streams
        self._idle_timeout_seconds = idle_timeout_seconds
        self._slots: set[StreamSlot] = set()
        self._lock = threading.Lock()

    @property
    def open_count(self) -> int:
        """How many streams are open now."""
        return len(self._slots)

    @contextmanager
    def acquire(self, context: grpc.ServicerContext) -> Iterator[StreamSlot]:
        """Hold a slot. Raises TooManyStreams at once when all are held."""
        slot = StreamSlot(context)
        with self._lock:
            if len(self._slots) >= self._max_streams:
                raise TooManyStreams(
                    f"{self._max_streams} streams are open already", metadata={"limit": str(self._max_streams)}
                )
            self._slots.add(slot)
        try:
            yield slot
        finally:
            with self._lock:
                self._slots.discard(slot)

    def cancel_idle(self) -> None:
        """Cancel the streams whose clients have done nothing for the idle time; to be called now and then."""
        with self._lock:
            slots = tuple(self._slots)
        for slot in slots:
            slot.cancel_if_idle(self._idle_timeout_seconds)
