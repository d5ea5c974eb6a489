"""The overlap use case: the members that audiences have in common."""

from collections.abc import Callable, Sequence

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import ExpressionFailed, InvalidArgument, InvalidFilter, UnusableAudience
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.domain.reach.venn_regions import VennRegions

CheckCost = Callable[[RequestContext, str, Population], None]
MIN_AUDIENCES, MAX_AUDIENCES = 2, 8
"""Each further audience doubles the regions. Eight audiences have 255, which fit in a response but not in a diagram."""


class Overlaps:
    """Counts the common members of audiences. One database command counts all the numbers of a response."""

    def __init__(
        self, members: MemberRepository, audiences: AudienceResolver, check_cost: CheckCost = lambda *_: None
    ) -> None:
        """`check_cost` raises MissingIndex for an audience whose filter scans too much."""
        self._members = members
        self._audiences = audiences
        self._check_cost = check_cost

    def compare_pair(self, ctx: RequestContext, audience_id: str, other_audience_id: str) -> VennRegions:
        """The regions of two audiences, which may be the same one.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, MissingIndex, OutOfTime.
        """
        return self._count(ctx, {"audience_id": audience_id, "other_audience_id": other_audience_id})

    def compare_all(self, ctx: RequestContext, audience_ids: Sequence[str]) -> VennRegions:
        """The regions of two to eight audiences. Raises the errors of `compare_pair`."""
        if not MIN_AUDIENCES <= len(audience_ids) <= MAX_AUDIENCES:
            # The field path of the first id that is missing, or that is one too many.
            field_path = f"audience_ids[{min(len(audience_ids), MAX_AUDIENCES)}]"
            raise InvalidArgument.at(
                field_path,
                f"{'is missing' if len(audience_ids) < MIN_AUDIENCES else 'is one too many'}; "
                f"name {MIN_AUDIENCES} to {MAX_AUDIENCES} audiences",
            )
        for index, audience_id in enumerate(audience_ids):
            if audience_id in audience_ids[:index]:
                raise InvalidArgument.at(f"audience_ids[{index}]", "repeats an earlier id; name each audience once")
        return self._count(
            ctx, {f"audience_ids[{index}]": audience_id for index, audience_id in enumerate(audience_ids)}
        )

    def _count(self, ctx: RequestContext, ids_by_path: dict[str, str]) -> VennRegions:
        """The regions of the audiences. `ids_by_path` maps the field path of each id in the request to the id."""
        resolved = self._audiences.get_many(ctx, ids_by_path)
        audiences = self._audiences.with_preloaded(ctx, resolved)
        populations: list[Population] = []
        for field_path, audience in zip(ids_by_path, resolved, strict=True):
            population = audiences.population_of(ctx, audience)
            if populations and population.datatype != populations[0].datatype:
                raise InvalidArgument.at(
                    field_path,
                    f"is an audience of {population.datatype}, but the first one is of {populations[0].datatype}; "
                    "name audiences of one datatype",
                )
            self._check_cost(ctx, ids_by_path[field_path], population)
            populations.append(population)
        read_at = now()
        ids = tuple(ids_by_path.values())
        try:
            counts = self._members.regions(ctx.org, populations, ctx.deadline)
        except InvalidFilter as error:
            # The failing filter is a saved one, not the request's. The database does not report which one failed.
            suspects = ids
            if isinstance(error, ExpressionFailed):
                by_id = zip(ids, populations, strict=True)
                suspects = tuple(
                    audience_id
                    for audience_id, population in by_id
                    if isinstance(population, CompiledFilter) and population.has_expressions
                )
            raise UnusableAudience(
                f"the saved filter of an audience fails: {error.violations[0].description}; correct its filter",
                metadata={"id": ",".join(suspects)},
            ) from error
        return VennRegions(ids, counts, read_at)
