"""Builds AudienceService."""

from audience_service.domain.audiences.service import AudienceUses, RecordFinder
from audience_service.domain.core.quotas import Quota
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX
from audience_service.domain.erasure.service import Erasures
from audience_service.domain.export_log.service import ExportLog
from audience_service.domain.segments.model import ID_PREFIX
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX
from audience_service.mongo.store import Store
from audience_service.rpc.services.audience import AudienceServicer
from audience_service.settings import Settings


def build_audience_servicer(
    settings: Settings, store: Store, erasures: Erasures, export_log: ExportLog
) -> AudienceServicer:
    """The servicer of AudienceService."""
    custom_audiences, snapshots = store.custom_audiences, store.snapshots
    finders = {
        ID_PREFIX: RecordFinder(store.segments.get, store.segments.find),
        CUSTOM_PREFIX: RecordFinder(custom_audiences.get, custom_audiences.get),
        SNAPSHOT_PREFIX: RecordFinder(snapshots.get, snapshots.get),
    }
    quota = Quota("uses", settings.max_uses_per_org, store.uses.count, "release uses")
    return AudienceServicer(AudienceUses(store.uses, finders, quota), erasures, export_log)
