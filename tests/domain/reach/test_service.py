"""EstimateReach: the budget, the sample past it, and who shares an answer."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest

from audience_service.domain.audiences.model import ResolvedAudience
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import ResolvedSelection
from audience_service.domain.core.context import Caller, Deadline, RequestContext, Scope
from audience_service.domain.core.errors import OutOfTime, StoreUnavailable
from audience_service.domain.filters import CompiledFilter, Filter
from audience_service.domain.reach.service import Reach, ReachEstimate, flight_key
from tests.conftest import seeded
from tests.support.fake_slices import FakeKeyRanges
from tests.support.linting import NoLinter

pytestmark = pytest.mark.usefixtures("clock")
ALL_CONTACTS = AudienceSelector(filter=Filter("contact", {}))
TOTAL = 20_000


class Members:
    """Counts once it is let go; runs out of time where it is given less than `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[str] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def reach(self, org: str, population: Any, deadline: Deadline) -> tuple[int, None]:
        self.calls.append(org)
        self.started.release()
        assert self.go.wait(40)
        if self.error:
            raise self.error
        left = deadline.remaining()
        if left is not None and left < self.seconds:
            raise OutOfTime("the count was stopped")
        return TOTAL // 2, None


class FakeSelectionResolver:
    """Every selector selects all contacts; audiences are in `version`."""

    version = 0
    where: Any = None

    def resolve(self, ctx: RequestContext, selection: AudienceSelector) -> ResolvedSelection:
        all_contacts = CompiledFilter("contact", {})
        named = [audience_id for audience_id in (selection.audience_id, *selection.audience_ids) if audience_id]
        return ResolvedSelection(
            all_contacts, all_contacts, [], {}, self._audiences(named), self._audiences(selection.exclude_audience_ids)
        )

    def verify_complete(self, ctx: RequestContext, resolved_selection: ResolvedSelection, count: int | None) -> None:
        """Never raises: no choice is of a snapshot."""

    def _audiences(self, audience_ids: Sequence[str]) -> tuple[ResolvedAudience, ...]:
        saved = Filter("contact", self.where or {})
        return tuple(
            ResolvedAudience(name, name, self.version, saved, CompiledFilter("contact", {})) for name in audience_ids
        )


def watched(deadline: Deadline) -> tuple[Deadline, threading.Semaphore]:
    """The same deadline, and a semaphore that it releases whenever the remaining time is read."""
    waiting = threading.Semaphore(0)

    class Watched(Deadline):
        def remaining(self) -> float | None:
            waiting.release()
            return super().remaining()

    return Watched(deadline.expires_at), waiting


def reach(members: Members) -> Reach:
    slices = FakeKeyRanges(TOTAL, lambda n: n % 2 == 0)
    return Reach(members, slices, FakeSelectionResolver(), NoLinter(), new_random=seeded)  # type: ignore[arg-type]


def make_context(seconds: float | None = None, org: str = "acme") -> RequestContext:
    return RequestContext(Caller("ann", org, frozenset(Scope)), Deadline.after(seconds))


def run_concurrently(members: Members, *calls: tuple[RequestContext, float | None]) -> list[Future[ReachEstimate]]:
    """What calls come to of which the first is counting when the others arrive."""
    reaches = reach(members)
    members.go.clear()
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(reaches.estimate, calls[0][0], ALL_CONTACTS, calls[0][1])]
        assert members.started.acquire(timeout=40)
        for other, budget in calls[1:]:
            deadline, waiting = watched(other.deadline)
            futures.append(pool.submit(reaches.estimate, RequestContext(other.caller, deadline), ALL_CONTACTS, budget))
            for _ in range(2):  # once to see what time there is, once to wait
                assert waiting.acquire(timeout=40)
        members.go.set()
    return futures


def test_a_count_within_the_budget_is_exact() -> None:
    answer = reach(Members(seconds=1)).estimate(make_context(30), ALL_CONTACTS, budget=5)
    assert (answer.estimate.count, answer.estimate.exact) == (TOTAL // 2, True)


@pytest.mark.parametrize("budget", [0, 0.5, 1e-9])
def test_beyond_the_budget_a_sample_replaces_the_count(budget: float) -> None:
    answer = reach(Members(seconds=1)).estimate(make_context(30), ALL_CONTACTS, budget)
    assert not answer.estimate.exact
    assert answer.estimate.lower_bound <= TOTAL // 2 <= answer.estimate.upper_bound
    assert answer.sample_profile == {}


def test_without_a_budget_some_of_the_deadline_is_kept_for_the_sample() -> None:
    members = Members(seconds=4.5)
    assert not reach(members).estimate(make_context(5), ALL_CONTACTS).estimate.exact
    assert reach(members).estimate(make_context(6), ALL_CONTACTS).estimate.exact
    assert reach(members).estimate(make_context(None), ALL_CONTACTS).estimate.exact
    assert reach(Members(seconds=0.4)).estimate(make_context(1), ALL_CONTACTS).estimate.exact, (
        "of a short one a share is kept"
    )


def test_the_cost_gate_has_the_deadline_of_the_count() -> None:
    """A plan that takes longer leaves the time that is reserved for the sample."""
    remaining: list[float | None] = []

    def is_too_costly(ctx: RequestContext, _: Any) -> bool:
        remaining.append(ctx.deadline.remaining())
        raise OutOfTime("the plan took too long")

    slices, members = FakeKeyRanges(TOTAL, lambda n: n % 2 == 0), Members()
    reaches = Reach(members, slices, FakeSelectionResolver(), NoLinter(), is_too_costly, new_random=seeded)  # type: ignore[arg-type]
    assert not reaches.estimate(make_context(5), ALL_CONTACTS).estimate.exact
    assert remaining == [4.0]
    assert not members.calls


def test_a_deadline_that_has_passed_gets_no_estimate() -> None:
    with pytest.raises(OutOfTime):
        reach(Members()).estimate(RequestContext(make_context().caller, Deadline(-1.0)), ALL_CONTACTS)


def test_concurrent_identical_requests_are_counted_once() -> None:
    members = Members()
    answers = [
        future.result()
        for future in run_concurrently(
            members, (make_context(20), None), (make_context(15), None), (make_context(), None)
        )
    ]
    assert members.calls == ["acme"]
    assert all(answer is answers[0] for answer in answers)


def test_another_org_or_budget_is_counted_by_itself() -> None:
    members = Members()
    reaches = reach(members)
    members.go.clear()
    with ThreadPoolExecutor(3) as pool:
        calls = [
            pool.submit(reaches.estimate, make_context(20, org), ALL_CONTACTS, budget)
            for org, budget in (("acme", None), ("acme", 9), ("acme2", None))
        ]
        for _ in calls:
            assert members.started.acquire(timeout=40)
        members.go.set()
        assert all(future.result().estimate.exact for future in calls)
    assert sorted(members.calls) == ["acme", "acme", "acme2"]


SELECTORS = {
    "audience_id": AudienceSelector("segment-1"),
    "filter": AudienceSelector(filter=Filter("contact", {"tags": "vip"})),
    "another filter": AudienceSelector(filter=Filter("contact", {"tags": "lead"})),
    "snapshot_id": AudienceSelector(snapshot_id="segment-1"),
    "audience_ids": AudienceSelector(audience_ids=["segment-1"]),
    "audience_ids in another order": AudienceSelector(audience_ids=["segment-2", "segment-1"]),
    "more audience_ids": AudienceSelector(audience_ids=["segment-1", "segment-2"]),
    "exclude_audience_ids": AudienceSelector("segment-1", exclude_audience_ids=["segment-2"]),
    "other exclude_audience_ids": AudienceSelector("segment-1", exclude_audience_ids=["segment-3"]),
    "purpose": AudienceSelector("segment-1", purpose="email"),
    "another purpose": AudienceSelector("segment-1", purpose="ads"),
}
"""Selectors that differ in one field from another of them, by that field."""


def test_selectors_that_differ_in_any_field_are_counted_separately() -> None:
    """Concurrent calls share an answer only if every field of their selectors is equal."""
    members = Members()
    reaches = reach(members)
    members.go.clear()
    with ThreadPoolExecutor(len(SELECTORS)) as pool:
        for selection in SELECTORS.values():
            pool.submit(reaches.estimate, make_context(20), selection)
        for _ in SELECTORS:
            assert members.started.acquire(timeout=40)
        members.go.set()
    assert len(members.calls) == len(SELECTORS)


@pytest.mark.parametrize("field", [field.name for field in fields(AudienceSelector)])
def test_every_field_of_a_selector_is_part_of_the_key(field: str) -> None:
    """A field that is added to the selector must not be left out of the key of shared answers."""
    plain = AudienceSelector("segment-1", Filter("contact", {}))
    changed: dict[str, Any] = {field: Filter("lead", {}) if field == "filter" else ("segment-2",)}
    other = replace(plain, **changed)
    choice = FakeSelectionResolver().resolve(make_context(), AudienceSelector("segment-1"))
    assert flight_key(plain, choice) == flight_key(replace(plain), choice)
    assert flight_key(plain, choice) != flight_key(other, choice)


@pytest.mark.parametrize(
    "selection",
    [
        AudienceSelector("segment-1"),
        AudienceSelector(audience_ids=["segment-1", "segment-2"]),
        AudienceSelector(filter=Filter("contact", {}), exclude_audience_ids=["segment-1"]),
    ],
)
def test_audiences_in_another_version_are_counted_separately(selection: AudienceSelector) -> None:
    """A call that begins after an edit of an audience never shares the count of one that began before it."""
    populations = FakeSelectionResolver()
    before = populations.resolve(make_context(), selection)
    populations.version = 1
    after = populations.resolve(make_context(), selection)
    assert flight_key(selection, before) != flight_key(selection, after)


@pytest.mark.parametrize(
    "selection",
    [
        AudienceSelector(filter=Filter("contact", {"$inAudience": "segment-1"})),
        AudienceSelector("segment-2"),
        AudienceSelector(filter=Filter("contact", {}), exclude_audience_ids=["segment-2"]),
    ],
)
def test_a_filter_with_an_audience_inside_is_counted_separately(selection: AudienceSelector) -> None:
    """The audience may have been edited since another call read it: in the request, a segment, or an exclusion."""
    populations = FakeSelectionResolver()
    populations.where = {"$inAudience": "segment-1"}
    resolved = populations.resolve(make_context(), selection)
    assert flight_key(selection, resolved) != flight_key(selection, resolved)


def test_an_error_is_shared() -> None:
    members = Members()
    members.error = StoreUnavailable("gone")
    for future in run_concurrently(members, (make_context(20), None), (make_context(20), None)):
        with pytest.raises(StoreUnavailable):
            future.result()
    assert members.calls == ["acme"]


def test_a_call_with_more_time_does_not_make_do_with_the_estimate_of_one_with_less() -> None:
    members = Members(seconds=3)
    hasty, long_timeout = run_concurrently(members, (make_context(2), None), (make_context(60), None))
    assert not hasty.result().estimate.exact
    assert long_timeout.result().estimate.exact
    assert members.calls == ["acme", "acme"]


def test_a_call_that_runs_out_of_time_leaves_one_with_more_to_go_on() -> None:
    members = Members()
    members.error = OutOfTime("stopped")
    first, second = run_concurrently(members, (make_context(0.5), None), (make_context(20), None))
    assert not second.result().estimate.exact
    assert first.exception() is None or isinstance(first.exception(), OutOfTime)
    assert members.calls == ["acme", "acme"]
