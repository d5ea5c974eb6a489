"""Notifications between the threads of one process.

A process may track hundreds of audiences and receive the changes of every org. Without notifications its idle threads
would query the database for each of them.
"""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any


class Waiter:
    """A subscription to a topic. It keeps a notification that arrives before the wait."""

    def __init__(self) -> None:
        self._notified = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for a notification after the previous wait. Returns whether one arrived."""
        is_notified = self._notified.wait(seconds)
        self._notified.clear()  # before the caller reads the data, so that a later change notifies again
        return is_notified

    def set(self) -> None:
        """Wake the waiting thread, or let its next wait return immediately."""
        self._notified.set()


class Notifier:
    """Wakes the threads that wait for a topic. It stores topics with waiters only."""

    def __init__(self) -> None:
        self._waiters: dict[Hashable, list[Waiter]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def subscribe(self, topic: Hashable = None) -> Iterator[Waiter]:
        """A waiter that receives every notification of the topic from now on."""
        waiter = Waiter()
        with self._lock:
            self._waiters.setdefault(topic, []).append(waiter)
        try:
            yield waiter
        finally:
            with self._lock:
                self._waiters[topic].remove(waiter)
                if not self._waiters[topic]:
                    del self._waiters[topic]

    def topics(self) -> tuple[Any, ...]:
        """The topics with waiters."""
        with self._lock:
            return tuple(self._waiters)

    def notify(self, topic: Hashable = None) -> None:
        """Wake all waiters of the topic."""
        with self._lock:
            for waiter in self._waiters.get(topic, ()):
                waiter.set()
