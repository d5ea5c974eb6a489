"""A bell within the process: some wait for it, others ring it."""

import threading


class Bell:
    """Rings that come before the wait are heard too, by whoever names the last one that was heard."""

    def __init__(self) -> None:
        self._rung = 0
        self._condition = threading.Condition()

    @property
    def rung(self) -> int:
        """How often it has rung."""
        return self._rung

    def ring(self) -> None:
        """Wake all who wait."""
        with self._condition:
            self._rung += 1
            self._condition.notify_all()

    def wait(self, heard: int, seconds: float) -> int:
        """Wait for a ring behind the one `heard`, so many seconds at most; answers with how often it has rung."""
        with self._condition:
            self._condition.wait_for(lambda: self._rung != heard, seconds)
            return self._rung
