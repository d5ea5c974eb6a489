"""The use case on overlap: which members audiences have in common."""

from collections.abc import Sequence

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.errors import ExpressionFailed, InvalidArgument, InvalidFilter, UnusableAudience
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.ports import MemberRepository, Population
from audience_service.domain.reach.regions import Regions

LEAST_AUDIENCES, MOST_AUDIENCES = 2, 8
"""Each audience more doubles the regions: eight have 255, which fit an answer and no picture."""


class Overlaps:
    """Counts what audiences share. Every number of an answer follows from counts that one command has made."""

    def __init__(self, members: MemberRepository, audiences: Audiences) -> None:
        self._members = members
        self._audiences = audiences

    def between(self, call: Call, audience_id: str, other_id: str) -> Regions:
        """The regions of two audiences, which may be the same one.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, OutOfTime.
        """
        return self._count(call, {"audience_id": audience_id, "other_audience_id": other_id})

    def among(self, call: Call, audience_ids: Sequence[str]) -> Regions:
        """The regions of two to eight audiences. Raises as `between` does."""
        if not LEAST_AUDIENCES <= len(audience_ids) <= MOST_AUDIENCES:
            # The place of the first that is missing, or too many.
            place = f"audience_ids[{min(len(audience_ids), MOST_AUDIENCES)}]"
            raise InvalidArgument.at(
                place,
                f"{'is missing' if len(audience_ids) < LEAST_AUDIENCES else 'is one too many'}; "
                f"give {LEAST_AUDIENCES} to {MOST_AUDIENCES} audiences",
            )
        for index, audience_id in enumerate(audience_ids):
            if audience_id in audience_ids[:index]:
                raise InvalidArgument.at(f"audience_ids[{index}]", "is there already")
        return self._count(call, {f"audience_ids[{index}]": found for index, found in enumerate(audience_ids)})

    def _count(self, call: Call, named: dict[str, str]) -> Regions:
        """The regions of the audiences by the places in the request that name them."""
        found = self._audiences.get_many(call, named)
        audiences = self._audiences.knowing(call, found)
        populations: list[Population] = []
        for place, audience in zip(named, found, strict=True):
            population = audiences.members_of(call, audience)
            if populations and population.datatype != populations[0].datatype:
                raise InvalidArgument.at(
                    place, f"is an audience of {population.datatype}, the first one of {populations[0].datatype}"
                )
            populations.append(population)
        read_at = now()
        ids = tuple(named.values())
        try:
            counts = self._members.regions(call.org, populations, call.deadline)
        except InvalidFilter as error:
            # They are saved filters, none of the request's. Which of them it was, the database does not say.
            suspects = ids
            if isinstance(error, ExpressionFailed):
                by_id = zip(ids, populations, strict=True)
                suspects = tuple(
                    name for name, found in by_id if isinstance(found, CompiledFilter) and found.expressions
                )
            raise UnusableAudience(
                f"an audience's saved filter cannot be run: {error.violations[0].description}",
                metadata={"id": ",".join(suspects)},
            ) from error
        return Regions(ids, counts, read_at)
