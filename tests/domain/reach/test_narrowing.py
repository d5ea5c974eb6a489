"""Sampled estimates, and those that narrow to the count."""

import itertools
import random
from typing import Any

import pytest

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import OutOfTime
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.reach.draws import Draws, Estimate
from audience_service.domain.reach.landmarks import Landmarks
from audience_service.domain.reach.narrowing import Narrowing, Step
from tests.domain.reach.slices import Clock, FakeSlices

pytestmark = pytest.mark.usefixtures("clock")
EVERYONE = FilterCompiler(["contact"]).compile(Filter("contact", {}))


def narrowing(slices: Any, seconds: float | None = None, seed: int = 3) -> Narrowing:
    return Narrowing(slices, "acme", EVERYONE, Deadline.after(seconds), random.Random(seed))


def holds(step: Step, count: int) -> bool:
    return step.estimate.lower <= count <= step.estimate.upper


@pytest.mark.parametrize("total", [0, 1, 999, 1_001, 5_000, 30_000])
def test_estimates_narrow_reads_never_fall_and_the_end_is_exact(total: int) -> None:
    slices = FakeSlices(total, lambda n: n * 7919 % 13 < 2)
    steps = list(narrowing(slices).steps())
    widths = [step.estimate.upper - step.estimate.lower for step in steps]
    assert widths == sorted(widths, reverse=True)
    assert [step.read for step in steps] == sorted(step.read for step in steps)
    assert [step.estimate.exact for step in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1].estimate == Estimate.of(slices.count)
    assert (steps[-1].record is not None) == (slices.count > 0)
    assert (steps[-1].read, steps[-1].total) == (total, total)
    assert all(step.record is None for step in steps[:-1])


@pytest.mark.parametrize("fails", [False, True])
def test_slices_are_of_the_population_as_it_was_settled_after_the_sample(*, fails: bool) -> None:
    settled = FilterCompiler(["contact"]).compile(Filter("contact", {"a": 1}))
    asked: list[tuple[str, Any]] = []

    class Settling(FakeSlices):
        def among(self, org: str, population: Any, *rest: Any) -> Any:
            asked.append(("sample", population))
            return super().among(org, population, *rest)

        def settled(self, *_: Any) -> Any:
            asked.append(("settled", EVERYONE))
            if fails:
                raise OutOfTime("it takes long")
            return settled

        def count_between(self, org: str, population: Any, *rest: Any) -> int:
            asked.append(("slice", population))
            return super().count_between(org, population, *rest)

    *_, last = narrowing(Settling(5_000, lambda n: n % 2 == 0)).steps()
    assert last.estimate == Estimate.of(2_500)
    steps = [name for name, _ in asked]
    assert steps == sorted(steps, key=["sample", "settled", "slice"].index)
    assert steps.count("settled") == 1
    assert all(found is (EVERYONE if fails or name != "slice" else settled) for name, found in asked)


def test_no_estimate_contradicts_what_has_been_counted() -> None:
    """A sample may miss, most of all where records have come since the landmarks were read: here all members have."""

    class Counting(FakeSlices):
        found = 0

        def count_between(self, *args: Any) -> int:
            found = super().count_between(*args)
            self.found += found
            return found

    slices = Counting(60_000, lambda n: n % 4 == 1 and n not in ranks)
    ranks = frozenset(slices.marks.ranks)
    missed = 0
    for step in narrowing(slices).steps():
        assert slices.found <= step.estimate.upper
        assert step.estimate.lower <= step.estimate.count <= step.estimate.upper
        missed += not holds(step, slices.count)
    assert missed, "or else this is no test"
    assert step.estimate == Estimate.of(slices.count)


def test_few_records_are_counted_by_one_query() -> None:
    slices = FakeSlices(1_000, lambda n: n % 2 == 0)
    [step] = narrowing(slices).steps()
    assert step.estimate == Estimate.of(500)
    assert slices.queries == [1_000]


def test_a_generator_that_is_closed_asks_nothing_more() -> None:
    slices = FakeSlices(30_000, lambda n: n % 2 == 0)
    steps = narrowing(slices).steps()
    next(steps)
    steps.close()
    assert slices.queries == [500]


def test_queries_that_take_too_long_are_given_up_for_smaller_ones(clock: Clock) -> None:
    slices = FakeSlices(1_200, lambda n: n % 3 == 0, clock, seconds=0.002)
    steps, late = [], [0.0]
    for step in narrowing(slices).steps():
        steps.append(step)
        late.append(clock.now)
    assert steps[-1].estimate == Estimate.of(400)
    assert max(after - before for before, after in itertools.pairwise(late)) <= 0.2 + 1e-9
    repeated = [step for step, before in itertools.pairwise(steps) if step == before]
    assert repeated, "a caller that left is noticed also while queries are given up"


def test_slices_grow_to_what_takes_a_moment(clock: Clock) -> None:
    slices = FakeSlices(500_000, lambda n: n < 0, clock, seconds=1e-6)
    list(narrowing(slices).steps())
    counted = slices.queries[3:]
    assert sum(counted) == 500_000
    assert counted[:3] == pytest.approx([2_000, 8_000, 32_000], rel=0.01)
    assert counted[3:-1] == pytest.approx([80_000] * len(counted[3:-1]), rel=0.01)


def test_a_deadline_that_passes_midway_ends_the_stream_without_an_exact_count(clock: Clock) -> None:
    slices = FakeSlices(20_000, lambda n: n >= 0, clock, seconds=0.0001)
    steps = narrowing(slices, seconds=0.3).steps()
    assert not next(steps).estimate.exact
    with pytest.raises(OutOfTime):
        list(steps)


@pytest.mark.parametrize("total", [0, 100, 4_000])
def test_what_a_sample_would_hold_whole_is_counted(total: int) -> None:
    step = narrowing(FakeSlices(total, lambda n: n % 4 == 1)).sampled()
    assert step.estimate == Estimate.of(total // 4)


def test_a_sample_gets_smaller_where_the_time_is_short(clock: Clock) -> None:
    slices = FakeSlices(40_000, lambda n: n % 4 == 1, clock, seconds=0.0005)
    step = narrowing(slices, seconds=0.4).sampled()
    assert not step.estimate.exact
    assert holds(step, slices.count)
    assert slices.queries[-1] < 4_000
    with pytest.raises(OutOfTime):
        narrowing(FakeSlices(40_000, lambda n: n >= 0, clock, seconds=0.01), seconds=0.4).sampled()


@pytest.mark.parametrize("share", [0.0, 0.0004, 0.01, 0.3, 0.995, 1.0])
@pytest.mark.parametrize("members", ["spread", "together"])
def test_intervals_hold_the_count_however_members_lie(share: float, members: str) -> None:
    total = 40_000
    first = int(share * total)
    order = list(range(total))
    if members == "spread":
        random.Random(1).shuffle(order)
    slices = FakeSlices(total, lambda n: order[n] < first)
    held = [holds(narrowing(slices, seed=seed).sampled(500), first) for seed in range(150)]
    assert sum(held) >= 0.92 * len(held)


def test_what_has_been_counted_takes_the_place_of_the_sample() -> None:
    sample = Draws(Landmarks(["a", "d", "f", "h"], [0, 3, 5, 7], 9)).with_more([3, 0, 2], ["a", "h"])
    assert sample.hits == (3, 0)
    assert (sample.left(0), sample.left(2), sample.left(4)) == (9, 5, 1)
    assert (sample.read(0), sample.read(2), sample.read(4)) == (3, 6, 9 - 1)
    behind = sample.estimate(counted=2, upto=2)
    assert (behind.lower, behind.upper) == (3, 6), "of the five left one is a member and one is none"
    assert sample.estimate(counted=2, upto=4) == Estimate(2, 2, 3), "nothing of what is left has been drawn"


def test_an_estimate_is_the_share_of_the_sample_and_half_where_there_is_none() -> None:
    marks = Landmarks([FakeSlices.key(n) for n in range(100)], range(100), 1_000)
    sample = Draws(marks).with_more(range(40), [FakeSlices.key(n) for n in range(10)])
    assert (sample.estimate().count, sample.estimate(7, 40).count) == (250, 7 + 960 // 2)


def test_of_two_intervals_the_narrower_one_is_kept_as_far_as_it_is_still_possible() -> None:
    earlier, now = Estimate(50, 40, 60), Estimate(70, 60, 90)
    assert now.unless_narrower(earlier.within(0, 100)) == earlier
    assert now.unless_narrower(earlier.within(55, 58)) == Estimate(55, 55, 58)
    assert now.unless_narrower(earlier.within(61, 100)) == now, "more have been counted than it has room for"
    assert Estimate(5, 1, 9).unless_narrower(earlier) == Estimate(5, 1, 9)
    assert Estimate(50, 45, 65).unless_narrower(earlier) == Estimate(50, 45, 65), "of two as wide the later one"
