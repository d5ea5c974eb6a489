"""Resolves an audience id or an unsaved filter to its population.

    "segment-..." ──> SegmentLoader.load ──> FilterAudience ──> CompiledFilter   (a population)
    "custom-..."  ──> CustomAudienceLoader.load ──> ListAudience ──> MemberList  (a population)
    a filter      ──────────────────────────────────────────────> CompiledFilter

A filter may refer to further audiences; the compiler asks `definition_of` for each.
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from audience_service.domain.audiences.model import (
    Audience,
    AudienceLoader,
    FilterAudience,
    ListAudience,
    ResolvedAudience,
    to_response_form,
)
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import (
    AudienceNotFound,
    InvalidArgument,
    InvalidFilter,
    UnusableAudience,
    Violation,
)
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters import (
    CompiledFilter,
    Filter,
    FilterCompiler,
    FilterLimits,
    identity,
)
from audience_service.domain.filters.ast import Node
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.near_date_check import ReadFields
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.references import audience_references
from audience_service.domain.schema.filter_linter import FilterLinter


class AudienceResolver:
    """Finds audiences by id, and the members of an audience or a filter, within the caller's org.

    Each kind of audience has a prefix for its ids; `loaders` has the loader of each prefix.
    """

    def __init__(
        self,
        compiler: FilterCompiler,
        loaders: Mapping[str, AudienceLoader],
        preloaded: Mapping[str, Audience] | None = None,
        linter: FilterLinter | None = None,
    ) -> None:
        """`linter` has samples of records, with which a caller's filter is checked."""
        self._compiler = compiler
        self._loaders = loaders
        self._preloaded = preloaded or {}
        self._linter = linter

    def at(self, instant: datetime) -> "AudienceResolver":
        """The same resolver, with relative dates evaluated as of an instant."""
        return AudienceResolver(self._compiler.at(instant), self._loaders, self._preloaded, self._linter)

    def with_preloaded(
        self, ctx: RequestContext, audiences: Iterable[Audience], filters: Iterable[Filter] = ()
    ) -> "AudienceResolver":
        """The same resolver with these audiences in memory, and all that their filters or `filters` refer to.

        It reads level by level, as audiences refer to one another. Each level takes one query for its segments, and
        one for each audience of another kind.
        """
        preloaded = {audience.id: audience for audience in audiences}
        level = [*(audience.filter for audience in preloaded.values()), *filters]
        for _ in range(FilterLimits().audience_depth):
            referenced = frozenset().union(*(audience_references(written.where) for written in level))
            if not (to_load := sorted(referenced - preloaded.keys())):
                break
            # The compiler raises the error of an unusable audience later, with the field path of its reference.
            found = self._load(ctx, to_load, ignore_unusable=True)
            preloaded.update(found)
            level = [audience.filter for audience in found.values()]
        return AudienceResolver(self._compiler, self._loaders, preloaded, self._linter)

    @property
    def preloaded(self) -> Mapping[str, Audience]:
        """The audiences in memory, by id."""
        return self._preloaded

    @property
    def display_names(self) -> Mapping[str, str]:
        """The names of the audiences in memory, by their ids and by the ids that the rows of their lists have."""
        preloaded = self._preloaded.values()
        listed = {found.member_list.list_id: found.name for found in preloaded if isinstance(found, ListAudience)}
        return {**listed, **{audience.id: audience.name for audience in preloaded}}

    def population(self, ctx: RequestContext, selection: AudienceSelector) -> Population:
        """The population that a caller selects. Raises InvalidArgument, AudienceNotFound, UnusableAudience."""
        return self.resolve_with_identity(ctx, selection)[0]

    def resolve_with_identity(self, ctx: RequestContext, selection: AudienceSelector) -> tuple[Population, Hashable]:
        """The population, and its identity within the org: the filter as written, or the id and version.

        Raises as `population` does.
        """
        if selection.filter is not None:
            with prefix_error_path(selection.filter_path):
                compiled = self.compile_new(ctx, selection.filter)
            population = replace(compiled, field_path=f"{selection.filter_path}.{compiled.field_path}")
            return population, json.dumps(identity(selection.filter), sort_keys=True)
        if not selection.audience_id:
            raise InvalidArgument.at("filter", "is missing; set filter or audience_id")
        found = self.resolve_id(ctx, selection.audience_id)
        return replace(found.population, field_path=selection.audience_id_path), (found.id, found.version)

    def resolve_id(self, ctx: RequestContext, audience_id: str) -> ResolvedAudience:
        """The audience of an id. Raises AudienceNotFound, UnusableAudience."""
        found = self.find(ctx, audience_id)
        return ResolvedAudience(found.id, found.name, found.version, found.filter, self.population_of(ctx, found))

    def find(self, ctx: RequestContext, audience_id: str) -> Audience:
        """The audience of an id, as it is stored. Raises AudienceNotFound, UnusableAudience."""
        if found := self._preloaded.get(audience_id):
            return found
        loader = self._loader_for(audience_id)
        found = loader.load(ctx, [audience_id]).get(audience_id) if loader else None
        if found is None:
            raise AudienceNotFound.of(audience_id)
        return found

    def compile(self, ctx: RequestContext, written: Filter, parent_id: str = "") -> CompiledFilter:
        """The filter with the audiences in it resolved; `parent_id` is the audience that the filter belongs to.

        Raises InvalidFilter and its subclasses, and AudienceNotFound, with field paths that begin at `where`.
        """
        return self._compiler.compile(written, partial(self.definition_of, ctx), (parent_id,) if parent_id else ())

    def compile_new(self, ctx: RequestContext, written: Filter, parent_id: str = "") -> CompiledFilter:
        """The filter of a request, as `compile` does. Also refuses text in place of a date in fields that hold dates.

        The check needs a sample, and waits for it up to a second, only if the filter has such text.
        """
        find, parents = partial(self.definition_of, ctx), (parent_id,) if parent_id else ()
        read_fields: ReadFields = partial(self._linter.fields, ctx) if self._linter else lambda _: {}
        return self._compiler.compile(written, find, parents, read_fields)

    def parse(self, written: Filter) -> Node:
        """The AST of a filter as written. Raises what `compile` raises about the filter alone."""
        return self._compiler.parse(written)

    def check_datatype(self, datatype: str) -> str:
        """The datatype, if it is served. Raises InvalidFilter, DatatypeNotAllowed."""
        return self._compiler.check_datatype(datatype)

    def check(self, compiled: CompiledFilter) -> None:
        """Raise FilterTooLarge, at its field path, if a combined filter is too large for the database."""
        self._compiler.check(compiled)

    def get_many(self, ctx: RequestContext, ids_by_path: Mapping[str, str]) -> Sequence[Audience]:
        """The audiences that a request names, in order, given their ids by field path; one query for all segments.

        Raises InvalidArgument at the first field path without an id, AudienceNotFound at the first without an audience,
        and UnusableAudience.
        """
        for field_path, audience_id in ids_by_path.items():
            if not audience_id:
                raise InvalidArgument.at(field_path, "is missing; set the id of an audience")
        found = self._load(ctx, list(dict.fromkeys(ids_by_path.values())))
        for field_path, audience_id in ids_by_path.items():
            if audience_id not in found:
                error = AudienceNotFound.of(audience_id)
                error.violations = (Violation(field_path, "is not the id of an audience of the org"),)
                raise error
        return [found[audience_id] for audience_id in ids_by_path.values()]

    def population_of(self, ctx: RequestContext, audience: Audience) -> Population:
        """The members of an audience. Raises UnusableAudience if its filter cannot be evaluated, or it is not READY."""
        return self.member_list(audience) if isinstance(audience, ListAudience) else self._compile_saved(ctx, audience)

    def member_list(self, audience: ListAudience) -> MemberList:
        """The list of an audience. Raises UnusableAudience if its datatype is not served, or if it is not READY."""
        with _raise_unusable(audience):
            self._compiler.check_datatype(audience.filter.datatype)
        if (state := audience.creation_state) is not CreationState.READY:
            raise UnusableAudience(
                f"the audience is {state} and has no members yet; GetCustomAudience shows its creation_state",
                metadata={"id": audience.id, "creation_state": state.value},
            )
        return audience.member_list

    def definition_of(self, ctx: RequestContext, audience_id: str) -> Filter | MemberList:
        """The filter or list of an audience inside a filter. Raises AudienceNotFound, UnusableAudience."""
        found = self.find(ctx, audience_id)
        return self.member_list(found) if isinstance(found, ListAudience) else found.filter

    def _compile_saved(self, ctx: RequestContext, audience: FilterAudience) -> CompiledFilter:
        with _raise_unusable(audience):
            return self.compile(ctx, to_response_form(audience.filter), audience.id)

    def _loader_for(self, audience_id: str) -> AudienceLoader | None:
        return next((loader for prefix, loader in self._loaders.items() if audience_id.startswith(prefix)), None)

    def _load(
        self, ctx: RequestContext, audience_ids: Sequence[str], *, ignore_unusable: bool = False
    ) -> dict[str, Audience]:
        """The audiences that exist. Raises UnusableAudience, or omits unusable audiences."""
        ids_by_loader: dict[AudienceLoader, list[str]] = {}
        for audience_id in audience_ids:
            if loader := self._loader_for(audience_id):
                ids_by_loader.setdefault(loader, []).append(audience_id)
        found: dict[str, Audience] = {}
        for loader, ids in ids_by_loader.items():
            try:
                found.update(loader.load(ctx, ids))
            except UnusableAudience:
                if not ignore_unusable:
                    raise
                for audience_id in ids:
                    with suppress(UnusableAudience):
                        found.update(loader.load(ctx, [audience_id]))
        return found


@contextmanager
def _raise_unusable(audience: Audience) -> Iterator[None]:
    try:
        yield
    except (InvalidFilter, AudienceNotFound) as error:
        raise UnusableAudience(
            "the audience's saved filter cannot be evaluated; correct it",
            violations=error.violations,
            metadata={"id": audience.id},
        ) from error
