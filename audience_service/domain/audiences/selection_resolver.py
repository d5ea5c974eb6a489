"""From what a caller selects to the population that it comes to: unions, less those who are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.audiences.model import ResolvedAudience, SelectedSnapshot, SnapshotSource
from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.suppression import suppression_conditions
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import CompiledFilter, identity
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.set_operations import difference, to_filter, union

MAX_AUDIENCES = 20
"""Audiences of a union, and audiences to leave out."""

INACTIVE = "inactive"
"""The reason for members of a snapshot that were archived or deleted since."""

EXCLUDED = "excluded"
"""The reason of those who are members of an audience that is left out."""


@dataclass(frozen=True, slots=True)
class ResolvedSelection:
    """What a selection comes to.

    `population` are the candidates without those for whom a reason holds. `identity` tells the selection from others of
    the org, in JSON values, whatever versions its audiences are in.
    """

    population: Population
    candidates: Population
    identity: Sequence[Any]
    reasons: Mapping[str, CompiledFilter] = field(default_factory=dict)
    """Who is left out, by reason, in the order in which reasons count."""
    sources: tuple[ResolvedAudience, ...] = ()
    excluded_sources: tuple[ResolvedAudience, ...] = ()
    snapshot: SelectedSnapshot | None = None
    """Whose rows the candidates are, where they are a snapshot's."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """How many were left out for a reason, and for none before it."""

    reason: str
    count: int


class SelectionResolver:
    """Finds what selections come to, within the call's org."""

    def __init__(self, audiences: AudienceResolver, members: MemberRepository, snapshots: SnapshotSource) -> None:
        self._audiences = audiences
        self._members = members
        self._snapshots = snapshots

    def resolve(self, ctx: RequestContext, selection: AudienceSelector) -> ResolvedSelection:
        """The population of a selection.

        Raises InvalidArgument, FilterTooLarge, AudienceNotFound, UnusableAudience, SnapshotNotFound, SnapshotNotReady.
        """
        snapshot = self._snapshots.get_ready(ctx, selection.snapshot_id) if selection.snapshot_id else None
        # As of one moment, so that whatever an audience's dates are relative to, it has no members less itself.
        audiences = self._audiences.at(now())
        candidates, sources = _resolve_candidates(ctx, audiences, selection, snapshot)
        excluded, excluded_sources = _resolve_many(
            ctx, audiences, selection.exclude_audience_ids, "exclude_audience_ids"
        )
        for index, found in enumerate(excluded):
            _check_datatype(found, candidates, f"exclude_audience_ids[{index}]")
        reasons = {EXCLUDED: union(*map(to_filter, excluded), field_path="exclude_audience_ids")} if excluded else {}
        reasons |= suppression_conditions(candidates.datatype, selection.purpose)
        population = candidates
        if reasons:
            population = difference(to_filter(candidates), *reasons.values())
            self._audiences.check(population)
        return ResolvedSelection(
            population, candidates, selection_identity(selection), reasons, sources, excluded_sources, snapshot
        )

    def verify_complete(self, ctx: RequestContext, resolved_selection: ResolvedSelection, count: int | None) -> None:
        """Raise where rows of the choice's snapshot went while they were read; `count` is how many were, where all.

        Raises SnapshotNotFound.
        """
        if resolved_selection.snapshot:
            self._snapshots.verify_complete(
                ctx, resolved_selection.snapshot, None if resolved_selection.reasons else count
            )

    def subtract(
        self, resolved_selection: ResolvedSelection, reason: str, excluded: CompiledFilter
    ) -> ResolvedSelection:
        """The choice, less those whom a filter finds, for a reason that counts last. Raises FilterTooLarge."""
        population = difference(to_filter(resolved_selection.population), excluded)
        self._audiences.check(population)
        return replace(
            resolved_selection, population=population, reasons={**resolved_selection.reasons, reason: excluded}
        )

    def exclusions(
        self, ctx: RequestContext, resolved_selection: ResolvedSelection, after: str = "", until: str = ""
    ) -> list[Exclusion]:
        """How many were left out, by reason, in the part behind the sk `after` up to `until`; "" is no bound."""
        if not resolved_selection.reasons:
            return []
        reasons = list(resolved_selection.reasons.values())
        candidates, inactive = resolved_selection.candidates, []
        if resolved_selection.snapshot:
            candidates = resolved_selection.snapshot.active_rows
            stored_count, active_count = (
                self._members.count(ctx.org, found, ctx.deadline, after, until)
                for found in (resolved_selection.candidates, candidates)
            )
            inactive = [Exclusion(INACTIVE, stored_count - active_count)]
        counts = self._members.exclusions(ctx.org, candidates, reasons, ctx.deadline, after, until)
        return [
            *inactive,
            *(Exclusion(reason, count) for reason, count in zip(resolved_selection.reasons, counts, strict=True)),
        ]


def _resolve_candidates(
    ctx: RequestContext, audiences: AudienceResolver, selection: AudienceSelector, snapshot: SelectedSnapshot | None
) -> tuple[Population, tuple[ResolvedAudience, ...]]:
    if not selection.audience_ids:
        if snapshot:
            return replace(snapshot.rows, field_path="snapshot_id"), ()
        if selection.filter is not None or not selection.audience_id:
            return audiences.population(ctx, selection), ()
        source = audiences.resolve_id(ctx, selection.audience_id)
        return replace(source.population, field_path=selection.audience_id_path), (source,)
    if selection.filter is not None or selection.audience_id or snapshot:
        raise InvalidArgument.at("audience_ids", "is one population too many; give these or another one")
    populations, sources = _resolve_many(ctx, audiences, selection.audience_ids, "audience_ids")
    for index, found in enumerate(populations[1:], 1):
        _check_datatype(found, populations[0], f"audience_ids[{index}]")
    if len(populations) == 1:
        return populations[0], sources
    merged = union(*map(to_filter, populations), field_path="audience_ids")
    audiences.check(merged)
    return merged, sources


def _resolve_many(
    ctx: RequestContext, audiences: AudienceResolver, audience_ids: Sequence[str], field_path: str
) -> tuple[list[Population], tuple[ResolvedAudience, ...]]:
    if len(audience_ids) > MAX_AUDIENCES:
        raise InvalidArgument.at(field_path, f"names {len(audience_ids)} audiences, more than {MAX_AUDIENCES}")
    for index, audience_id in enumerate(audience_ids):
        if not audience_id or audience_id in audience_ids[:index]:
            raise InvalidArgument.at(f"{field_path}[{index}]", "is there already" if audience_id else "is empty")
    if not audience_ids:
        return [], ()
    ids_by_path = {f"{field_path}[{index}]": audience_id for index, audience_id in enumerate(audience_ids)}
    resolver = audiences.with_preloaded(ctx, audiences.get_many(ctx, ids_by_path))
    sources = tuple(resolver.resolve_id(ctx, audience_id) for audience_id in audience_ids)
    return [
        replace(found.population, field_path=source_path)
        for source_path, found in zip(ids_by_path, sources, strict=True)
    ], sources


def _check_datatype(population: Population, first: Population, field_path: str) -> None:
    if population.datatype != first.datatype:
        raise InvalidArgument.at(field_path, f"is an audience of {population.datatype}, not of {first.datatype}")


def selection_identity(selection: AudienceSelector) -> list[Any]:
    """What tells a selection from others, in JSON values.

    What was there before unions and exclusions stays as it was, so that older cursors go on.
    """
    plain = [selection.audience_id or selection.snapshot_id, identity(selection.filter)]
    further = [sorted(selection.audience_ids), sorted(selection.exclude_audience_ids), selection.purpose]
    return [*plain, *(further if any(further) else [])]
