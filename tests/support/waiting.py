"""Waiting for conditions, never for a time."""

import threading
import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for a condition; fail where it does not come."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "the condition did not come"
        pause.wait(0.01)
