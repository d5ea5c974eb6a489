"""The use case on overlap: which members audiences have in common."""

from collections.abc import Sequence

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import ExpressionFailed, InvalidArgument, InvalidFilter, UnusableAudience
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.domain.reach.venn_regions import VennRegions

MIN_AUDIENCES, MAX_AUDIENCES = 2, 8
"""Each audience more doubles the regions: eight have 255, which fit an answer and no picture."""


class Overlaps:
    """Counts what audiences share. Every number of an answer follows from counts that one command has made."""

    def __init__(self, members: MemberRepository, audiences: AudienceResolver) -> None:
        self._members = members
        self._audiences = audiences

    def compare_pair(self, ctx: RequestContext, audience_id: str, other_audience_id: str) -> VennRegions:
        """The regions of two audiences, which may be the same one.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, OutOfTime.
        """
        return self._count(ctx, {"audience_id": audience_id, "other_audience_id": other_audience_id})

    def compare_all(self, ctx: RequestContext, audience_ids: Sequence[str]) -> VennRegions:
        """The regions of two to eight audiences. Raises as `between` does."""
        if not MIN_AUDIENCES <= len(audience_ids) <= MAX_AUDIENCES:
            # The place of the first that is missing, or too many.
            field_path = f"audience_ids[{min(len(audience_ids), MAX_AUDIENCES)}]"
            raise InvalidArgument.at(
                field_path,
                f"{'is missing' if len(audience_ids) < MIN_AUDIENCES else 'is one too many'}; "
                f"give {MIN_AUDIENCES} to {MAX_AUDIENCES} audiences",
            )
        for index, audience_id in enumerate(audience_ids):
            if audience_id in audience_ids[:index]:
                raise InvalidArgument.at(f"audience_ids[{index}]", "is there already")
        return self._count(ctx, {f"audience_ids[{index}]": found for index, found in enumerate(audience_ids)})

    def _count(self, ctx: RequestContext, ids_by_path: dict[str, str]) -> VennRegions:
        """The regions of the audiences by the places in the request that name them."""
        found = self._audiences.get_many(ctx, ids_by_path)
        audiences = self._audiences.with_preloaded(ctx, found)
        populations: list[Population] = []
        for field_path, audience in zip(ids_by_path, found, strict=True):
            population = audiences.population_of(ctx, audience)
            if populations and population.datatype != populations[0].datatype:
                raise InvalidArgument.at(
                    field_path, f"is an audience of {population.datatype}, the first one of {populations[0].datatype}"
                )
            populations.append(population)
        read_at = now()
        ids = tuple(ids_by_path.values())
        try:
            counts = self._members.regions(ctx.org, populations, ctx.deadline)
        except InvalidFilter as error:
            # They are saved filters, none of the request's. Which of them it was, the database does not say.
            suspects = ids
            if isinstance(error, ExpressionFailed):
                by_id = zip(ids, populations, strict=True)
                suspects = tuple(
                    name for name, found in by_id if isinstance(found, CompiledFilter) and found.has_expressions
                )
            raise UnusableAudience(
                f"an audience's saved filter cannot be run: {error.violations[0].description}",
                metadata={"id": ",".join(suspects)},
            ) from error
        return VennRegions(ids, counts, read_at)
