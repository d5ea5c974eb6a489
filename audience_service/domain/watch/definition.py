"""By what an audience is what it is, and whether it is so still."""

from collections.abc import Hashable
from dataclasses import dataclass

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.page_tokens import digest
from audience_service.domain.filters import identity
from audience_service.domain.filters.population import Population


@dataclass(frozen=True, slots=True)
class ResolvedDefinition:
    """The members of an audience, and by what they are.

    `definition` is a digest of its filter and those of the audiences in it; `versions` are those of the audiences that
    were read for it, lists included.
    """

    members: Population
    definition: str
    versions: Hashable


def resolve_definition(ctx: RequestContext, audiences: AudienceResolver, audience_id: str) -> ResolvedDefinition:
    """The members of an audience by its definition now. Raises AudienceNotFound, UnusableAudience."""
    audience = audiences.find(ctx, audience_id)
    preloaded = audiences.with_preloaded(ctx, [audience])
    read = sorted(preloaded.preloaded.items())
    filters = {name: identity(each.filter) for name, each in read}
    versions = tuple((name, each.version) for name, each in read)
    return ResolvedDefinition(preloaded.population_of(ctx, audience), digest(filters), versions)
