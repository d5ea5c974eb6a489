"""Baselines: kept for a while, read once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.insights.baselines import BaselineCache
from audience_service.domain.insights.model import Breakdown

NEVER = Deadline(None)


def breakdown(size: int) -> Breakdown:
    """A breakdown that is identified by its size."""
    return Breakdown(size, datetime(2026, 1, 1, tzinfo=UTC), ())


def test_a_baseline_is_read_again_after_its_time() -> None:
    clock = [0.0]
    baselines = BaselineCache(300, lambda: clock[0])
    found = []
    for second in (0.0, 299.0, 300.0, 301.0):
        clock[0] = second
        found.append(baselines.get("acme", lambda at=int(second): breakdown(at), NEVER).size)  # type: ignore[misc]
    assert found == [0, 0, 300, 300]


def test_a_ttl_of_0_disables_the_cache() -> None:
    baselines = BaselineCache(0)
    assert [baselines.get("acme", lambda n=n: breakdown(n), NEVER).size for n in (1, 2)] == [1, 2]  # type: ignore[misc]


def test_concurrent_calls_load_the_baseline_once() -> None:
    baselines, entered, free = BaselineCache(60), threading.Event(), threading.Event()
    reads: list[int] = []

    def read() -> Breakdown:
        reads.append(1)
        entered.set()
        free.wait(40)
        return breakdown(7)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(baselines.get, "acme", read, NEVER)
        assert entered.wait(40)
        others = [pool.submit(baselines.get, "acme", read, NEVER) for _ in range(3)]
        with pytest.raises(OutOfTime):
            baselines.get("acme", read, Deadline.after(0.01))
        assert baselines.get("other", lambda: breakdown(3), NEVER).size == 3, "another one does not wait"
        free.set()
        assert [call.result(40).size for call in (first, *others)] == [7, 7, 7, 7]
    assert reads == [1]


def test_a_read_that_fails_leaves_the_next_one_free() -> None:
    baselines = BaselineCache(60)
    with pytest.raises(ZeroDivisionError):
        baselines.get("acme", lambda: breakdown(1 // 0), NEVER)
    assert baselines.get("acme", lambda: breakdown(2), Deadline.after(5)).size == 2


def test_the_one_used_longest_ago_makes_room() -> None:
    baselines = BaselineCache(60, time.monotonic)
    for number in range(65):
        baselines.get(number, lambda n=number: breakdown(n), NEVER)  # type: ignore[misc]
    assert baselines.get(64, lambda: breakdown(-1), NEVER).size == 64
    assert baselines.get(1, lambda: breakdown(-1), NEVER).size == 1, "no more of them than it takes"
    assert baselines.get(0, lambda: breakdown(-1), NEVER).size == -1
