"""Builds FilterService."""

from audience_service.domain.explain.filter_explanation import ExplainRepositories, FilterExplainer
from audience_service.mongo.store import Store
from audience_service.rpc.services.filter import FilterServicer
from audience_service.wiring.core import Core


def build_filter_servicer(core: Core, store: Store) -> FilterServicer:
    """The servicer of FilterService."""
    repositories = ExplainRepositories(store.plans, store.samples, store.members)
    return FilterServicer(FilterExplainer(repositories, core.catalog, core.audiences, core.compiler), core.catalog)
