"""Builds TargetingService, and the importer of the ad platforms' exports."""

from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.targeting.importer import TaxonomyImporter
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.service import Targeting
from audience_service.domain.targeting.taxonomy import packaged_taxonomies
from audience_service.mongo.store import Store
from audience_service.rpc.services.targeting import TargetingServicer


def build_targeting_servicer(platform_ids: PlatformIds, store: Store, tokens: TokenCodec) -> TargetingServicer:
    """The servicer of TargetingService."""
    return TargetingServicer(Targeting(packaged_taxonomies(), platform_ids, store.platform_trees, tokens))


def taxonomy_importer(store: Store) -> TaxonomyImporter:
    """The importer of the ad platforms' exports into a store."""
    return TaxonomyImporter(packaged_taxonomies(), store.platform_ids, store.platform_trees)
