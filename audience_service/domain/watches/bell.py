"""A bell within the process: some listen for it, others ring it."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Ear:
    """One who listens. Rings that come before the wait are heard too."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring since the wait before, so many seconds at most; answers with whether there was one."""
        is_rung = self._rung.wait(seconds)
        self._rung.clear()  # before the caller looks for what it was for
        return is_rung

    def hear(self) -> None:
        """It has rung."""
        self._rung.set()


class Bell:
    """It may ring for something, and is then heard by those alone who listen for that; of others nothing is kept."""

    def __init__(self) -> None:
        self._ears: dict[Hashable, list[Ear]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def listen(self, reason: Hashable = None) -> Iterator[Ear]:
        """Listen for that, from now on."""
        ear = Ear()
        with self._lock:
            self._ears.setdefault(reason, []).append(ear)
        try:
            yield ear
        finally:
            with self._lock:
                self._ears[reason].remove(ear)
                if not self._ears[reason]:
                    del self._ears[reason]

    def ring(self, reason: Hashable = None) -> None:
        """Wake all who listen for that."""
        with self._lock:
            for ear in self._ears.get(reason, ()):
                ear.hear()
