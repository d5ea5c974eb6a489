"""Builds the parts that features share: the filter compiler, the resolvers and the page tokens."""

from dataclasses import dataclass
from datetime import timedelta

from audience_service.domain.audiences.model import AudienceLoader
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.erased import ErasedKeys
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.custom_audiences.loader import CustomAudienceLoader
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX
from audience_service.domain.export_log.service import ExportLog
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.schema.filter_linter import FilterLinter
from audience_service.domain.schema.service import FieldCatalog
from audience_service.domain.segments.loader import SegmentLoader
from audience_service.domain.segments.model import ID_PREFIX
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.targeting.nearby_cities import CityFinder
from audience_service.domain.targeting.taxonomy import packaged_taxonomies
from audience_service.mongo.store import Store
from audience_service.settings import Settings


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that features share."""

    compiler: FilterCompiler
    tokens: TokenCodec
    audiences: AudienceResolver
    snapshot_reader: SnapshotReader
    selection_resolver: SelectionResolver
    catalog: FieldCatalog
    linter: FilterLinter
    export_log: ExportLog


def build_core(settings: Settings, store: Store, erased: ErasedKeys) -> Core:
    """The shared parts. Raises SettingsError if there is no sealing key."""
    cities = CityFinder(lambda: packaged_taxonomies()["places"])
    compiler = FilterCompiler(settings.datatypes, settings.related_datatypes, find_cities=cities.near)
    snapshot_reader = SnapshotReader(store.snapshots, store.members, erased)
    loaders: dict[str, AudienceLoader] = {
        ID_PREFIX: SegmentLoader(store.segments),
        SNAPSHOT_PREFIX: snapshot_reader,
        CUSTOM_PREFIX: CustomAudienceLoader(store.custom_audiences),
    }
    catalog = FieldCatalog(store.samples, compiler)
    linter = FilterLinter(catalog, compiler)
    audiences = AudienceResolver(compiler, loaders, linter=linter)
    tokens = TokenCodec(*settings.sealing_keys())
    return Core(
        compiler,
        tokens,
        audiences,
        snapshot_reader,
        SelectionResolver(audiences, store.members, snapshot_reader),
        catalog,
        linter,
        ExportLog(store.export_log, tokens, timedelta(seconds=settings.export_log_retention_seconds)),
    )
