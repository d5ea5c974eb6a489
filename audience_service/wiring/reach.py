"""Builds ReachService."""

import random
from collections.abc import Callable

from audience_service.domain.explain.cost_gate import CostGate
from audience_service.domain.history.size_history import SizeHistoryReader
from audience_service.domain.insights.baselines import BaselineCache
from audience_service.domain.insights.service import Insights
from audience_service.domain.reach.overlap import Overlaps
from audience_service.domain.reach.service import Reach
from audience_service.mongo.erasure.tombstones import Tombstones
from audience_service.mongo.store import Store
from audience_service.rpc.services.reach import ReachServicer
from audience_service.settings import Settings
from audience_service.wiring.core import Core


def build_reach_servicer(
    settings: Settings,
    core: Core,
    store: Store,
    new_random: Callable[[], random.Random],
    tombstones: Tombstones,
    cost_gate: CostGate,
) -> ReachServicer:
    """The servicer of ReachService; `new_random` returns the generator that draws one call's sample."""
    return ReachServicer(
        Reach(
            store.members,
            store.slices,
            core.selection_resolver,
            core.linter,
            cost_gate.is_too_costly,
            new_random=new_random,
        ),
        Overlaps(store.members, core.audiences, cost_gate.check),
        Insights(
            store.insights,
            core.audiences,
            BaselineCache(settings.insights_baseline_cache_seconds, version=tombstones.version),
            SizeHistoryReader(store.watches, store.history),
            settings.insights_min_bucket_size,
            cost_gate.check,
        ),
    )
