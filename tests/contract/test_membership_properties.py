"""However one asks who is in what, the answer is the same: for any audiences and any records, on every store."""

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

    def membership_at(self, where: Filter, moments: list[datetime], contact_id: str) -> list[bool]:
        """Whether a contact is a member of a filter as of some moments."""
        populations = [FilterCompiler(["contact"]).at(moment).compile(where) for moment in moments]
        checks = self.service.store.checks
        judged = checks.evaluate(self.name, "contact", populations, [contact_id], (), Deadline.after(20))
        return [not isinstance(found, InvalidFilter) and contact_id in found for found in judged.members]

    def clear(self, *collections: str) -> None:
        for collection in collections:
            self.service.store.database[collection].delete_many({"sk": {"$regex": f"^{self.name}/"}})


@pytest.fixture(scope="module")
def org(service: Service) -> Iterator[Org]:
    """An org beside one whose name is longer and whose records have the same ids."""
    dice, name = random.Random(5), f"agree{next(service.names)}"
    made = Org(service, name)
    for each in (f"{name}2", name):
        made.ids = service.insert(each, [{"id": f"{number:03}", **record(dice)} for number in range(RECORDS)])
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
class Asked:
    """Audiences inside one another, and who is streamed of each."""

    names: list[str]
    streamed: dict[str, set[str]]


def ask(org: Org, where: dict[str, Any], combine: Any, dice: random.Random) -> Asked:
    """A filter and a list, a filter over both, and a filter over that."""
    living = [name for name in org.ids if name in _active_ids(org)]
    dynamic, static = org.save(where), org.save(None, dice.sample(living, 8))
    inner = org.save(combine(dynamic, static))
    names = [dynamic, static, inner, org.save(combine(inner, static))]
    return Asked(names, {name: org.members(name) for name in names})


@EXAMPLES
@given(where=filters, combine=nested, seed=st.integers(0, 2**32))
def test_checks_and_streams_agree(org: Org, where: dict[str, Any], combine: Any, seed: int) -> None:
    dice = random.Random(seed)
    try:
        asked = ask(org, where, combine, dice)
        found = org.checks.check(org.ctx, asked.names, [*org.ids, "contact-nobody"]).memberships
        assert [told.found for told in found] == [*(True for _ in org.ids), False]
        for told in found:
            assert list(told.audience_ids) == [name for name in asked.names if told.contact_id in asked.streamed[name]]
        for contact_id in dice.sample(org.ids, 3):
            listed = org.checks.list_audiences(org.ctx, contact_id, 500, "")
            assert not listed.unusable_ids
            assert {found.audience.id for found in listed.audiences} == {
                name for name in asked.names if contact_id in asked.streamed[name]
            }
    except UnsupportedByStore:
        assert org.service.kind == "embedded"
    finally:
        org.clear("segment", "audience_member")


@EXAMPLES
@given(where=filters, combine=nested, seed=st.integers(0, 2**32))
def test_explanations_and_streams_agree(org: Org, where: dict[str, Any], combine: Any, seed: int) -> None:
    dice = random.Random(seed)
    try:
        asked = ask(org, where, combine, dice)
        for contact_id in dice.sample(org.ids, 3):
            for name in asked.names:
                truth = org.explanations.explain(org.ctx, AudienceSelector(name), contact_id).condition
                assert truth.matched is (contact_id in asked.streamed[name])
                assert _follows(truth)
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


def _follows(truth: EvaluatedCondition) -> bool:
    """Whether what holds of a condition follows from what holds of those that it joins, all the way down."""
    inner = [part.matched for part in truth.children]
    if not all(map(_follows, truth.children)):
        return False
    if not inner or (len(inner) == 1 and truth.children[0].condition.node == truth.condition.node):
        return not inner or truth.matched is inner[0]
    match truth.condition.node:
        case And():
            return truth.matched is all(inner)
        case Or():
            return truth.matched is any(inner)
        case Nor() | Not():
            return truth.matched is not any(inner)
    return False


_ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe")


def _relative(dice: random.Random, depth: int) -> dict[str, Any]:
    start = _relative(dice, depth - 1) if depth > 1 else "$$NOW"
    unit, zone = dice.choice(UNITS), dice.choice(_ZONES)
    if dice.random() < 0.4:
        return {"$dateTrunc": {"date": start, "unit": unit, "timezone": zone}}
    amount = dice.randrange(-20, 20)
    return {"$dateSubtract": {"startDate": start, "unit": unit, "amount": amount, "timezone": zone}}


def _timed(dice: random.Random, depth: int) -> dict[str, Any]:
    """A random filter on the dates at `a` and `b`."""
    if depth and dice.random() < 0.6:
        parts = [_timed(dice, depth - 1) for _ in range(dice.randrange(1, 4))]
        return {dice.choice(("$and", "$or", "$nor")): parts}
    order = {dice.choice(("$gt", "$gte", "$lt", "$lte")): _relative(dice, dice.randrange(1, 3))}
    form = dice.choice(({}, {"$not": order}, {"$elemMatch": order}))
    return {dice.choice("ab"): form or order}


def test_membership_is_stable_before_its_next_change_time(real_service: Service) -> None:
    dice, org = random.Random(9), Org(real_service, f"flips{next(real_service.names)}")
    flips = 0
    for _ in range(80):
        moments = [datetime.now(UTC) + timedelta(days=dice.gauss(0, 300)) for _ in range(3)]
        values = [moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in moments]
        text = values[2].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        [contact_id] = real_service.insert(org.name, [{"data": {"a": dice.choice((values[0], text)), "b": values}}])
        where = Filter("contact", _timed(dice, 2))
        told = org.explanations.explain(org.ctx, AudienceSelector(filter=where), contact_id)
        flip, holds = told.condition.next_change_time, told.condition.matched
        end = flip or told.read_at + timedelta(days=3_653)
        before = [told.read_at + (end - told.read_at) * dice.random() for _ in range(30)]
        assert org.membership_at(where, [*before, end - timedelta(milliseconds=1)], contact_id) == [holds] * 31
        if flip:
            assert org.membership_at(where, [flip], contact_id) == [not holds]
            flips += 1
    assert flips > 20
