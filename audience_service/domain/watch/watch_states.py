"""The states of the watches whose streams are open in this process, read in one query for all of them.

A thousand streams that each read their watch four times a second would take all of a processor, and of the database.
The first stream that finds the states too old reads them for the others:

    stream   time   age of the states   what it does
    A        0.00   0.25                reads the states of A, B and C
    B        0.01   0.01                compares
    C        0.20   0.20                compares
    A        0.25   0.25                reads again
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping

from audience_service.domain.core.context import Deadline
from audience_service.domain.history.model import WatchState

WatchKey = tuple[str, str]
"""The org and the id of a watched audience."""
ReadStates = Callable[[Collection[WatchKey], Deadline], Mapping[WatchKey, WatchState]]

_MAX_AGE_SECONDS = 0.2


class WatchStates:
    """States that are at most 0.2 s old, unless another stream reads newer ones at this moment."""

    def __init__(self, read: ReadStates, open_watches: Callable[[], Collection[WatchKey]]) -> None:
        self._read = read
        self._open_watches = open_watches
        self._states: Mapping[WatchKey, WatchState] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def get(self, key: WatchKey, deadline: Deadline) -> WatchState | None:
        """The state of a watch with an open stream. None if it has none, or if its stream is new.

        Raises StoreUnavailable, OutOfTime.
        """
        if time.monotonic() - self._read_at > _MAX_AGE_SECONDS and self._lock.acquire(blocking=False):
            try:
                read_at = time.monotonic()
                self._states = self._read(self._open_watches(), deadline)
                self._read_at = read_at
            finally:
                self._lock.release()
        return self._states.get(key)
