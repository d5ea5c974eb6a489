"""How many lookalikes are made at once: each holds a thread for minutes, and makes the database read all of an org."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from audience_service.domain.custom.errors import TooManyLookalikes


class Turns:
    """The turns of one process."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._free = threading.Semaphore(at_once)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a turn. Raises TooManyLookalikes at once when all are held."""
        if not self._free.acquire(blocking=False):
            limit = self._at_once
            raise TooManyLookalikes(f"{limit} lookalikes are being made already", metadata={"limit": str(limit)})
        try:
            yield
        finally:
            self._free.release()
