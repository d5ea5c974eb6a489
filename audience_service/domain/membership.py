"""The use case on membership: who is in."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audience_service.domain.audiences import Audiences, Selection
from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters import identity
from audience_service.domain.filters.fields import record_path
from audience_service.domain.ports import MemberRepository, Record
from audience_service.domain.tokens import TokenSealer

MAX_FIELDS = 50


@dataclass(frozen=True, slots=True)
class Member:
    """A member and the values of the fields asked for, keyed as asked; those it does not have are left out."""

    id: str
    sk: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MemberBatch:
    """A batch of a stream. `total` is set on the last one alone, which has no members.

    `halves` makes two batches of one of two or more members, for a wire that cannot carry it whole.
    """

    members: tuple[Member, ...]
    cursor: str
    total: int | None = None
    halves: Callable[[], "tuple[MemberBatch, MemberBatch]"] | None = None


class Membership:
    """Streams the members of audiences and unsaved filters."""

    def __init__(self, members: MemberRepository, audiences: Audiences, sealer: TokenSealer) -> None:
        self._members = members
        self._audiences = audiences
        self._sealer = sealer

    def stream(
        self, call: Call, selection: Selection, fields: Sequence[str], batch_size: int, cursor: str
    ) -> Generator[MemberBatch, None, None]:
        """The members after `cursor` in sk order, then the total.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, InvalidPageToken at the first batch;
        StoreUnavailable, OutOfTime at any.
        """
        paths = _paths(fields)
        binding = ("members", call.org, selection.audience_id, identity(selection.filter), sorted(paths))
        after, sent = self._sealer.open(cursor, binding, "cursor") if cursor else ("", 0)
        population = self._audiences.population(call, selection)
        records = self._members.stream(call.org, population, [*paths.values()], batch_size, after, call.deadline)
        segments = {field: path.split(".") for field, path in paths.items()}
        with closing(records):
            for batch in records:
                members = tuple(_member(record, segments) for record in batch)
                yield self._batch(binding, members, sent)
                after, sent = members[-1].sk, sent + len(members)
        yield MemberBatch((), self._sealer.seal(binding, [after, sent]), sent)

    def _batch(self, binding: tuple[Any, ...], members: tuple[Member, ...], sent: int) -> MemberBatch:
        cursor = self._sealer.seal(binding, [members[-1].sk, sent + len(members)])
        half = len(members) // 2
        if not half:
            return MemberBatch(members, cursor)

        def halves() -> tuple[MemberBatch, MemberBatch]:
            return self._batch(binding, members[:half], sent), self._batch(binding, members[half:], sent + half)

        return MemberBatch(members, cursor, halves=halves)


def _paths(fields: Sequence[str]) -> dict[str, str]:
    """Where each field asked for is in the record. Raises InvalidArgument at `fields[i]`."""
    if len(fields) > MAX_FIELDS:
        raise InvalidArgument.at("fields", f"names {len(fields)} fields, more than {MAX_FIELDS}")
    paths = {}
    for index, field in enumerate(fields):
        place = f"fields[{index}]"
        if any(segment.isdecimal() for segment in field.split(".")):
            raise InvalidArgument.at(place, "names a place in a list; name the list")
        try:
            paths[field] = record_path(field, place)
        except InvalidFilter as error:
            raise InvalidArgument("invalid request", violations=error.violations) from None
    return paths


def _member(record: Record, paths: Mapping[str, Sequence[str]]) -> Member:
    fields = {field: value for field, path in paths.items() if (value := _dig(record, path)) is not _MISSING}
    return Member(str(record.get("pk", "")), record["sk"], fields)


_MISSING = object()


def _dig(value: Any, segments: Sequence[str]) -> Any:
    """The value at a path; through a list, the list of what its elements have there."""
    for position, segment in enumerate(segments):
        if isinstance(value, dict):
            value = value.get(segment, _MISSING)
        elif isinstance(value, list):
            found = [_dig(item, segments[position:]) for item in value]
            return [item for item in found if item is not _MISSING]
        else:
            return _MISSING
    return value
