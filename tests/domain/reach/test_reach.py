"""EstimateReach: the budget, the sample past it, and who shares an answer."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call, Caller, Deadline, Scope
from audience_service.domain.errors import OutOfTime, StoreUnavailable
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.reach.reach import Reach, ReachEstimate
from tests.conftest import seeded
from tests.domain.reach.slices import FakeSlices

pytestmark = pytest.mark.usefixtures("clock")
EVERYONE = Selection(filter=Filter("contact", {}))
TOTAL = 20_000


class Members:
    """Counts once it is let go; runs out of time where it is given less than `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[str] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def reach(self, org: str, population: Any, deadline: Deadline) -> tuple[int, None]:
        self.asked.append(org)
        self.begun.release()
        assert self.go.wait(10)
        if self.error:
            raise self.error
        left = deadline.remaining()
        if left is not None and left < self.seconds:
            raise OutOfTime("the count was stopped")
        return TOTAL // 2, None


def watched(deadline: Deadline) -> tuple[Deadline, threading.Semaphore]:
    """The same deadline, and a semaphore that it releases whenever it is asked for the time left."""
    asked = threading.Semaphore(0)

    class Watched(Deadline):
        def remaining(self) -> float | None:
            asked.release()
            return super().remaining()

    return Watched(deadline.at), asked


def reach(members: Members) -> Reach:
    audiences = Audiences(None, FilterCompiler(["contact"]))  # type: ignore[arg-type]
    slices = FakeSlices(TOTAL, lambda n: n % 2 == 0)
    return Reach(members, slices, audiences, new_random=seeded)  # type: ignore[arg-type]


def call(seconds: float | None = None, org: str = "acme") -> Call:
    return Call(Caller("ann", org, frozenset(Scope)), Deadline.after(seconds))


def at_once(members: Members, *calls: tuple[Call, float | None]) -> list[Future[ReachEstimate]]:
    """What calls come to of which the first is counting when the others arrive."""
    reaches = reach(members)
    members.go.clear()
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(reaches.estimate, calls[0][0], EVERYONE, calls[0][1])]
        assert members.begun.acquire(timeout=10)
        for other, budget in calls[1:]:
            deadline, asked = watched(other.deadline)
            futures.append(pool.submit(reaches.estimate, Call(other.caller, deadline), EVERYONE, budget))
            for _ in range(2):  # once to see what time there is, once to wait
                assert asked.acquire(timeout=10)
        members.go.set()
    return futures


def test_a_count_within_the_budget_is_exact() -> None:
    answer = reach(Members(seconds=1)).estimate(call(30), EVERYONE, budget=5)
    assert (answer.estimate.count, answer.estimate.exact) == (TOTAL // 2, True)


@pytest.mark.parametrize("budget", [0, 0.5, 1e-9])
def test_past_the_budget_a_sample_takes_the_place_of_the_count(budget: float) -> None:
    answer = reach(Members(seconds=1)).estimate(call(30), EVERYONE, budget)
    assert not answer.estimate.exact
    assert answer.estimate.lower <= TOTAL // 2 <= answer.estimate.upper
    assert answer.sample_profile == {}


def test_without_a_budget_some_of_the_deadline_is_kept_for_the_sample() -> None:
    members = Members(seconds=4.5)
    assert not reach(members).estimate(call(5), EVERYONE).estimate.exact
    assert reach(members).estimate(call(6), EVERYONE).estimate.exact
    assert reach(members).estimate(call(None), EVERYONE).estimate.exact
    assert reach(Members(seconds=0.4)).estimate(call(1), EVERYONE).estimate.exact, "of a short one a share is kept"


def test_a_deadline_that_has_passed_gets_no_estimate() -> None:
    with pytest.raises(OutOfTime):
        reach(Members()).estimate(Call(call().caller, Deadline(-1.0)), EVERYONE)


def test_the_same_asked_at_once_is_counted_once() -> None:
    members = Members()
    answers = [future.result() for future in at_once(members, (call(20), None), (call(15), None), (call(), None))]
    assert members.asked == ["acme"]
    assert all(answer is answers[0] for answer in answers)


def test_another_org_or_budget_is_counted_by_itself() -> None:
    members = Members()
    reaches = reach(members)
    members.go.clear()
    with ThreadPoolExecutor(3) as pool:
        calls = [
            pool.submit(reaches.estimate, call(20, org), EVERYONE, budget)
            for org, budget in (("acme", None), ("acme", 9), ("acme2", None))
        ]
        for _ in calls:
            assert members.begun.acquire(timeout=10)
        members.go.set()
        assert all(future.result().estimate.exact for future in calls)
    assert sorted(members.asked) == ["acme", "acme", "acme2"]


def test_an_error_is_shared() -> None:
    members = Members()
    members.error = StoreUnavailable("gone")
    for future in at_once(members, (call(20), None), (call(20), None)):
        with pytest.raises(StoreUnavailable):
            future.result()
    assert members.asked == ["acme"]


def test_a_call_with_more_time_does_not_make_do_with_the_estimate_of_one_with_less() -> None:
    members = Members(seconds=3)
    hasty, patient = at_once(members, (call(2), None), (call(60), None))
    assert not hasty.result().estimate.exact
    assert patient.result().estimate.exact
    assert members.asked == ["acme", "acme"]


def test_a_call_that_runs_out_of_time_leaves_one_with_more_to_go_on() -> None:
    members = Members()
    members.error = OutOfTime("stopped")
    first, second = at_once(members, (call(0.5), None), (call(20), None))
    assert not second.result().estimate.exact
    assert first.exception() is None or isinstance(first.exception(), OutOfTime)
    assert members.asked == ["acme", "acme"]
