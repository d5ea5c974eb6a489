"""A bell within the process: some listen for it, others ring it."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Waiter:
    """One who listens. Rings that come before the wait are heard too."""

    def __init__(self) -> None:
        self._notified = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring since the wait before, so many seconds at most; answers with whether there was one."""
        is_notified = self._notified.wait(seconds)
        self._notified.clear()  # before the caller looks for what it was for
        return is_notified

    def set(self) -> None:
        """It has rung."""
        self._notified.set()


class Notifier:
    """It may ring for something, and is then heard by those alone who listen for that; of others nothing is kept."""

    def __init__(self) -> None:
        self._waiters: dict[Hashable, list[Waiter]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def subscribe(self, topic: Hashable = None) -> Iterator[Waiter]:
        """Listen for that, from now on."""
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

    def notify(self, topic: Hashable = None) -> None:
        """Wake all who listen for that."""
        with self._lock:
            for waiter in self._waiters.get(topic, ()):
                waiter.set()
