"""Checks, explanations and streams agree for any audiences and any records, on every store."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import InvalidFilter, UnsupportedByStore
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import PageRequest
from audience_service.domain.explain.condition_tree import ConditionTreeBuilder
from audience_service.domain.explain.membership_explanation import EvaluatedCondition, MembershipExplainer
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.ast import And, Nor, Not, Or
from audience_service.domain.filters.relative_dates import UNITS
from audience_service.domain.membership.audience_pages import AudiencePages
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.segments.loader import to_list_audience
from audience_service.domain.segments.model import Segment, SegmentType
from tests.conftest import Service
from tests.support.audiences import segment_resolver
from tests.support.examples import examples
from tests.support.strategies import filters, record

RECORDS = 30
EXAMPLES = examples(60)


@dataclass
class Org:
    """An org of random records, its audiences, and the use cases."""

    service: Service
    name: str
    ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        store = self.service.store
        self.audiences = segment_resolver(store.segments, FilterCompiler(["contact"]))
        self.checks = MembershipChecker(
            store.checks,
            AudiencePages(store.segments, store.custom_audiences),
            self.audiences,
            TokenCodec(b"key"),
            ["contact"],
        )
        self.explanations = MembershipExplainer(store.checks, self.audiences)

    @property
    def ctx(self) -> RequestContext:
        return RequestContext(Caller("tester", self.name, frozenset()), Deadline.after(20))

    def save(self, where: dict[str, Any] | None, contact_ids: list[str] | None = None) -> str:
        """A new audience: a filter, or a list."""
        kind = SegmentType.DYNAMIC if contact_ids is None else SegmentType.STATIC
        made = Segment(f"segment-{uuid.uuid4().hex}", uuid.uuid4().hex, "", kind, Filter("contact", where))
        self.service.store.segments.insert(self.name, made, None, Deadline.after(20))
        self.service.store.lists.add(
            self.name, to_list_audience(made).member_list, contact_ids or [], Deadline.after(20)
        )
        return made.id

    def members(self, audience_id: str) -> set[str]:
        """As they are streamed."""
        population = self.audiences.population(self.ctx, AudienceSelector(audience_id))
        stream = self.service.store.members.stream(self.name, population, (), 1_000, "", Deadline.after(20))
        return {found["pk"] for batch in stream for found in batch}

    def membership_at(self, where: Filter, timestamps: list[datetime], contact_id: str) -> list[bool]:
        """Whether a contact matches a filter at each of some timestamps."""
        populations = [FilterCompiler(["contact"]).at(timestamp).compile(where) for timestamp in timestamps]
        checks = self.service.store.checks
        results = checks.evaluate(self.name, "contact", populations, [contact_id], (), Deadline.after(20))
        return [not isinstance(found, InvalidFilter) and contact_id in found for found in results.members]

    def clear(self, *collections: str) -> None:
        for collection in collections:
            self.service.store.database[collection].delete_many({"sk": {"$regex": f"^{self.name}/"}})


@pytest.fixture(scope="module")
def org(service: Service) -> Iterator[Org]:
    """An org next to one with a longer name whose records have the same ids."""
    rng, name = random.Random(5), f"agree{next(service.names)}"
    made = Org(service, name)
    for each in (f"{name}2", name):
        made.ids = service.insert(each, [{"id": f"{number:03}", **record(rng)} for number in range(RECORDS)])
    yield made
    for owner in (made, Org(service, f"{name}2")):
        owner.clear("contact", "segment", "audience_member")


nested = st.sampled_from(
    [
        lambda first, second: {"$or": [{"$inAudience": first}, {"$inAudience": second}]},
        lambda first, second: {"$nor": [{"$inAudience": first}], "$inAudience": second},
        lambda first, second: {"$and": [{"$nor": [{"$inAudience": first}, {"$inAudience": second}]}]},
        lambda first, second: {"$nor": [{"$and": [{"$inAudience": first}, {"$inAudience": second}]}], "state": None},
    ]
)


@dataclass(frozen=True)
class NestedAudiences:
    """Nested audiences, and the streamed members of each."""

    names: list[str]
    streamed: dict[str, set[str]]


def save_nested(org: Org, where: dict[str, Any], combine: Any, rng: random.Random) -> NestedAudiences:
    """A filter and a list, a filter over both, and a filter over that."""
    active_ids = [name for name in org.ids if name in _active_ids(org)]
    dynamic, static = org.save(where), org.save(None, rng.sample(active_ids, 8))
    inner = org.save(combine(dynamic, static))
    names = [dynamic, static, inner, org.save(combine(inner, static))]
    return NestedAudiences(names, {name: org.members(name) for name in names})


@EXAMPLES
@given(where=filters, combine=nested, seed=st.integers(0, 2**32))
def test_checks_and_streams_agree(org: Org, where: dict[str, Any], combine: Any, seed: int) -> None:
    rng = random.Random(seed)
    try:
        checked = save_nested(org, where, combine, rng)
        found = org.checks.check(org.ctx, checked.names, [*org.ids, "contact-nobody"]).memberships
        assert [membership.found for membership in found] == [*(True for _ in org.ids), False]
        for membership in found:
            assert list(membership.audience_ids) == [
                name for name in checked.names if membership.contact_id in checked.streamed[name]
            ]
        for contact_id in rng.sample(org.ids, 3):
            listed = org.checks.list_audiences(org.ctx, contact_id, PageRequest(500))
            assert not listed.unusable_ids
            assert {found.audience.id for found in listed.audiences} == {
                name for name in checked.names if contact_id in checked.streamed[name]
            }
    except UnsupportedByStore:
        assert org.service.kind == "embedded"
    finally:
        org.clear("segment", "audience_member")


@EXAMPLES
@given(where=filters, combine=nested, seed=st.integers(0, 2**32))
def test_explanations_and_streams_agree(org: Org, where: dict[str, Any], combine: Any, seed: int) -> None:
    rng = random.Random(seed)
    try:
        checked = save_nested(org, where, combine, rng)
        for contact_id in rng.sample(org.ids, 3):
            for name in checked.names:
                condition = org.explanations.explain(org.ctx, AudienceSelector(name), contact_id).condition
                assert condition.matched is (contact_id in checked.streamed[name])
                assert _follows(condition)
    except UnsupportedByStore:
        assert org.service.kind == "embedded"
    finally:
        org.clear("segment", "audience_member")


@EXAMPLES
@given(where=filters, combine=nested)
def test_explained_conditions_equal_the_compiled_ones(org: Org, where: dict[str, Any], combine: Any) -> None:
    first = org.save(where)
    second = org.save({"$inAudience": first})
    try:
        call, written = org.ctx, Filter("contact", combine(first, second))
        compiled = org.audiences.compile(call, written)
        reader = ConditionTreeBuilder(org.audiences.parse, lambda name: org.audiences.definition_of(call, name), {})
        assert reader.build_filter(written, "filter").node == compiled.node
    finally:
        org.clear("segment")


def _active_ids(org: Org) -> set[str]:
    stored = org.service.store.database["contact"].find({"sk": {"$regex": f"^{org.name}/"}})
    return {found["pk"] for found in stored if found.get("state") not in ("archived", "deleted")}


def _follows(condition: EvaluatedCondition) -> bool:
    """Whether what holds of a condition follows from what holds of those that it joins, all the way down."""
    inner = [part.matched for part in condition.children]
    if not all(map(_follows, condition.children)):
        return False
    if not inner or (len(inner) == 1 and condition.children[0].condition.node == condition.condition.node):
        return not inner or condition.matched is inner[0]
    match condition.condition.node:
        case And():
            return condition.matched is all(inner)
        case Or():
            return condition.matched is any(inner)
        case Nor() | Not():
            return condition.matched is not any(inner)
    return False


_ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe")


def _relative(rng: random.Random, depth: int) -> dict[str, Any]:
    start = _relative(rng, depth - 1) if depth > 1 else "$$NOW"
    unit, zone = rng.choice(UNITS), rng.choice(_ZONES)
    if rng.random() < 0.4:
        return {"$dateTrunc": {"date": start, "unit": unit, "timezone": zone}}
    amount = rng.randrange(-20, 20)
    return {"$dateSubtract": {"startDate": start, "unit": unit, "amount": amount, "timezone": zone}}


def _timed(rng: random.Random, depth: int) -> dict[str, Any]:
    """A random filter on the dates at `a` and `b`."""
    if depth and rng.random() < 0.6:
        parts = [_timed(rng, depth - 1) for _ in range(rng.randrange(1, 4))]
        return {rng.choice(("$and", "$or", "$nor")): parts}
    order = {rng.choice(("$gt", "$gte", "$lt", "$lte")): _relative(rng, rng.randrange(1, 3))}
    form = rng.choice(({}, {"$not": order}, {"$elemMatch": order}))
    return {rng.choice("ab"): form or order}


def test_membership_is_stable_before_its_next_change_time(real_service: Service) -> None:
    rng, org = random.Random(9), Org(real_service, f"flips{next(real_service.names)}")
    change_count = 0
    for _ in range(80):
        timestamps = [datetime.now(UTC) + timedelta(days=rng.gauss(0, 300)) for _ in range(3)]
        values = [timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000) for timestamp in timestamps]
        text = values[2].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        [contact_id] = real_service.insert(org.name, [{"data": {"a": rng.choice((values[0], text)), "b": values}}])
        where = Filter("contact", _timed(rng, 2))
        explanation = org.explanations.explain(org.ctx, AudienceSelector(filter=where), contact_id)
        next_change, holds = explanation.condition.next_change_time, explanation.condition.matched
        end = next_change or explanation.read_at + timedelta(days=3_653)
        before = [explanation.read_at + (end - explanation.read_at) * rng.random() for _ in range(30)]
        assert org.membership_at(where, [*before, end - timedelta(milliseconds=1)], contact_id) == [holds] * 31
        if next_change:
            assert org.membership_at(where, [next_change], contact_id) == [not holds]
            change_count += 1
    assert change_count > 20
