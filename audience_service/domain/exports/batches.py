"""Rows in batches of the platform's size, each split into parts that fit a message.

For example, 25,000 rows for a platform with batches of 10,000 make batches 0, 1 and 2. If only 6,000 rows fit a
message, batch 0 is sent as parts of 6,000 and 4,000 rows; the second one has `ends_batch`.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.errors import InvalidPageToken
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.exports.readiness import Readiness, Row
from audience_service.domain.identifiers.rules import PlatformRules

ADD, REMOVE = "add", "remove"
_ORDER = (ADD, REMOVE)
_MAX_BATCH = 2**31 - 2
"""The batch before the largest number that a message can contain."""

MAX_PART_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExportPart:
    """A batch of the platform's size, or a part of a batch larger than 3 MiB. The last part has only the readiness."""

    rules: PlatformRules
    columns: Sequence[str]
    cursor: str
    rows: Sequence[Row] = ()
    operation: str = ""
    batch: int = 0
    ends_batch: bool = False
    readiness: Readiness | None = None


@dataclass(frozen=True, slots=True)
class ExportPosition:
    """The position of a stream: the operation, its last sk, and how many rows of the current batch are sent."""

    operation: str = ADD
    after: str = ""
    batch: int = 0
    sent: int = 0

    def precedes(self, operation: str, sk: str) -> bool:
        """Whether the row is after this position, so that the stream must still send it."""
        return (_ORDER.index(self.operation), self.after) < (_ORDER.index(operation), sk)


@dataclass(frozen=True, slots=True)
class Batcher:
    """Divides the rows of one stream into batches and parts."""

    tokens: TokenCodec
    binding: tuple[Any, ...]
    rules: PlatformRules
    columns: Sequence[str]

    def resume(self, cursor: str) -> ExportPosition:
        """The position from which a stream continues. Raises InvalidPageToken."""
        if not cursor:
            return ExportPosition()
        position = ExportPosition(*self.tokens.decode(cursor, self.binding, "cursor", (str, str, int, int)))
        if position.operation not in _ORDER or position.batch > _MAX_BATCH or position.sent >= self.rules.batch_size:
            raise InvalidPageToken.at("cursor", "has no valid position; start again without it")
        return position

    def parts(
        self, rows: Iterable[tuple[str, Row]], operation: str, start: ExportPosition
    ) -> Generator[ExportPart, None, ExportPosition]:
        """The parts with an operation's rows after `start`, in order of sk. Returns the position after the last row."""
        position, buffered, size = start, list[tuple[str, Row]](), 0
        for sk, row in rows:
            if not start.precedes(operation, sk):
                continue
            size_of_row = row_size(row)
            if len(buffered) == self.rules.batch_size - position.sent or size + size_of_row > MAX_PART_BYTES:
                position = yield from self._part(buffered, operation, position)
                buffered, size = [], 0
            buffered.append((sk, row))
            size += size_of_row
        if buffered:
            position = yield from self._part(buffered, operation, position, is_last=True)
        return position

    def finish(self, position: ExportPosition, readiness: Readiness) -> ExportPart:
        """The last part, after all rows."""
        return ExportPart(self.rules, self.columns, self._cursor(position), readiness=readiness)

    def _part(
        self, buffered: Sequence[tuple[str, Row]], operation: str, position: ExportPosition, *, is_last: bool = False
    ) -> Generator[ExportPart, None, ExportPosition]:
        after, sent = buffered[-1][0], position.sent + len(buffered)
        ends = is_last or sent == self.rules.batch_size
        next_position = ExportPosition(operation, after, position.batch + ends, 0 if ends else sent)
        rows = [row for _, row in buffered]
        yield ExportPart(
            self.rules, self.columns, self._cursor(next_position), rows, operation, position.batch, ends_batch=ends
        )
        return next_position

    def _cursor(self, position: ExportPosition) -> str:
        return self.tokens.encode(self.binding, [position.operation, position.after, position.batch, position.sent])


def row_size(row: Row) -> int:
    """The most bytes of a row in a message, including those that precede the row and each value."""
    return 6 + sum(3 + (len(value) if value.isascii() else len(value.encode())) for value in row)
