"""The use case on exports: members as the rows that an ad platform takes."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from audience_service.domain.audiences import Selection
from audience_service.domain.caller import Call
from audience_service.domain.consent import NO_CONSENT, lacking_consent
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.identifiers import Identifier, choose_rules
from audience_service.domain.identifiers.phones import REGIONS
from audience_service.domain.identifiers.rules import PlatformRules
from audience_service.domain.populations import Choice, Populations
from audience_service.domain.ports import MemberRepository, Population
from audience_service.domain.readiness import Readiness, ReadinessCounter, Row
from audience_service.domain.tokens import TokenSealer

_READ_AT_ONCE = 1_000
_MAX_PART_BYTES = 3 * 1024 * 1024
_PURPOSE = "ads"
ADD = "add"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a caller wants: whose identifiers, which of them, and by which rules."""

    selection: Selection
    platform: str
    fields: Sequence[str] = ()
    rules: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    default_region: str = ""
    consent_fields: Sequence[str] = ()
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class ExportPart:
    """A batch of the platform's size, or a part of one that is past 3 MiB; the last of all has the readiness alone."""

    rules: PlatformRules
    columns: Sequence[str]
    cursor: str
    rows: Sequence[Row] = ()
    operation: str = ""
    batch: int = 0
    ends_batch: bool = False
    readiness: Readiness | None = None


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a stream is: behind the sk `after`, with so many rows of its batch sent."""

    after: str = ""
    batch: int = 0
    sent: int = 0


class Exports:
    """Streams the identifiers of members."""

    def __init__(self, members: MemberRepository, populations: Populations, sealer: TokenSealer) -> None:
        self._members = members
        self._populations = populations
        self._sealer = sealer

    def stream(self, call: Call, request: ExportRequest) -> Generator[ExportPart, None, None]:
        """The rows behind the cursor in the order of sk, in the platform's batches, then the readiness.

        What lies before the cursor is read again to be counted, since which rows are new cannot be told from counts.
        Raises InvalidArgument, AudienceNotFound, UnusableAudience, InvalidPageToken at the first part;
        StoreUnavailable, OutOfTime at any.
        """
        rules = choose_rules(request.platform, request.rules, request.options, request.fields)
        identifier = Identifier(rules, _region(request.default_region))
        choice = self._choose(call, request)
        binding = ("export", call.org, *choice.identity, *_told(request, rules))
        start = _Position(*self._sealer.open(request.cursor, binding, "cursor")) if request.cursor else _Position()
        batches = _Batches(self._sealer, binding, rules, identifier.columns)
        counter = ReadinessCounter(identifier)
        with closing(self._rows(call, choice.population, identifier, counter)) as rows:
            position = yield from batches.parts(rows, ADD, start)
        readiness = counter.readiness(self._populations.exclusions(call, choice), rules)
        yield batches.end(position, readiness)

    def _choose(self, call: Call, request: ExportRequest) -> Choice:
        """The members to send, and who is left out, those without consent last."""
        selection = replace(request.selection, purpose=request.selection.purpose or _PURPOSE)
        choice = self._populations.choose(call, selection)
        if not request.consent_fields:
            return choice
        lacking = lacking_consent(choice.candidates.datatype, request.consent_fields)
        return self._populations.less(choice, NO_CONSENT, lacking)

    def _rows(
        self, call: Call, population: Population, identifier: Identifier, counter: ReadinessCounter
    ) -> Generator[tuple[str, Row], None, None]:
        """Every member's sk and row, of those who have one."""
        stream = self._members.stream(call.org, population, identifier.record_paths, _READ_AT_ONCE, "", call.deadline)
        with closing(stream):
            for records in stream:
                call.deadline.check()  # a stream resumed late sends nothing for long
                for record in records:
                    if (row := counter.row(record)) is not None:
                        yield record["sk"], row


@dataclass(frozen=True, slots=True)
class _Batches:
    """What puts one stream's rows into batches."""

    sealer: TokenSealer
    binding: tuple[Any, ...]
    rules: PlatformRules
    columns: Sequence[str]

    def parts(
        self, rows: Iterable[tuple[str, Row]], operation: str, start: _Position
    ) -> Generator[ExportPart, None, _Position]:
        """Those of the rows that are behind the start, in order. Returns where they end."""
        position, held = start, list[tuple[str, Row]]()
        room = self._room(position)
        for sk, row in rows:
            if sk <= start.after:
                continue
            if len(held) == room:
                position = yield from self._part(held, operation, position)
                held, room = [], self._room(position)
            held.append((sk, row))
        if held:
            position = yield from self._part(held, operation, position, is_last=True)
        return position

    def end(self, position: _Position, readiness: Readiness) -> ExportPart:
        """What follows the last row."""
        return ExportPart(self.rules, self.columns, self._cursor(position), readiness=readiness)

    def _room(self, position: _Position) -> int:
        """How many rows the next part may have."""
        return min(self.rules.batch_size - position.sent, _MAX_PART_BYTES // self.rules.row_bytes)

    def _part(
        self, held: Sequence[tuple[str, Row]], operation: str, position: _Position, *, is_last: bool = False
    ) -> Generator[ExportPart, None, _Position]:
        sent = position.sent + len(held)
        ends = is_last or sent == self.rules.batch_size
        after = held[-1][0]
        behind = _Position(after, position.batch + 1) if ends else _Position(after, position.batch, sent)
        rows = [row for _, row in held]
        yield ExportPart(
            self.rules, self.columns, self._cursor(behind), rows, operation, position.batch, ends_batch=ends
        )
        return behind

    def _cursor(self, position: _Position) -> str:
        return self.sealer.seal(self.binding, [position.after, position.batch, position.sent])


def _region(text: str) -> str:
    region = text.upper()
    if region and region not in REGIONS:
        raise InvalidArgument.at("default_region", f"{text[:50]!r} is no country in two letters, like US")
    return region


def _told(request: ExportRequest, rules: PlatformRules) -> tuple[Any, ...]:
    """What tells an export from others of the same members."""
    fields = [rule.field for rule in rules.fields]
    return rules.version, dict(rules.chosen), fields, request.default_region.upper(), sorted(request.consent_fields)
