"""The limit on what a filter scans, on a real engine; the embedded store has no plans."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audience_service.domain.core.context import Caller, Deadline, RequestContext, Scope
from audience_service.domain.explain.cost_gate import CostGate
from audience_service.domain.explain.index_advice import IndexAdvice
from audience_service.domain.filters import Filter
from audience_service.domain.filters.compiler import FilterCompiler
from audience_service.mongo.query import join_prefetch
from audience_service.sample_data import sample_contacts
from tests import conftest
from tests.conftest import Service, mongo_database, run_service
from tests.support.client import Refusal

COUNT, LIMIT = 4_500, 4_400
"""More records than a sample has, which would be exact otherwise."""
SELECTIVE: Any = {"datatype": "contact", "where": {"tags": "vip", "score": {"$gte": 80}}}
BROAD: Any = {"datatype": "contact", "where": {"leadStage": {"$ne": "customer"}}}


@pytest.fixture(scope="module")
def limited(real_uri: str) -> Iterator[Service]:
    """A server with the limit, and an org with more records."""
    with mongo_database() as store:
        store.insert(list(sample_contacts("large", COUNT)))
        store.insert(list(sample_contacts("small", 500)))
        yield from run_service("mongodb", store, max_scanned_records=LIMIT, mongodb_uri=real_uri)


def test_a_filter_that_scans_too_much_is_estimated(limited: Service) -> None:
    """Its interval contains the count. An org below the limit, and a filter with an index, are counted."""
    client = limited.client("large")
    estimate = client.call("EstimateReach", {"filter": SELECTIVE})
    exact = len(client.members(filter=SELECTIVE))
    assert not estimate.exact
    assert estimate.lower_bound <= exact <= estimate.upper_bound
    by_id = {"datatype": "contact", "where": {"pk": client.members(filter=SELECTIVE)[0]}}
    found = client.call("EstimateReach", {"filter": by_id})
    assert (found.count, found.exact) == (1, True)
    assert limited.client("small").call("EstimateReach", {"filter": SELECTIVE}).exact


def test_an_analysis_is_refused_with_the_index_to_create(limited: Service, refused: Callable[..., Refusal]) -> None:
    """Until it exists. A filter that no index serves is analysed."""
    client = limited.client("large")
    selective, broad = (
        client.create(name=name, filter=where).id for name, where in (("vips", SELECTIVE), ("broad", BROAD))
    )
    assert client.call("GetInsights", {"audienceId": broad, "dimensions": ["country"]}).count
    calls: list[tuple[str, Any]] = [
        ("GetInsights", {"audienceId": selective, "dimensions": ["country"]}),
        ("GetOverlap", {"audienceId": broad, "otherAudienceId": selective}),
        ("GetOverlapRegions", {"audienceIds": [broad, selective]}),
    ]
    for rpc, request in calls:
        refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
        assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "MISSING_INDEX")
        index = "contact(data.tags, data.score, sk)"
        assert dict(refusal.info.metadata) == {"id": selective, "limit": str(LIMIT), "index": index}
    limited.store.database["contact"].create_index([("data.tags", 1), ("data.score", 1), ("sk", 1)])
    for rpc, request in calls:
        client.call(rpc, request)
    assert client.call("EstimateReach", {"filter": SELECTIVE}).exact


def test_the_plan_of_a_relation_reads_no_related_records(limited: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def prefetch(*_: object) -> None:
        raise AssertionError("the plan reads related records")

    monkeypatch.setattr(join_prefetch.JoinPrefetcher, "prefetch", prefetch)
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}
    compiled = FilterCompiler(["contact"], ["order"]).compile(Filter("contact", {"$related": relation}))
    ctx = RequestContext(Caller("ann", "large", frozenset(Scope)), Deadline.after(60))
    advice = IndexAdvice("contact", (), useful=False, reason="")
    gate = CostGate(limited.store.plans, limited.store.slices, lambda *_: advice, LIMIT)
    assert gate.is_too_costly(ctx, compiled)


def test_the_limit_needs_a_database() -> None:
    with pytest.raises(ValueError, match="AUDIENCE_MAX_SCANNED_RECORDS needs AUDIENCE_MONGODB_URI"):
        conftest.test_settings(max_scanned_records=1)
