"""Builds SegmentService."""

from audience_service.domain.core.quotas import Quota
from audience_service.domain.segments.contacts import SegmentContacts
from audience_service.domain.segments.deletion import SegmentDeleter
from audience_service.domain.segments.reference_checker import ReferenceChecker
from audience_service.domain.segments.service import Segments
from audience_service.domain.segments.validation import SegmentValidator
from audience_service.domain.segments.version_service import SegmentVersions
from audience_service.domain.segments.writer import SegmentWriter
from audience_service.mongo.store import Store
from audience_service.rpc.services.segment import SegmentServicer
from audience_service.settings import Settings
from audience_service.wiring.core import Core


def build_segment_servicer(settings: Settings, core: Core, store: Store) -> SegmentServicer:
    """The servicer of SegmentService."""
    audiences, tokens = core.audiences, core.tokens
    validator = SegmentValidator(audiences)
    writer = SegmentWriter(store.segments, store.lists)
    reference_checker = ReferenceChecker(audiences, writer)
    quota = Quota("segments", settings.max_segments_per_org, store.segments.count, "delete segments")
    return SegmentServicer(
        Segments(
            store.segments, store.lists, audiences, validator, writer, reference_checker, core.linter, tokens, quota
        ),
        SegmentContacts(store.lists, audiences, writer, tokens),
        SegmentVersions(store.versions, validator, writer, reference_checker, tokens, quota),
        SegmentDeleter(store.uses, writer),
    )
