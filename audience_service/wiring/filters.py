"""Builds FilterService, and the log of slow calls, which explains their filters."""

from functools import partial

from audience_service.domain.explain.cost_gate import CostGate
from audience_service.domain.explain.filter_explanation import ExplainRepositories, FilterExplainer
from audience_service.mongo.store import Store
from audience_service.rpc.services.filter import FilterServicer
from audience_service.rpc.slow_calls import SlowCallLog
from audience_service.settings import Settings
from audience_service.wiring.core import Core


def build_filter_explainer(core: Core, store: Store) -> FilterExplainer:
    """The explainer of filters."""
    repositories = ExplainRepositories(store.plans, store.samples, store.members)
    return FilterExplainer(repositories, core.catalog, core.audiences, core.compiler)


def build_cost_gate(settings: Settings, store: Store, explainer: FilterExplainer) -> CostGate:
    """The limit on what filters scan."""
    return CostGate(store.plans, store.slices, explainer.advise, settings.max_scanned_records)


def build_filter_servicer(core: Core, explainer: FilterExplainer) -> FilterServicer:
    """The servicer of FilterService."""
    return FilterServicer(explainer, core.catalog)


def build_slow_call_log(settings: Settings, explainer: FilterExplainer) -> SlowCallLog:
    """The log of slow calls. Close it when the process stops."""
    return SlowCallLog(settings.slow_call_seconds, partial(explainer.explain, analyze=False))
