"""From an audience's id, or an unsaved filter, to the population behind it."""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from audience_service.domain.audiences.audience import (
    Audience,
    FindOther,
    ListedAudience,
    NamedAudience,
    RuledAudience,
    as_shown,
    filter_of,
)
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.creation import CreationState
from audience_service.domain.errors import (
    AudienceError,
    AudienceNotFound,
    InvalidArgument,
    InvalidFilter,
    UnusableAudience,
    Violation,
)
from audience_service.domain.filters import (
    CompiledFilter,
    Filter,
    FilterCompiler,
    FilterWarning,
    Limits,
    identity,
)
from audience_service.domain.filters.nodes import Node
from audience_service.domain.filters.references import audience_references
from audience_service.domain.located import located
from audience_service.domain.ports import ContactList, Population, SegmentRepository
from audience_service.domain.segments.segment import ID_PREFIX, Segment, SegmentType


class Audiences:
    """Finds what an id or a filter stands for, within the call's org.

    Ids begin with their kind. Segments are known here; other kinds are each found by its prefix, by `others`.
    """

    def __init__(
        self,
        segments: SegmentRepository,
        compiler: FilterCompiler,
        others: Mapping[str, FindOther] | None = None,
        known: Mapping[str, Audience] | None = None,
    ) -> None:
        self._segments = segments
        self._compiler = compiler
        self._others = dict(others or {})
        self._known = known or {}

    def at(self, moment: datetime) -> "Audiences":
        """The same, their filters compiled as of a moment."""
        return Audiences(self._segments, self._compiler.at(moment), self._others, self._known)

    def knowing(self, call: Call, audiences: Iterable[Audience], filters: Iterable[Filter] = ()) -> "Audiences":
        """The same, which need not ask again for these audiences, nor for those in their filters and in others.

        They are read level by level, as audiences stand inside one another, each level by one query, and one for each
        that is no segment.
        """
        known = {audience.id: audience for audience in audiences}
        level = [*(filter_of(audience) for audience in known.values()), *filters]
        for _ in range(Limits().audience_depth):
            inside = frozenset().union(*(audience_references(written.where) for written in level))
            if not (wanted := sorted(inside - known.keys())):
                break
            # One that cannot be used is told of where it stands, by whoever looks for it there.
            found = self._read(call, wanted, AudienceNotFound, UnusableAudience)
            known.update(found)
            level = [filter_of(audience) for audience in found.values()]
        return Audiences(self._segments, self._compiler, self._others, known)

    @property
    def known(self) -> Mapping[str, Audience]:
        """The audiences that are known, by id."""
        return self._known

    @property
    def names(self) -> Mapping[str, str]:
        """The names of the audiences that are known, by id, and by what the rows of their lists carry."""
        known = self._known.values()
        listed = {found.contacts.audience_id: found.name for found in known if isinstance(found, ListedAudience)}
        return {**listed, **{audience.id: audience.name for audience in known}}

    def population(self, call: Call, selection: Selection) -> Population:
        """The population that a caller means. Raises InvalidArgument, AudienceNotFound, UnusableAudience."""
        return self.identified(call, selection)[0]

    def identified(self, call: Call, selection: Selection) -> tuple[Population, Hashable]:
        """The population, and what tells it from others of the org: its filter as written, or its id and version.

        Raises as `population` does.
        """
        if selection.filter is not None:
            with located(selection.filter_place):
                compiled = self.compile(call, selection.filter)
            population = replace(compiled, place=f"{selection.filter_place}.{compiled.place}")
            return population, json.dumps(identity(selection.filter), sort_keys=True)
        if not selection.audience_id:
            raise InvalidArgument.at("filter", "is missing; give a filter, or name an audience")
        found = self.named(call, selection.audience_id)
        return replace(found.population, place=selection.audience_place), (found.id, found.version)

    def named(self, call: Call, audience_id: str) -> NamedAudience:
        """The audience of an id. Raises AudienceNotFound, UnusableAudience."""
        found = self.find(call, audience_id)
        return NamedAudience(found.id, found.name, found.version, filter_of(found), self.members_of(call, found))

    def find(self, call: Call, audience_id: str) -> Audience:
        """The audience of an id, as it is stored. Raises AudienceNotFound, UnusableAudience."""
        if found := self._known.get(audience_id):
            return found
        find = self._finder(audience_id)
        return find(call, audience_id) if find else self.get(call, audience_id)

    def compile(self, call: Call, written: Filter, within: str = "") -> CompiledFilter:
        """What finds a filter's records, the audiences in it looked up; `within` is the audience whose filter it is.

        Raises InvalidFilter and its kin, and AudienceNotFound, with places from `where` on.
        """
        return self._compiler.compile(written, partial(self.source, call), (within,) if within else ())

    def parse(self, written: Filter) -> Node:
        """The nodes of a filter as it is written. Raises as `compile` does for what the filter alone shows."""
        return self._compiler.parse(written)

    def warnings(self, segment: Segment) -> list[FilterWarning]:
        """What its filter is warned about, with places in the segment as it is shown; none where it cannot be run."""
        where = segment.filter.where
        if segment.type is SegmentType.STATIC or where is None:
            return []
        try:
            found = self._compiler.warnings(as_shown(segment.filter))
        except InvalidFilter:
            return []
        return [replace(warning, place=f"filter.{warning.place}") for warning in found]

    def check_datatype(self, datatype: str) -> str:
        """The datatype, if it is served. Raises InvalidFilter, DatatypeNotAllowed."""
        return self._compiler.check_datatype(datatype)

    def check(self, compiled: CompiledFilter) -> None:
        """Raise FilterTooLarge, at its place, where a filter made of several is too large for the database."""
        self._compiler.check(compiled)

    def get(self, call: Call, audience_id: str) -> Segment:
        """The living segment of the call's org. Raises AudienceNotFound, also for audiences of other kinds."""
        if isinstance(found := self._known.get(audience_id), Segment):
            return found
        if not audience_id.startswith(ID_PREFIX):
            raise AudienceNotFound.of(audience_id)
        return self._segments.get(call.org, audience_id, call.deadline)

    def get_many(self, call: Call, named: Mapping[str, str]) -> Sequence[Audience]:
        """The living audiences by the places in the request that name them, in order; all segments by one query.

        Raises InvalidArgument at the first place that is empty, AudienceNotFound at the first whose audience is not
        there, UnusableAudience.
        """
        for place, audience_id in named.items():
            if not audience_id:
                raise InvalidArgument.at(place, "is missing; name an audience")
        found = self._read(call, list(dict.fromkeys(named.values())), AudienceNotFound)
        for place, audience_id in named.items():
            if audience_id not in found:
                error = AudienceNotFound.of(audience_id)
                error.violations = (Violation(place, "names no living audience of the org"),)
                raise error
        return [found[audience_id] for audience_id in named.values()]

    def members_of(self, call: Call, audience: Audience) -> Population:
        """The members of an audience. Raises UnusableAudience where its filter cannot be run."""
        match audience:
            case ListedAudience():
                return self.list_of(audience)
            case RuledAudience():
                return self._found_by(call, audience)
        return self.of_segment(call, audience)

    def of_segment(self, call: Call, segment: Segment) -> Population:
        """The members of a stored segment. Raises UnusableAudience where its filter cannot be run."""
        return self.list_of(segment) if segment.type is SegmentType.STATIC else self._found_by(call, segment)

    def list_of(self, audience: Segment | ListedAudience) -> ContactList:
        """The list of a static segment, or of what is one.

        Raises UnusableAudience if its datatype is not served, or if it is not READY.
        """
        with _usable(audience):
            datatype = self._compiler.check_datatype(audience.filter.datatype)
        if isinstance(audience, ListedAudience):
            if (state := audience.creation_state) is not CreationState.READY:
                raise UnusableAudience(
                    f"the audience is {state} and has no members yet; GetCustomAudience shows its creation_state",
                    metadata={"id": audience.id, "creation_state": state.value},
                )
            return audience.contacts
        return ContactList(audience.id, datatype, audience.version)

    def source(self, call: Call, audience_id: str) -> Filter | ContactList:
        """What an audience inside a filter stands for. Raises AudienceNotFound, UnusableAudience."""
        match self.find(call, audience_id):
            case ListedAudience() | Segment(type=SegmentType.STATIC) as listed:
                return self.list_of(listed)
            case found:
                return found.filter

    def _found_by(self, call: Call, audience: Segment | RuledAudience) -> CompiledFilter:
        with _usable(audience):
            return self.compile(call, as_shown(audience.filter), audience.id)

    def _finder(self, audience_id: str) -> FindOther | None:
        return next((find for prefix, find in self._others.items() if audience_id.startswith(prefix)), None)

    def _read(self, call: Call, audience_ids: Sequence[str], *passed_over: type[AudienceError]) -> dict[str, Audience]:
        """The audiences, without those for which such an error would be raised."""
        finders = {audience_id: self._finder(audience_id) for audience_id in audience_ids}
        found: dict[str, Audience] = {}
        if segments := [audience_id for audience_id, find in finders.items() if find is None]:
            found.update(self._segments.get_many(call.org, segments, call.deadline))
        for audience_id, find in finders.items():
            if find:
                with suppress(*passed_over):
                    found[audience_id] = find(call, audience_id)
        return found


@contextmanager
def _usable(audience: Audience) -> Iterator[None]:
    try:
        yield
    except (InvalidFilter, AudienceNotFound) as error:
        raise UnusableAudience(
            "the audience's saved filter cannot be run", violations=error.violations, metadata={"id": audience.id}
        ) from error
