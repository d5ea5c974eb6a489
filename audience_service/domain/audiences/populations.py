"""From what a caller selects to the population that it comes to: unions, less those who are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.audiences.audience import NamedAudience
from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.purposes import suppressed
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.filters import CompiledFilter, identity
from audience_service.domain.filters.sets import as_filter, difference, union
from audience_service.domain.ports import MemberRepository, Population
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.snapshots.snapshot import Snapshot

MAX_AUDIENCES = 20
"""Audiences of a union, and audiences to leave out."""

INACTIVE = "inactive"
"""The reason for members of a snapshot that were archived or deleted since."""

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
    sources: tuple[NamedAudience, ...] = ()
    excluded_sources: tuple[NamedAudience, ...] = ()
    snapshot: Snapshot | None = None
    """Whose rows the candidates are, where they are a snapshot's."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """How many were left out for a reason, and for none before it."""

    reason: str
    count: int


class Populations:
    """Finds what selections come to, within the call's org."""

    def __init__(self, audiences: Audiences, members: MemberRepository, snapshots: ReadySnapshots) -> None:
        self._audiences = audiences
        self._members = members
        self._snapshots = snapshots

    def choose(self, call: Call, selection: Selection) -> Choice:
        """The population of a selection.

        Raises InvalidArgument, FilterTooLarge, AudienceNotFound, UnusableAudience, SnapshotNotFound, SnapshotNotReady.
        """
        snapshot = self._snapshots.ready(call, selection.snapshot_id) if selection.snapshot_id else None
        # As of one moment, so that whatever an audience's dates are relative to, it has no members less itself.
        audiences = self._audiences.at(now())
        candidates, sources = _candidates(call, audiences, selection, snapshot)
        excluded, excluded_sources = _several(call, audiences, selection.exclude_audience_ids, "exclude_audience_ids")
        for index, found in enumerate(excluded):
            _check_datatype(found, candidates, f"exclude_audience_ids[{index}]")
        reasons = {EXCLUDED: union(*map(as_filter, excluded), place="exclude_audience_ids")} if excluded else {}
        reasons |= suppressed(candidates.datatype, selection.purpose)
        population = candidates
        if reasons:
            population = difference(as_filter(candidates), *reasons.values())
            self._audiences.check(population)
        return Choice(
            population, candidates, selection_identity(selection), reasons, sources, excluded_sources, snapshot
        )

    def check_whole(self, call: Call, choice: Choice, count: int | None) -> None:
        """Raise where rows of the choice's snapshot went while they were read; `count` is how many were, where all.

        Raises SnapshotNotFound.
        """
        if choice.snapshot:
            self._snapshots.check_whole(call, choice.snapshot, None if choice.reasons else count)

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
        candidates, inactive = choice.candidates, []
        if choice.snapshot:
            candidates = choice.snapshot.living
            frozen, living = (
                self._members.count(call.org, found, call.deadline, after, until)
                for found in (choice.candidates, candidates)
            )
            inactive = [Exclusion(INACTIVE, frozen - living)]
        counts = self._members.exclusions(call.org, candidates, reasons, call.deadline, after, until)
        return [*inactive, *(Exclusion(reason, count) for reason, count in zip(choice.reasons, counts, strict=True))]


def _candidates(
    call: Call, audiences: Audiences, selection: Selection, snapshot: Snapshot | None
) -> tuple[Population, tuple[NamedAudience, ...]]:
    if not selection.audience_ids:
        if snapshot:
            return replace(snapshot.rows, place="snapshot_id"), ()
        if selection.filter is not None or not selection.audience_id:
            return audiences.population(call, selection), ()
        named = audiences.named(call, selection.audience_id)
        return replace(named.population, place=selection.audience_place), (named,)
    if selection.filter is not None or selection.audience_id or snapshot:
        raise InvalidArgument.at("audience_ids", "is one population too many; give these or another one")
    populations, sources = _several(call, audiences, selection.audience_ids, "audience_ids")
    for index, found in enumerate(populations[1:], 1):
        _check_datatype(found, populations[0], f"audience_ids[{index}]")
    if len(populations) == 1:
        return populations[0], sources
    merged = union(*map(as_filter, populations), place="audience_ids")
    audiences.check(merged)
    return merged, sources


def _several(
    call: Call, audiences: Audiences, audience_ids: Sequence[str], place: str
) -> tuple[list[Population], tuple[NamedAudience, ...]]:
    if len(audience_ids) > MAX_AUDIENCES:
        raise InvalidArgument.at(place, f"names {len(audience_ids)} audiences, more than {MAX_AUDIENCES}")
    for index, audience_id in enumerate(audience_ids):
        if not audience_id or audience_id in audience_ids[:index]:
            raise InvalidArgument.at(f"{place}[{index}]", "is there already" if audience_id else "is empty")
    if not audience_ids:
        return [], ()
    places = {f"{place}[{index}]": audience_id for index, audience_id in enumerate(audience_ids)}
    known = audiences.knowing(call, audiences.get_many(call, places))
    named = tuple(known.named(call, audience_id) for audience_id in audience_ids)
    return [replace(found.population, place=where) for where, found in zip(places, named, strict=True)], named


def _check_datatype(population: Population, first: Population, place: str) -> None:
    if population.datatype != first.datatype:
        raise InvalidArgument.at(place, f"is an audience of {population.datatype}, not of {first.datatype}")


def selection_identity(selection: Selection) -> list[Any]:
    """What tells a selection from others, in JSON values.

    What was there before unions and exclusions stays as it was, so that older cursors go on.
    """
    plain = [selection.audience_id or selection.snapshot_id, identity(selection.filter)]
    further = [sorted(selection.audience_ids), sorted(selection.exclude_audience_ids), selection.purpose]
    return [*plain, *(further if any(further) else [])]
