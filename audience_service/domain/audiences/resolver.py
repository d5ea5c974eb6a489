"""From an audience's id, or an unsaved filter, to the population behind it."""

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
    filter_of,
    to_response_form,
)
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import (
    AudienceError,
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
    FilterWarning,
    Limits,
    identity,
)
from audience_service.domain.filters.ast import Node
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.references import audience_references
from audience_service.domain.segments.model import ID_PREFIX, Segment, SegmentType
from audience_service.domain.segments.repository import SegmentRepository


class AudienceResolver:
    """Finds what an id or a filter stands for, within the call's org.

    Ids begin with their kind. Segments are known here; other kinds are each found by its prefix, by `others`.
    """

    def __init__(
        self,
        segments: SegmentRepository,
        compiler: FilterCompiler,
        loaders: Mapping[str, AudienceLoader] | None = None,
        preloaded: Mapping[str, Audience] | None = None,
    ) -> None:
        self._segments = segments
        self._compiler = compiler
        self._loaders = dict(loaders or {})
        self._preloaded = preloaded or {}

    def at(self, instant: datetime) -> "AudienceResolver":
        """The same, their filters compiled as of a moment."""
        return AudienceResolver(self._segments, self._compiler.at(instant), self._loaders, self._preloaded)

    def with_preloaded(
        self, ctx: RequestContext, audiences: Iterable[Audience], filters: Iterable[Filter] = ()
    ) -> "AudienceResolver":
        """The same, which need not ask again for these audiences, nor for those in their filters and in others.

        They are read level by level, as audiences stand inside one another, each level by one query, and one for each
        that is no segment.
        """
        preloaded = {audience.id: audience for audience in audiences}
        level = [*(filter_of(audience) for audience in preloaded.values()), *filters]
        for _ in range(Limits().audience_depth):
            referenced = frozenset().union(*(audience_references(written.where) for written in level))
            if not (to_load := sorted(referenced - preloaded.keys())):
                break
            # One that cannot be used is told of where it stands, by whoever looks for it there.
            found = self._load(ctx, to_load, AudienceNotFound, UnusableAudience)
            preloaded.update(found)
            level = [filter_of(audience) for audience in found.values()]
        return AudienceResolver(self._segments, self._compiler, self._loaders, preloaded)

    @property
    def preloaded(self) -> Mapping[str, Audience]:
        """The audiences that are known, by id."""
        return self._preloaded

    @property
    def display_names(self) -> Mapping[str, str]:
        """The names of the audiences that are known, by id, and by what the rows of their lists carry."""
        preloaded = self._preloaded.values()
        listed = {found.member_list.audience_id: found.name for found in preloaded if isinstance(found, ListAudience)}
        return {**listed, **{audience.id: audience.name for audience in preloaded}}

    def population(self, ctx: RequestContext, selection: AudienceSelector) -> Population:
        """The population that a caller means. Raises InvalidArgument, AudienceNotFound, UnusableAudience."""
        return self.resolve_with_identity(ctx, selection)[0]

    def resolve_with_identity(self, ctx: RequestContext, selection: AudienceSelector) -> tuple[Population, Hashable]:
        """The population, and what tells it from others of the org: its filter as written, or its id and version.

        Raises as `population` does.
        """
        if selection.filter is not None:
            with prefix_error_path(selection.filter_path):
                compiled = self.compile(ctx, selection.filter)
            population = replace(compiled, field_path=f"{selection.filter_path}.{compiled.field_path}")
            return population, json.dumps(identity(selection.filter), sort_keys=True)
        if not selection.audience_id:
            raise InvalidArgument.at("filter", "is missing; give a filter, or name an audience")
        found = self.resolve_id(ctx, selection.audience_id)
        return replace(found.population, field_path=selection.audience_id_path), (found.id, found.version)

    def resolve_id(self, ctx: RequestContext, audience_id: str) -> ResolvedAudience:
        """The audience of an id. Raises AudienceNotFound, UnusableAudience."""
        found = self.find(ctx, audience_id)
        return ResolvedAudience(found.id, found.name, found.version, filter_of(found), self.population_of(ctx, found))

    def find(self, ctx: RequestContext, audience_id: str) -> Audience:
        """The audience of an id, as it is stored. Raises AudienceNotFound, UnusableAudience."""
        if found := self._preloaded.get(audience_id):
            return found
        load = self._loader_for(audience_id)
        return load(ctx, audience_id) if load else self.get_segment(ctx, audience_id)

    def compile(self, ctx: RequestContext, written: Filter, parent_id: str = "") -> CompiledFilter:
        """What finds a filter's records, the audiences in it looked up; `within` is the audience whose filter it is.

        Raises InvalidFilter and its kin, and AudienceNotFound, with places from `where` on.
        """
        return self._compiler.compile(written, partial(self.definition_of, ctx), (parent_id,) if parent_id else ())

    def parse(self, written: Filter) -> Node:
        """The nodes of a filter as it is written. Raises as `compile` does for what the filter alone shows."""
        return self._compiler.parse(written)

    def warnings(self, segment: Segment) -> list[FilterWarning]:
        """What its filter is warned about, with places in the segment as it is shown; none where it cannot be run."""
        where = segment.filter.where
        if segment.type is SegmentType.STATIC or where is None:
            return []
        try:
            found = self._compiler.warnings(to_response_form(segment.filter))
        except InvalidFilter:
            return []
        return [replace(warning, field_path=f"filter.{warning.field_path}") for warning in found]

    def check_datatype(self, datatype: str) -> str:
        """The datatype, if it is served. Raises InvalidFilter, DatatypeNotAllowed."""
        return self._compiler.check_datatype(datatype)

    def check(self, compiled: CompiledFilter) -> None:
        """Raise FilterTooLarge, at its place, where a filter made of several is too large for the database."""
        self._compiler.check(compiled)

    def get_segment(self, ctx: RequestContext, audience_id: str) -> Segment:
        """The living segment of the call's org. Raises AudienceNotFound, also for audiences of other kinds."""
        if isinstance(found := self._preloaded.get(audience_id), Segment):
            return found
        if not audience_id.startswith(ID_PREFIX):
            raise AudienceNotFound.of(audience_id)
        return self._segments.get(ctx.org, audience_id, ctx.deadline)

    def get_many(self, ctx: RequestContext, ids_by_path: Mapping[str, str]) -> Sequence[Audience]:
        """The living audiences by the places in the request that name them, in order; all segments by one query.

        Raises InvalidArgument at the first place that is empty, AudienceNotFound at the first whose audience is not
        there, UnusableAudience.
        """
        for field_path, audience_id in ids_by_path.items():
            if not audience_id:
                raise InvalidArgument.at(field_path, "is missing; name an audience")
        found = self._load(ctx, list(dict.fromkeys(ids_by_path.values())), AudienceNotFound)
        for field_path, audience_id in ids_by_path.items():
            if audience_id not in found:
                error = AudienceNotFound.of(audience_id)
                error.violations = (Violation(field_path, "names no living audience of the org"),)
                raise error
        return [found[audience_id] for audience_id in ids_by_path.values()]

    def population_of(self, ctx: RequestContext, audience: Audience) -> Population:
        """The members of an audience. Raises UnusableAudience where its filter cannot be run."""
        match audience:
            case ListAudience():
                return self.member_list(audience)
            case FilterAudience():
                return self._compile_saved(ctx, audience)
        return self.segment_population(ctx, audience)

    def segment_population(self, ctx: RequestContext, segment: Segment) -> Population:
        """The members of a stored segment. Raises UnusableAudience where its filter cannot be run."""
        return self.member_list(segment) if segment.type is SegmentType.STATIC else self._compile_saved(ctx, segment)

    def member_list(self, audience: Segment | ListAudience) -> MemberList:
        """The list of a static segment, or of what is one.

        Raises UnusableAudience if its datatype is not served, or if it is not READY.
        """
        with _raise_unusable(audience):
            datatype = self._compiler.check_datatype(audience.filter.datatype)
        if isinstance(audience, ListAudience):
            if (state := audience.creation_state) is not CreationState.READY:
                raise UnusableAudience(
                    f"the audience is {state} and has no members yet; GetCustomAudience shows its creation_state",
                    metadata={"id": audience.id, "creation_state": state.value},
                )
            return audience.member_list
        return MemberList(audience.id, datatype, audience.version)

    def definition_of(self, ctx: RequestContext, audience_id: str) -> Filter | MemberList:
        """What an audience inside a filter stands for. Raises AudienceNotFound, UnusableAudience."""
        match self.find(ctx, audience_id):
            case ListAudience() | Segment(type=SegmentType.STATIC) as listed:
                return self.member_list(listed)
            case found:
                return found.filter

    def _compile_saved(self, ctx: RequestContext, audience: Segment | FilterAudience) -> CompiledFilter:
        with _raise_unusable(audience):
            return self.compile(ctx, to_response_form(audience.filter), audience.id)

    def _loader_for(self, audience_id: str) -> AudienceLoader | None:
        return next((loader for prefix, loader in self._loaders.items() if audience_id.startswith(prefix)), None)

    def _load(
        self, ctx: RequestContext, audience_ids: Sequence[str], *ignored_errors: type[AudienceError]
    ) -> dict[str, Audience]:
        """The audiences, without those for which such an error would be raised."""
        loaders = {audience_id: self._loader_for(audience_id) for audience_id in audience_ids}
        found: dict[str, Audience] = {}
        if segments := [audience_id for audience_id, find in loaders.items() if find is None]:
            found.update(self._segments.get_many(ctx.org, segments, ctx.deadline))
        for audience_id, loader in loaders.items():
            if loader:
                with suppress(*ignored_errors):
                    found[audience_id] = loader(ctx, audience_id)
        return found


@contextmanager
def _raise_unusable(audience: Audience) -> Iterator[None]:
    try:
        yield
    except (InvalidFilter, AudienceNotFound) as error:
        raise UnusableAudience(
            "the audience's saved filter cannot be run", violations=error.violations, metadata={"id": audience.id}
        ) from error
