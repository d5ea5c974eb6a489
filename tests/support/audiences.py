"""Audience resolvers for tests that build use cases themselves."""

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.segments.loader import SegmentLoader
from audience_service.domain.segments.model import ID_PREFIX
from audience_service.domain.segments.repository import SegmentRepository


def segment_resolver(segments: SegmentRepository, compiler: FilterCompiler) -> AudienceResolver:
    """A resolver that knows segments alone."""
    return AudienceResolver(compiler, {ID_PREFIX: SegmentLoader(segments)})
