"""The definition of an audience, and digests to detect that it changed."""

from collections.abc import Hashable
from dataclasses import dataclass

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.page_tokens import digest
from audience_service.domain.filters import identity
from audience_service.domain.filters.population import Population


@dataclass(frozen=True, slots=True)
class ResolvedDefinition:
    """The members of an audience by its current definition, and what that definition depends on."""

    members: Population
    definition: str
    """A digest of the audience's filter and the filters of the audiences inside it."""
    versions: Hashable
    """The ids and versions of all audiences that were read, including those with member lists."""


def resolve_definition(ctx: RequestContext, audiences: AudienceResolver, audience_id: str) -> ResolvedDefinition:
    """The current definition of an audience. Raises AudienceNotFound, UnusableAudience."""
    audience = audiences.find(ctx, audience_id)
    preloaded = audiences.with_preloaded(ctx, [audience])
    read = sorted(preloaded.preloaded.items())
    filters = {each_id: identity(each.filter) for each_id, each in read}
    versions = tuple((each_id, each.version) for each_id, each in read)
    return ResolvedDefinition(preloaded.population_of(ctx, audience), digest(filters), versions)
