"""Which index a filter is advised: rows in tests/data/index_advice.json."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audience_service.domain.explain.index_advice import IndexAdvice, IndexEvidence, advise
from audience_service.domain.explain.query_plan import ExecutionStats, ExistingIndex, PlanKind, QueryPlan
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler
from audience_service.domain.filters.ast import Node, Or
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.field_usage import used_fields
from audience_service.domain.filters.fields import display_path
from tests.support.places import find_cities

ROWS = json.loads((Path(__file__).parents[2] / "data/index_advice.json").read_text())
SCAN = QueryPlan(PlanKind.SCAN, "", 0, ExecutionStats(1_000_000, 0, 1_573, 900))


def compiled(where: Any) -> CompiledFilter:
    return FilterCompiler(["contact"], ["order"], find_cities=find_cities).compile(Filter("contact", where))


def existing(indexes: Sequence[Sequence[str]]) -> list[ExistingIndex]:
    return [ExistingIndex("_".join(fields), tuple(fields)) for fields in indexes]


def evidence(shares: dict[str, float], there: dict[str, Any], plan: QueryPlan = SCAN) -> IndexEvidence:
    def share(node: Node) -> float:
        if isinstance(node, Or):
            return min(1.0, sum(map(share, node.children)))
        return math.prod(shares.get(display_path(path), 1.0) for path in used_fields(node))

    profiles = {path: FieldProfile(path, {"array": 0.5}, 0.5) for path in there.get("arrays", ())}
    indexes = {"contact": existing(there.get("indexes", ())), "order": existing(there.get("related", ()))}
    return IndexEvidence(plan, indexes, profiles, lambda nodes: [share(node) for node in nodes], 1_000)


def advised(where: Any, shares: dict[str, float], plan: QueryPlan = SCAN, **there: Any) -> IndexAdvice:
    return advise(compiled(where), evidence(shares, there, plan))


@pytest.mark.parametrize(
    ("where", "shares", "there", "fields", "helps"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_advice(where: Any, shares: dict[str, float], there: dict[str, Any], fields: list[str], helps: bool) -> None:
    advice = advised(where, shares, **there)
    assert (list(advice.fields), advice.useful) == (fields, helps), advice.reason
    assert advice.reason


def test_the_reason_contains_the_numbers() -> None:
    assert advised({"country": "JP"}, {"country": 0.06}).reason == (
        "about 6 % of the org's records match data.country; the index finds only these;"
        " now the query examines 1,000,000 documents for 1,573 matches"
    )
    assert advised({"country": "JP"}, {"country": 0}).reason.startswith("fewer than 1 in 1,000 of the org's records")
    assert advised({"country": "US"}, {"country": 0.45}).reason == (
        "about 45 % of the org's records match data.country: above 20 %, an index costs as much as a scan of"
        " all records"
    )


def test_an_index_that_reads_little_for_each_match_serves() -> None:
    plan = QueryPlan(PlanKind.INDEX, "data.country_sk", 0, ExecutionStats(1_100, 1_100, 1_000, 4))
    where, shares = {"country": "JP", "score": {"$gte": 1}}, {"country": 0.06, "score": 0.4}
    advice = advised(where, shares, plan, indexes=[["data.country", "sk"]])
    assert (advice.fields, advice.useful) == (("data.country", "sk"), False)
    assert advice.reason == "the index data.country_sk serves it: the query examines 1,100 documents for 1,000 matches"
    wasteful = QueryPlan(PlanKind.INDEX, "data.country_sk", 0, ExecutionStats(50_000, 50_000, 1_000, 90))
    advice = advised(where, shares, wasteful, indexes=[["data.country", "sk"]])
    assert (advice.fields, advice.useful) == (("data.country", "data.score", "sk"), True)


def test_a_plan_that_was_not_run_is_advised_from_the_sample_alone() -> None:
    advice = advised({"country": "JP"}, {"country": 0.06}, QueryPlan(PlanKind.SCAN, "", 0, None))
    assert advice.useful
    assert "now" not in advice.reason
