"""Rows put into batches of the platform's size, each in as many parts as it takes to fit a message."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.exports.readiness import Readiness, Row
from audience_service.domain.identifiers.rules import PlatformRules
from audience_service.domain.tokens import TokenSealer

ADD, REMOVE = "add", "remove"
_ORDER = (ADD, REMOVE)

_MAX_PART_BYTES = 3 * 1024 * 1024


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
class Position:
    """Where a stream is: behind the sk `after` of an operation, with so many rows of its batch sent."""

    operation: str = ADD
    after: str = ""
    batch: int = 0
    sent: int = 0

    def is_before(self, operation: str, sk: str) -> bool:
        """Whether a row is still to be sent."""
        return (_ORDER.index(self.operation), self.after) < (_ORDER.index(operation), sk)


@dataclass(frozen=True, slots=True)
class Batches:
    """What puts one stream's rows into batches."""

    sealer: TokenSealer
    binding: tuple[Any, ...]
    rules: PlatformRules
    columns: Sequence[str]

    def begin(self, cursor: str) -> Position:
        """Where a stream goes on. Raises InvalidPageToken."""
        return Position(*self.sealer.open(cursor, self.binding, "cursor")) if cursor else Position()

    def parts(
        self, rows: Iterable[tuple[str, Row]], operation: str, start: Position
    ) -> Generator[ExportPart, None, Position]:
        """Those of an operation's rows that are behind the start, in order of sk. Returns where they end."""
        position, held = start, list[tuple[str, Row]]()
        room = self._room(position)
        for sk, row in rows:
            if not start.is_before(operation, sk):
                continue
            if len(held) == room:
                position = yield from self._part(held, operation, position)
                held, room = [], self._room(position)
            held.append((sk, row))
        if held:
            position = yield from self._part(held, operation, position, is_last=True)
        return position

    def end(self, position: Position, readiness: Readiness) -> ExportPart:
        """What follows the last row."""
        return ExportPart(self.rules, self.columns, self._cursor(position), readiness=readiness)

    def _room(self, position: Position) -> int:
        """How many rows the next part may have."""
        return min(self.rules.batch_size - position.sent, _MAX_PART_BYTES // self.rules.row_bytes)

    def _part(
        self, held: Sequence[tuple[str, Row]], operation: str, position: Position, *, is_last: bool = False
    ) -> Generator[ExportPart, None, Position]:
        after, sent = held[-1][0], position.sent + len(held)
        ends = is_last or sent == self.rules.batch_size
        behind = Position(operation, after, position.batch + ends, 0 if ends else sent)
        rows = [row for _, row in held]
        yield ExportPart(
            self.rules, self.columns, self._cursor(behind), rows, operation, position.batch, ends_batch=ends
        )
        return behind

    def _cursor(self, position: Position) -> str:
        return self.sealer.seal(self.binding, [position.operation, position.after, position.batch, position.sent])
