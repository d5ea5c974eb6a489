"""From what a caller selects to the population that it comes to: unions, less those who are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.audiences import Audiences, Selection
from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.filters import CompiledFilter, identity
from audience_service.domain.filters.sets import difference, of_list, union
from audience_service.domain.ports import ContactList, MemberRepository, Population
from audience_service.domain.purposes import suppressed
from audience_service.domain.segment import Segment

MAX_AUDIENCES = 20
"""Audiences of a union, and audiences to leave out."""

EXCLUDED = "excluded"
"""The reason of those who are members of an audience that is left out."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a selection comes to.

    `population` are the candidates without those for whom a reason holds. `identity` tells the selection from others of
    the org, in JSON values, whatever versions its audiences are in.
    """

    population: Population
    candidates: Population
    identity: Sequence[Any]
    reasons: Mapping[str, CompiledFilter] = field(default_factory=dict)
    """Who is left out, by reason, in the order in which reasons count."""
    sources: tuple[Segment, ...] = ()
    excluded_sources: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Exclusion:
    """How many were left out for a reason, and for none before it."""

    reason: str
    count: int


class Populations:
    """Finds what selections come to, within the call's org."""

    def __init__(self, audiences: Audiences, members: MemberRepository) -> None:
        self._audiences = audiences
        self._members = members

    def choose(self, call: Call, selection: Selection) -> Choice:
        """The population of a selection.

        Raises InvalidArgument, FilterTooLarge, AudienceNotFound, UnusableAudience.
        """
        candidates, sources = self._candidates(call, selection)
        excluded, excluded_sources = self._several(call, selection.exclude_audience_ids, "exclude_audience_ids")
        for index, found in enumerate(excluded):
            _check_datatype(found, candidates, f"exclude_audience_ids[{index}]")
        reasons = {EXCLUDED: union(*map(as_filter, excluded))} if excluded else {}
        reasons |= suppressed(candidates.datatype, selection.purpose)
        population = candidates
        if reasons:
            population = difference(as_filter(candidates), *reasons.values())
            self._audiences.check(population)
        return Choice(population, candidates, _identity(selection), reasons, sources, excluded_sources)

    def less(self, choice: Choice, reason: str, left_out: CompiledFilter) -> Choice:
        """The choice, less those whom a filter finds, for a reason that counts last. Raises FilterTooLarge."""
        population = difference(as_filter(choice.population), left_out)
        self._audiences.check(population)
        return replace(choice, population=population, reasons={**choice.reasons, reason: left_out})

    def exclusions(self, call: Call, choice: Choice, after: str = "", until: str = "") -> list[Exclusion]:
        """How many were left out, by reason, in the part behind the sk `after` up to `until`; "" is no bound."""
        if not choice.reasons:
            return []
        reasons = list(choice.reasons.values())
        counts = self._members.exclusions(call.org, choice.candidates, reasons, call.deadline, after, until)
        return [Exclusion(reason, count) for reason, count in zip(choice.reasons, counts, strict=True)]

    def _candidates(self, call: Call, selection: Selection) -> tuple[Population, tuple[Segment, ...]]:
        if not selection.audience_ids:
            if selection.filter is not None or not selection.audience_id:
                return self._audiences.population(call, selection), ()
            segment = self._audiences.get(call, selection.audience_id)
            return self._members_of(call, segment, selection.audience_place), (segment,)
        if selection.filter is not None or selection.audience_id:
            raise InvalidArgument.at("audience_ids", "is one population too many; give these or another one")
        populations, sources = self._several(call, selection.audience_ids, "audience_ids")
        for index, found in enumerate(populations[1:], 1):
            _check_datatype(found, populations[0], f"audience_ids[{index}]")
        if len(populations) == 1:
            return populations[0], sources
        merged = replace(union(*map(as_filter, populations)), place="audience_ids")
        self._audiences.check(merged)
        return merged, sources

    def _several(
        self, call: Call, audience_ids: Sequence[str], place: str
    ) -> tuple[list[Population], tuple[Segment, ...]]:
        if len(audience_ids) > MAX_AUDIENCES:
            raise InvalidArgument.at(place, f"names {len(audience_ids)} audiences, more than {MAX_AUDIENCES}")
        for index, audience_id in enumerate(audience_ids):
            if not audience_id or audience_id in audience_ids[:index]:
                raise InvalidArgument.at(f"{place}[{index}]", "is there already" if audience_id else "is empty")
        segments = [self._audiences.get(call, audience_id) for audience_id in audience_ids]
        populations = [self._members_of(call, segment, f"{place}[{index}]") for index, segment in enumerate(segments)]
        return populations, tuple(segments)

    def _members_of(self, call: Call, segment: Segment, place: str) -> Population:
        found = self._audiences.of_segment(call, segment)
        return found if isinstance(found, ContactList) else replace(found, place=place)


def as_filter(population: Population) -> CompiledFilter:
    """A population as what finds its members among all records."""
    return of_list(population) if isinstance(population, ContactList) else population


def _check_datatype(population: Population, first: Population, place: str) -> None:
    if population.datatype != first.datatype:
        raise InvalidArgument.at(place, f"is an audience of {population.datatype}, not of {first.datatype}")


def _identity(selection: Selection) -> list[Any]:
    """What was there before unions and exclusions stays as it was, so that older cursors go on."""
    plain = [selection.audience_id, identity(selection.filter)]
    further = [sorted(selection.audience_ids), sorted(selection.exclude_audience_ids), selection.purpose]
    return [*plain, *(further if any(further) else [])]
