"""Builds FilterService."""

from audience_service.domain.explain.filter_explanation import ExplainRepositories, FilterExplainer
from audience_service.domain.schema.service import FieldCatalog
from audience_service.mongo.store import Store
from audience_service.rpc.services.filter import FilterServicer
from audience_service.wiring.core import Core


def build_filter_servicer(core: Core, store: Store) -> FilterServicer:
    """The servicer of FilterService."""
    catalog = FieldCatalog(store.samples, core.compiler)
    repositories = ExplainRepositories(store.plans, store.samples, store.members)
    return FilterServicer(FilterExplainer(repositories, catalog, core.audiences, core.compiler), catalog)
