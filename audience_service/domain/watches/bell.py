"""A bell within the process: some wait for it, others ring it."""

import threading
from collections import Counter
from collections.abc import Hashable


class Bell:
    """Rings that come before the wait are heard too, by whoever names the last one that was heard.

    It may ring for something, and is then heard by those alone who wait for that.
    """

    def __init__(self) -> None:
        self._rung: Counter[Hashable] = Counter()
        self._condition = threading.Condition()

    def rung(self, reason: Hashable = None) -> int:
        """How often it has rung for that."""
        return self._rung[reason]

    def ring(self, reason: Hashable = None) -> None:
        """Wake all who wait for that."""
        with self._condition:
            self._rung[reason] += 1
            self._condition.notify_all()

    def wait(self, heard: int, seconds: float, reason: Hashable = None) -> int:
        """Wait for a ring behind the one `heard`, so many seconds at most; answers with how often it has rung."""
        with self._condition:
            self._condition.wait_for(lambda: self._rung[reason] != heard, seconds)
            return self._rung[reason]
