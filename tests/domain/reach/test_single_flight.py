"""Identical calls at the same time share one query."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime, StoreUnavailable
from audience_service.domain.reach.single_flight import SingleFlight

NEVER = Deadline(None)


class Work:
    """Work that waits to be let go; then it answers with its number, or fails."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.go = threading.Event()
        self.errors: list[Exception] = []
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        self.started.release()
        assert self.go.wait(40)
        if self.errors:
            raise self.errors.pop()
        return number


def shared(followers: int, work: Work, suits: Callable[[int], bool] = lambda _: True) -> list[Future[int]]:
    """The results of the first call and of its followers, which all joined before the work was done."""
    flights: SingleFlight[int] = SingleFlight()
    waiting = threading.Semaphore(0)

    class Watched(Deadline):
        def remaining(self) -> float | None:
            waiting.release()
            return 40.0

    with ThreadPoolExecutor(followers + 1) as pool:
        calls = [pool.submit(flights.run, "key", NEVER, work, suits)]
        assert work.started.acquire(timeout=40)
        calls += [pool.submit(flights.run, "key", Watched(None), work, suits) for _ in range(followers)]
        for _ in range(followers):
            assert waiting.acquire(timeout=40)
        work.go.set()
    return calls


def test_concurrent_callers_share_one_result() -> None:
    work = Work()
    assert [call.result() for call in shared(5, work)] == [1] * 6
    assert work.calls == 1


def test_later_callers_run_again() -> None:
    work = Work()
    work.go.set()
    flights: SingleFlight[int] = SingleFlight()
    assert [flights.run("key", NEVER, work, lambda _: True) for _ in range(2)] == [1, 2]


def test_an_error_is_shared() -> None:
    work = Work()
    work.errors = [StoreUnavailable("gone")]
    for call in shared(3, work):
        with pytest.raises(StoreUnavailable):
            call.result()
    assert work.calls == 1


@pytest.mark.parametrize("own", [OutOfTime("mine"), KeyboardInterrupt()])
def test_a_timed_out_leader_is_replaced_by_a_waiter(own: Any) -> None:
    work = Work()
    work.errors = [own]
    first, *others = shared(3, work)
    with pytest.raises(type(own)):
        first.result()
    assert {call.result() for call in others} <= {2, 3, 4}


def test_an_unacceptable_result_is_computed_again() -> None:
    work = Work()
    first, other = shared(1, work, suits=lambda number: number > 1)
    assert (first.result(), other.result()) == (1, 2)


def test_a_followers_own_deadline_bounds_its_wait() -> None:
    work = Work()
    flights: SingleFlight[int] = SingleFlight()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(flights.run, "key", NEVER, work, lambda _: True)
        assert work.started.acquire(timeout=40)
        with pytest.raises(OutOfTime):
            flights.run("key", Deadline.after(0.05), work, lambda _: True)
        work.go.set()
        assert first.result() == 1


def test_other_keys_go_their_own_way() -> None:
    flights: SingleFlight[str] = SingleFlight()

    def outer() -> str:
        return flights.run("inner", NEVER, lambda: "inner", lambda _: True)

    assert flights.run("outer", NEVER, outer, lambda _: True) == "inner"
