"""Waiting for conditions, never for a time."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def eventually(condition: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for a condition; fail where it does not come."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "the condition did not come"
        pause.wait(0.01)


def wait_past_midnight(*hours: int, seconds: int = 60) -> None:
    """Wait until no timezone that is so many hours ahead of UTC has its midnight in the next seconds.

    For tests of what is stored and found on one day, by servers that have the clock of the machine.
    """

    def is_same_day(ahead: timedelta) -> bool:
        local = datetime.now(UTC) + ahead
        return local.date() == (local + timedelta(seconds=seconds)).date()

    eventually(lambda: all(is_same_day(timedelta(hours=each)) for each in hours), seconds + 40)
