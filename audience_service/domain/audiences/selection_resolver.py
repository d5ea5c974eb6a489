"""Resolves a selector to a population.

    population = union(audience_ids) or the filter or the snapshot's rows     (the candidates)
                 minus the members of exclude_audience_ids                    (reason "excluded")
                 minus the records that the purpose must not reach            (reasons "complained", ...)

A candidate counts as excluded for the first reason that holds. Members and exclusions add up to the candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.audiences.model import ResolvedAudience, SelectedSnapshot, SnapshotFinder
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
"""The most audiences of a union, and the most audiences to exclude."""

INACTIVE = "inactive"
"""The reason for members of a snapshot whose records were archived or deleted since."""

EXCLUDED = "excluded"
"""The reason for members of an excluded audience."""


@dataclass(frozen=True, slots=True)
class ResolvedSelection:
    """The population of a selection, and how it was reached.

    `population` has the candidates for which no reason holds. `identity` identifies the selection within the org, in
    JSON values; it does not depend on the versions of the audiences.
    """

    population: Population
    candidates: Population
    identity: Sequence[Any]
    reasons: Mapping[str, CompiledFilter] = field(default_factory=dict)
    """The condition of each reason for an exclusion. The first reason that holds counts."""
    sources: tuple[ResolvedAudience, ...] = ()
    excluded_sources: tuple[ResolvedAudience, ...] = ()
    snapshot: SelectedSnapshot | None = None
    """The snapshot that the candidates are rows of, if the request selects one."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """The number of candidates for which this reason holds, and no earlier one."""

    reason: str
    count: int


class SelectionResolver:
    """Resolves selections within the caller's org."""

    def __init__(self, audiences: AudienceResolver, members: MemberRepository, snapshots: SnapshotFinder) -> None:
        self._audiences = audiences
        self._members = members
        self._snapshots = snapshots

    def resolve(self, ctx: RequestContext, selection: AudienceSelector) -> ResolvedSelection:
        """The population of a selection.

        Raises InvalidArgument, FilterTooLarge, AudienceNotFound, UnusableAudience, SnapshotNotFound, SnapshotNotReady.
        """
        snapshot = self._snapshots.get_ready(ctx, selection.snapshot_id) if selection.snapshot_id else None
        # One timestamp for all: an audience with relative dates, minus itself, must have no members.
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

    def verify_complete(self, ctx: RequestContext, resolved: ResolvedSelection, count: int | None) -> None:
        """Raise SnapshotNotFound if rows of the selected snapshot were deleted during the read.

        `count` is the number of rows read, or None if the read did not cover all of them.
        """
        if resolved.snapshot:
            self._snapshots.verify_complete(ctx, resolved.snapshot, None if resolved.reasons else count)

    def subtract(self, resolved: ResolvedSelection, reason: str, excluded: CompiledFilter) -> ResolvedSelection:
        """The selection without the records of a filter, for a reason that counts last. Raises FilterTooLarge."""
        population = difference(to_filter(resolved.population), excluded)
        self._audiences.check(population)
        return replace(resolved, population=population, reasons={**resolved.reasons, reason: excluded})

    def exclusions(
        self, ctx: RequestContext, resolved: ResolvedSelection, after: str = "", until: str = ""
    ) -> list[Exclusion]:
        """The exclusions by reason, for the keys after `after` up to and including `until`; "" is no bound."""
        if not resolved.reasons:
            return []
        reasons = list(resolved.reasons.values())
        candidates, inactive = resolved.candidates, []
        if resolved.snapshot:
            candidates = resolved.snapshot.unarchived_rows
            stored_count, active_count = (
                self._members.count(ctx.org, found, ctx.deadline, after, until)
                for found in (resolved.candidates, candidates)
            )
            inactive = [Exclusion(INACTIVE, stored_count - active_count)]
        counts = self._members.exclusions(ctx.org, candidates, reasons, ctx.deadline, after, until)
        return [
            *inactive,
            *(Exclusion(reason, count) for reason, count in zip(resolved.reasons, counts, strict=True)),
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
        raise InvalidArgument.at(
            "audience_ids", "is one selection too many; set audience_ids, audience_id, filter or snapshot_id"
        )
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
        raise InvalidArgument.at(
            field_path, f"has {len(audience_ids)} audiences, more than the limit of {MAX_AUDIENCES}"
        )
    for index, audience_id in enumerate(audience_ids):
        if not audience_id or audience_id in audience_ids[:index]:
            raise InvalidArgument.at(f"{field_path}[{index}]", "repeats an earlier id" if audience_id else "is empty")
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
        raise InvalidArgument.at(
            field_path, f"is an audience of {population.datatype}; all of them must be of {first.datatype}"
        )


def selection_identity(selection: AudienceSelector) -> list[Any]:
    """The identity of a selection within its org, in JSON values. The order of its audiences does not count."""
    return [
        selection.audience_id or selection.snapshot_id,
        identity(selection.filter),
        sorted(selection.audience_ids),
        sorted(selection.exclude_audience_ids),
        selection.purpose,
    ]
