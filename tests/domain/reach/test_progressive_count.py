"""Sampled estimates, and those that narrow to the count."""

import functools
import itertools
import random
from typing import Any

import pytest

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.reach import key_draw
from audience_service.domain.reach.confidence import clopper_pearson
from audience_service.domain.reach.key_draw import Estimate, KeyDraw
from audience_service.domain.reach.progressive_count import Progress, ProgressiveCounter
from tests.support.fake_slices import Clock, FakeKeyRanges

pytestmark = pytest.mark.usefixtures("clock")
ALL_CONTACTS = FilterCompiler(["contact"]).compile(Filter("contact", {}))
COMPUTED_ONCE = functools.cache(clopper_pearson)


def narrowing(slices: Any, seconds: float | None = None, seed: int = 3) -> ProgressiveCounter:
    return ProgressiveCounter(slices, "acme", ALL_CONTACTS, Deadline.after(seconds), random.Random(seed))


def contains_count(step: Progress, count: int) -> bool:
    return step.estimate.lower_bound <= count <= step.estimate.upper_bound


@pytest.mark.parametrize("total", [0, 1, 999, 1_001, 5_000, 30_000])
def test_estimates_narrow_reads_never_fall_and_the_end_is_exact(total: int) -> None:
    slices = FakeKeyRanges(total, lambda n: n * 7919 % 13 < 2)
    steps = list(narrowing(slices).run())
    widths = [step.estimate.upper_bound - step.estimate.lower_bound for step in steps]
    assert widths == sorted(widths, reverse=True)
    assert [step.scanned_count for step in steps] == sorted(step.scanned_count for step in steps)
    assert [step.estimate.exact for step in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1].estimate == Estimate.of(slices.count)
    assert (steps[-1].record is not None) == (slices.count > 0)
    assert (steps[-1].scanned_count, steps[-1].total_count) == (total, total)
    assert all(step.record is None for step in steps[:-1])


@pytest.mark.parametrize("fails", [False, True])
def test_slices_use_the_population_with_prefetched_joins(*, fails: bool) -> None:
    settled = FilterCompiler(["contact"]).compile(Filter("contact", {"a": 1}))
    calls: list[tuple[str, Any]] = []

    class Settling(FakeKeyRanges):
        def filter_keys(self, org: str, population: Any, *rest: Any) -> Any:
            calls.append(("sample", population))
            return super().filter_keys(org, population, *rest)

        def with_prefetched_joins(self, *_: Any) -> Any:
            calls.append(("settled", ALL_CONTACTS))
            if fails:
                raise OutOfTime("it takes long")
            return settled

        def count_range(self, org: str, population: Any, *rest: Any) -> int:
            calls.append(("slice", population))
            return super().count_range(org, population, *rest)

    *_, last = narrowing(Settling(5_000, lambda n: n % 2 == 0)).run()
    assert last.estimate == Estimate.of(2_500)
    steps = [name for name, _ in calls]
    assert steps == sorted(steps, key=["sample", "settled", "slice"].index)
    assert steps.count("settled") == 1
    assert all(found is (ALL_CONTACTS if fails or name != "slice" else settled) for name, found in calls)


def test_estimates_agree_with_counted_slices() -> None:
    """A sample may miss records that are newer than its keys; here all members are newer."""

    class Counting(FakeKeyRanges):
        found = 0

        def count_range(self, *args: Any) -> int:
            found = super().count_range(*args)
            self.found += found
            return found

    slices = Counting(60_000, lambda n: n % 4 == 1 and n not in ranks)
    ranks = frozenset(slices.sample.ranks)
    missed = 0
    for step in narrowing(slices).run():
        assert slices.found <= step.estimate.upper_bound
        assert step.estimate.lower_bound <= step.estimate.count <= step.estimate.upper_bound
        missed += not contains_count(step, slices.count)
    assert missed, "or else this is no test"
    assert step.estimate == Estimate.of(slices.count)


def test_few_records_are_counted_by_one_query() -> None:
    slices = FakeKeyRanges(1_000, lambda n: n % 2 == 0)
    [step] = narrowing(slices).run()
    assert step.estimate == Estimate.of(500)
    assert slices.queries == [1_000]


def test_a_closed_generator_sends_no_more_queries() -> None:
    slices = FakeKeyRanges(30_000, lambda n: n % 2 == 0)
    steps = narrowing(slices).run()
    next(steps)
    steps.close()
    assert slices.queries == [500]


def test_slow_queries_are_cancelled_and_retried_smaller(clock: Clock) -> None:
    slices = FakeKeyRanges(1_200, lambda n: n % 3 == 0, clock, seconds=0.02)
    steps, late = [], [0.0]
    for step in narrowing(slices).run():
        steps.append(step)
        late.append(clock.now)
    assert steps[-1].estimate == Estimate.of(400)
    assert max(after - before for before, after in itertools.pairwise(late)) <= 4 + 1e-9
    repeated = [step for step, before in itertools.pairwise(steps) if step == before]
    assert repeated, "a cancelled call is noticed while queries time out"


@pytest.mark.slow
def test_slices_grow_to_the_target_duration(clock: Clock) -> None:
    slices = FakeKeyRanges(500_000, lambda n: n < 0, clock, seconds=20e-6)
    list(narrowing(slices).run())
    counted = slices.queries[2:]
    assert sum(counted) == 500_000
    assert counted[0] == pytest.approx(150_000, rel=0.01), "what takes 3 s at the speed of the samples"
    assert counted[1:-1] == pytest.approx([100_000] * len(counted[1:-1]), rel=0.01)


def test_a_deadline_that_passes_midway_ends_the_stream_without_an_exact_count(clock: Clock) -> None:
    slices = FakeKeyRanges(20_000, lambda n: n >= 0, clock, seconds=0.0001)
    steps = narrowing(slices, seconds=0.3).run()
    assert not next(steps).estimate.exact
    with pytest.raises(OutOfTime):
        list(steps)


@pytest.mark.parametrize("total", [0, 100, 4_000])
def test_a_population_smaller_than_the_sample_is_counted(total: int) -> None:
    step = narrowing(FakeKeyRanges(total, lambda n: n % 4 == 1)).estimate_from_sample()
    assert step.estimate == Estimate.of(total // 4)


def test_the_sample_shrinks_to_fit_the_deadline(clock: Clock) -> None:
    slices = FakeKeyRanges(40_000, lambda n: n % 4 == 1, clock, seconds=0.0005)
    step = narrowing(slices, seconds=0.4).estimate_from_sample()
    assert not step.estimate.exact
    assert contains_count(step, slices.count)
    assert slices.queries[-1] < 4_000
    with pytest.raises(OutOfTime):
        narrowing(FakeKeyRanges(40_000, lambda n: n >= 0, clock, seconds=0.01), seconds=0.4).estimate_from_sample()


@pytest.mark.parametrize("share", [0.0, 0.0004, 0.01, 0.3, 0.995, 1.0])
@pytest.mark.parametrize("members", ["spread", "together"])
@pytest.mark.slow
def test_intervals_contain_the_count_for_any_distribution(
    share: float, members: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_draw, "clopper_pearson", COMPUTED_ONCE)  # the draws repeat few pairs of hits and draws
    total = 40_000
    first = int(share * total)
    order = list(range(total))
    if members == "spread":
        random.Random(1).shuffle(order)
    slices = FakeKeyRanges(total, lambda n: order[n] < first)
    hits = [contains_count(narrowing(slices, seed=seed).estimate_from_sample(500), first) for seed in range(150)]
    assert sum(hits) >= 0.92 * len(hits)


def test_counted_slices_replace_their_sample() -> None:
    sample = KeyDraw(KeySample(["a", "d", "f", "h"], [0, 3, 5, 7], 9)).with_more([3, 0, 2], ["a", "h"])
    assert sample.hit_indexes == (3, 0)
    assert (sample.remaining_count(0), sample.remaining_count(2), sample.remaining_count(4)) == (9, 5, 1)
    assert (sample.scanned_count(0), sample.scanned_count(2), sample.scanned_count(4)) == (3, 6, 9 - 1)
    partly_counted = sample.estimate(counted=2, slice_count=2)
    assert (partly_counted.lower_bound, partly_counted.upper_bound) == (3, 6), (
        "of the five left one is a member and one is none"
    )
    assert sample.estimate(counted=2, slice_count=4) == Estimate(2, 2, 3), "nothing of what is left has been drawn"


def test_an_estimate_is_the_sample_share_or_half_without_a_sample() -> None:
    marks = KeySample([FakeKeyRanges.key(n) for n in range(100)], range(100), 1_000)
    sample = KeyDraw(marks).with_more(range(40), [FakeKeyRanges.key(n) for n in range(10)])
    assert (sample.estimate().count, sample.estimate(7, 40).count) == (250, 7 + 960 // 2)


def test_of_two_intervals_the_narrower_one_is_kept_as_far_as_it_is_still_possible() -> None:
    earlier, now = Estimate(50, 40, 60), Estimate(70, 60, 90)
    assert now.narrower_of(earlier.clamp(0, 100)) == earlier
    assert now.narrower_of(earlier.clamp(55, 58)) == Estimate(55, 55, 58)
    assert now.narrower_of(earlier.clamp(61, 100)) == now, "more have been counted than it has room for"
    assert Estimate(5, 1, 9).narrower_of(earlier) == Estimate(5, 1, 9)
    assert Estimate(50, 45, 65).narrower_of(earlier) == Estimate(50, 45, 65), "of two as wide the later one"
