"""From an audience's id, or an unsaved filter, to the population behind it."""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from audience_service.domain.caller import Call
from audience_service.domain.errors import (
    AudienceNotFound,
    InvalidArgument,
    InvalidFilter,
    UnusableAudience,
    Violation,
    located,
)
from audience_service.domain.filters import (
    CompiledFilter,
    Filter,
    FilterCompiler,
    FilterWarning,
    Limits,
    fits_struct,
    identity,
)
from audience_service.domain.filters.nodes import Node
from audience_service.domain.filters.references import audience_references
from audience_service.domain.ports import ContactList, Population, SegmentRepository
from audience_service.domain.segment import ID_PREFIX, Segment, SegmentType
from audience_service.domain.tokens import digest


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose members a caller means: an audience of the org, an unsaved filter, or a union: exactly one of them.

    Members of the excluded audiences are left out, and those who must not be reached for the purpose. The places are
    where the request has the first two.
    """

    audience_id: str = ""
    filter: Filter | None = None
    audience_place: str = "audience_id"
    filter_place: str = "filter"
    audience_ids: Sequence[str] = ()
    exclude_audience_ids: Sequence[str] = ()
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Defined:
    """The members of an audience, and by what they are.

    `definition` is a digest of its filter and those of the audiences in it; `versions` are those of the segments that
    were read for it, lists included.
    """

    members: Population
    definition: str
    versions: Hashable


class Audiences:
    """Finds what an id or a filter stands for, within the call's org."""

    def __init__(
        self, segments: SegmentRepository, compiler: FilterCompiler, known: Mapping[str, Segment] | None = None
    ) -> None:
        self._segments = segments
        self._compiler = compiler
        self._known = known or {}

    def at(self, moment: datetime) -> "Audiences":
        """The same, their filters compiled as of a moment."""
        return Audiences(self._segments, self._compiler.at(moment), self._known)

    def knowing(self, call: Call, segments: Iterable[Segment], filters: Iterable[Filter] = ()) -> "Audiences":
        """The same, which need not ask again for these segments, nor for the audiences in their filters and in others.

        They are read level by level, as audiences stand inside one another, each level by one query.
        """
        known = {segment.id: segment for segment in segments}
        level = [*(_filter_of(segment) for segment in known.values()), *filters]
        for _ in range(Limits().audience_depth):
            inside = frozenset().union(*(audience_references(written.where) for written in level))
            if not (wanted := sorted(inside - known.keys())):
                break
            found = self._segments.get_many(call.org, wanted, call.deadline)
            known.update(found)
            level = [_filter_of(segment) for segment in found.values()]
        return Audiences(self._segments, self._compiler, known)

    @property
    def names(self) -> Mapping[str, str]:
        """The names of the audiences that are known, by id."""
        return {segment.id: segment.name for segment in self._known.values()}

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
            raise InvalidArgument.at("filter", "is missing; give a filter or an audience_id")
        segment = self.get(call, selection.audience_id)
        members = self.of_segment(call, segment)
        if not isinstance(members, ContactList):
            members = replace(members, place=selection.audience_place)
        return members, (segment.id, segment.version)

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
        """The living audience of the call's org. Raises AudienceNotFound."""
        if found := self._known.get(audience_id):
            return found
        if not audience_id.startswith(ID_PREFIX):
            raise AudienceNotFound.of(audience_id)
        return self._segments.get(call.org, audience_id, call.deadline)

    def get_many(self, call: Call, named: Mapping[str, str]) -> Sequence[Segment]:
        """The living audiences by the places in the request that name them, in order, all by one query.

        Raises InvalidArgument at the first place that is empty, AudienceNotFound at the first whose audience is not
        there.
        """
        for place, audience_id in named.items():
            if not audience_id:
                raise InvalidArgument.at(place, "is missing; name an audience")
        found = self._segments.get_many(call.org, list(dict.fromkeys(named.values())), call.deadline)
        for place, audience_id in named.items():
            if audience_id not in found:
                error = AudienceNotFound.of(audience_id)
                error.violations = (Violation(place, "names no living audience of the org"),)
                raise error
        return [found[audience_id] for audience_id in named.values()]

    def of_segment(self, call: Call, segment: Segment) -> Population:
        """The members of a stored segment. Raises UnusableAudience where its filter cannot be run."""
        if segment.type is SegmentType.STATIC:
            return self.list_of(segment)
        with _usable(segment):
            return self.compile(call, as_shown(segment.filter), segment.id)

    def defined(self, call: Call, audience_id: str) -> Defined:
        """The members of an audience, and by what they are. Raises AudienceNotFound, UnusableAudience."""
        read: dict[str, Segment] = {}

        def found(segment: Segment) -> Filter | ContactList:
            read[segment.id] = segment
            return self._standing_for(segment)

        segment = self.get(call, audience_id)
        members: Population | Filter = found(segment)
        if isinstance(members, Filter):
            with _usable(segment):
                members = self._compiler.compile(
                    as_shown(members), lambda inner: found(self.get(call, inner)), (segment.id,)
                )
        filters = {name: identity(each.filter) for name, each in read.items() if each.type is SegmentType.DYNAMIC}
        return Defined(members, digest(filters), tuple((name, each.version) for name, each in read.items()))

    def list_of(self, segment: Segment) -> ContactList:
        """The list of a stored static segment. Raises UnusableAudience where its datatype is not served."""
        with _usable(segment):
            return ContactList(segment.id, self._compiler.check_datatype(segment.filter.datatype), segment.version)

    def source(self, call: Call, audience_id: str) -> Filter | ContactList:
        """What an audience inside a filter stands for. Raises AudienceNotFound, UnusableAudience."""
        return self._standing_for(self.get(call, audience_id))

    def _standing_for(self, segment: Segment) -> Filter | ContactList:
        return self.list_of(segment) if segment.type is SegmentType.STATIC else segment.filter


def as_shown(stored: Filter) -> Filter:
    """A stored filter with places in the form in which callers are shown it."""
    return replace(stored, exact=not fits_struct(stored.where or {}))


def _filter_of(segment: Segment) -> Filter:
    """What decides who is in a segment: of a list none of its filter, which is history."""
    return segment.filter if segment.type is SegmentType.DYNAMIC else Filter(segment.filter.datatype, None)


@contextmanager
def _usable(segment: Segment) -> Iterator[None]:
    try:
        yield
    except (InvalidFilter, AudienceNotFound) as error:
        raise UnusableAudience(
            "the audience's saved filter cannot be run", violations=error.violations, metadata={"id": segment.id}
        ) from error
