"""Limits the number of open streams, each of which occupies a thread, and cancels idle streams."""

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
        """Mark the stream as waiting for its client: to receive a message, or to send its next one."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def cancel_if_idle(self, idle_timeout_seconds: float) -> None:
        """Cancel the stream if it has waited for its client longer than this."""
        since = self._waiting_since
        if since is not None and time.monotonic() - since > idle_timeout_seconds:
            self._context.cancel()


class StreamLimiter:
    """A limited number of slots for concurrent streams."""

    def __init__(self, max_streams: int, idle_timeout_seconds: float) -> None:
        self._max_streams = max_streams
        self._idle_timeout_seconds = idle_timeout_seconds
        self._slots: set[StreamSlot] = set()
        self._lock = threading.Lock()

    @property
    def open_count(self) -> int:
        """The number of open streams."""
        return len(self._slots)

    @contextmanager
    def acquire(self, context: grpc.ServicerContext) -> Iterator[StreamSlot]:
        """Occupy a slot. Raises TooManyStreams immediately if every slot is occupied."""
        slot = StreamSlot(context)
        with self._lock:
            if len(self._slots) >= self._max_streams:
                raise TooManyStreams(
                    f"{self._max_streams} streams are open, which is the limit; retry when one has ended",
                    metadata={"limit": str(self._max_streams)},
                )
            self._slots.add(slot)
        try:
            yield slot
        finally:
            with self._lock:
                self._slots.discard(slot)

    def cancel_idle(self) -> None:
        """Cancel the streams whose clients exceeded the idle timeout. Call this periodically."""
        with self._lock:
            slots = tuple(self._slots)
        for slot in slots:
            slot.cancel_if_idle(self._idle_timeout_seconds)
