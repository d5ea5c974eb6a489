"""The rows of an export: all members, or the members that entered and exited since a snapshot."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.record import Record
from audience_service.domain.exports.batches import ADD, REMOVE
from audience_service.domain.exports.readiness import ReadinessCounter, Removals, Row
from audience_service.domain.exports.removals import RetainedIdentifiers
from audience_service.domain.filters.ast import OnList
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.set_operations import difference, to_filter
from audience_service.domain.identifiers import IdentifierExtractor
from audience_service.domain.snapshots.model import Snapshot

Rows = Generator[tuple[str, Row], None, None]
"""Pairs of a record's sk and its row, in the order of sk."""

_READ_BATCH_SIZE = 1_000


class ExportRows(Protocol):
    """The rows of an export."""

    def operations(self) -> Iterator[tuple[str, Rows]]:
        """Each operation and its rows. Read the rows of one operation to the end before the next."""

    def removals(self) -> Removals | None:
        """The counts of removals, after all rows are read; None for a full export."""


@dataclass(frozen=True, slots=True)
class RecordReader:
    """Reads the records of populations in the order of sk."""

    members: MemberRepository
    ctx: RequestContext
    paths: Sequence[str]

    def records(self, population: Population, paths: Sequence[str] | None = None) -> Generator[Record, None, None]:
        """Every record, with `paths`, or the reader's own paths if None."""
        record_paths = self.paths if paths is None else paths
        deadline = self.ctx.deadline
        with closing(
            self.members.stream(self.ctx.org, population, record_paths, _READ_BATCH_SIZE, "", deadline)
        ) as stream:
            for records in stream:
                deadline.check()  # A stream that resumes near its end sends no message for a long time.
                yield from records

    def count(self, population: Population) -> int:
        """The number of members."""
        return self.members.count(self.ctx.org, population, self.ctx.deadline)


class FullExport:
    """Adds all members."""

    def __init__(self, reader: RecordReader, counter: ReadinessCounter, population: Population) -> None:
        self._reader = reader
        self._counter = counter
        self._population = population

    def operations(self) -> Iterator[tuple[str, Rows]]:
        """One operation: add all members."""
        yield ADD, self._rows()

    def removals(self) -> None:
        """None: a full export removes no rows."""

    def _rows(self) -> Rows:
        with closing(self._reader.records(self._population)) as records:
            for record in records:
                if (row := self._counter.row(record)) is not None:
                    yield record["sk"], row


class DeltaExport:
    """Adds the members that entered since a snapshot, and removes those that exited. The database finds both.

    The export still reads all members. It counts them, and keeps their identifiers out of the rows to remove.
    """

    def __init__(
        self,
        reader: RecordReader,
        identifier: IdentifierExtractor,
        counter: ReadinessCounter,
        population: Population,
        since_snapshot: Snapshot,
    ) -> None:
        self._reader = reader
        self._identifier = identifier
        self._counter = counter
        self._population = population
        current_members, self._previous_members = (
            to_filter(population),
            compile_node(since_snapshot.datatype, OnList(since_snapshot.rows)),
        )
        self._entered, self._exited = (
            difference(current_members, self._previous_members),
            difference(self._previous_members, current_members),
        )
        self._since_snapshot = since_snapshot
        self._retained_identifiers = RetainedIdentifiers(identifier)
        self._removed = self._retained = self._without_row = 0

    def operations(self) -> Iterator[tuple[str, Rows]]:
        """The members that entered, then those that exited."""
        yield ADD, self._rows_entered()
        yield REMOVE, self._rows_exited()

    def removals(self) -> Removals:
        """The counts of removals. Deleted records count as unremovable: their identifiers cannot be read."""
        deleted_count = self._since_snapshot.count - self._reader.count(self._previous_members)
        return Removals(self._removed, self._retained, self._without_row + deleted_count)

    def _rows_entered(self) -> Rows:
        entered, members = self._reader.records(self._entered, []), self._reader.records(self._population)
        with closing(entered), closing(members):
            keys = (record["sk"] for record in entered)
            key = next(keys, None)
            for record in members:
                sk, row = record["sk"], self._counter.row(record)
                while key is not None and key < sk:
                    key = next(keys, None)
                if row is not None:
                    self._retained_identifiers.add(row)
                    if key == sk:
                        yield sk, row

    def _rows_exited(self) -> Rows:
        with closing(self._reader.records(self._exited)) as records:
            for record in records:
                row = self._identifier.identify(record).row
                remaining = row and self._retained_identifiers.remove_from(row)
                self._without_row += row is None
                self._retained += row is not None and remaining is None
                if remaining:
                    self._removed += 1
                    yield record["sk"], remaining
