r"""Reads the records of a CSV file that arrives in chunks, and the byte offset at which each record ends.

    chunks   id,na | me\n1,"a | \nb"\n2,c\n
    records  ["id", "name"] at offset 8, line 1;  ["1", "a\nb"] at offset 16, line 3;  ["2", "c"] at offset 20, line 4

1. Python's csv module parses the records, in its strict dialect.
2. This module cuts the lines that it parses, so that the offset after each record is known.
3. A reader that starts at the end of any record reads the same records as one that read on.
4. Unless the upload names a delimiter, the first line decides it: Excel's line `sep=;`, or the line that names columns.
"""

import csv
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NoReturn

from audience_service.domain.custom_audiences.errors import InvalidFile
from audience_service.domain.uploads.encodings import describe_escapes, describe_invalid_bytes, describe_signature
from audience_service.domain.uploads.model import DELIMITERS, FilePosition

MAX_ROW_BYTES = 1024 * 1024
MAX_CELL_BYTES = 128 * 1024

_BOM = b"\xef\xbb\xbf"
_DETECTION_BYTES = 4
_SEPARATOR_LINE = "sep="

# The csv module has one limit for the process. This module limits rows before they are parsed, and cells after. The
# csv module's default limit, an eighth of the largest row, would raise an error within a row.
csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))


def invalid_file(line: int, problem: str, detail: str) -> InvalidFile:
    """The error that fails an upload. `problem` is a code for programs."""
    return InvalidFile(f"line {line:,}: {detail}", metadata={"line": str(line), "problem": problem})


class CsvReader:
    """Iterates over a file's records from a position on. `line`, `offset` and `crc32` are those after the last record.

    `chunks` ends with the file; its errors pass through. `count_columns` returns how many cells of a first row are
    names of columns that are read. `delimiter` is empty until the first record if the file decides it.
    Raises InvalidFile.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        delimiter: str,
        start: FilePosition,
        count_columns: Callable[[Sequence[str]], int] = len,
    ) -> None:
        self._chunks = chunks
        self._lines = self._iter_lines()
        self._count_columns = count_columns
        self.delimiter = start.delimiter or delimiter
        self._reader = self._parse(self._lines) if start.offset else None
        self._is_at_end = False
        self.offset, self.line, self.crc32 = start.offset, start.line, start.crc32
        self.first_line = start.line + 1
        """The line that the last record begins at, counted from 1."""
        self._first_offset = start.offset

    def __iter__(self) -> "CsvReader":
        return self

    def __next__(self) -> list[str]:
        """The cells of the next record; an empty list for an empty line."""
        self.first_line, self._first_offset = self.line + 1, self.offset
        try:
            if self._reader is None:
                self._reader = self._begin()
            return next(self._reader)
        except csv.Error as error:
            self._raise_malformed(error)

    def _parse(self, lines: Iterator[str]) -> "Iterator[list[str]]":
        return csv.reader(lines, delimiter=self.delimiter or ",", strict=True)

    def _begin(self) -> "Iterator[list[str]]":
        """The parser of the file, once the delimiter is known. Skips empty lines and `sep=;` at the beginning."""
        for line in self._lines:
            content = line.strip("\r\n")
            separator = content.strip('"').lower()
            is_separator = separator.startswith(_SEPARATOR_LINE) and len(separator) == len(_SEPARATOR_LINE) + 1
            if is_separator and separator[-1] in DELIMITERS:
                self.delimiter = self.delimiter or separator[-1]
            elif content:
                head, quotes = [line], line.count('"')
                while not self.delimiter and quotes % 2 and (more := next(self._lines, "")):
                    head.append(more)  # a quoted cell that continues in the next line
                    quotes += more.count('"')
                self.delimiter = self.delimiter or self._detect("".join(head))
                return self._parse(chain(head, self._lines))
            self.first_line, self._first_offset = self.line + 1, self.offset
        return iter(())

    def _detect(self, row: str) -> str:
        """The delimiter that splits the row into most known columns, and after that into most cells."""

        def rank(delimiter: str) -> tuple[int, int]:
            try:
                cells = next(csv.reader(row.splitlines(keepends=True), delimiter=delimiter))
            except csv.Error:
                return 0, 0
            return self._count_columns(cells), len(cells)

        return max(DELIMITERS, key=rank)

    @property
    def size(self) -> int:
        """The size of the last record in bytes."""
        return self.offset - self._first_offset

    def _iter_lines(self) -> Iterator[str]:
        """The lines with their line ends, as text. Memory holds a chunk and a row."""
        buffer = bytearray()
        chunk: bytes | None = self._read_beginning() if not self.offset else b""
        while chunk is not None:
            buffer += chunk
            if b"\n" in chunk:
                *lines, rest = bytes(buffer).split(b"\n")
                for index, line in enumerate(lines):
                    yield self._decode_line(line + b"\n", islice(lines, index + 1, None))
                buffer = bytearray(rest)
            if self.offset + len(buffer) - self._first_offset > MAX_ROW_BYTES:
                self._raise_row_too_large(buffer)
            chunk = next(self._chunks, None)
        self._is_at_end = True
        if buffer:
            yield self._decode_line(bytes(buffer))

    def _read_beginning(self) -> bytes:
        """The first bytes, enough of them to detect another encoding."""
        buffer = b""
        for chunk in self._chunks:
            buffer += chunk
            if len(buffer) >= _DETECTION_BYTES:
                break
        if problem := describe_signature(buffer):
            raise invalid_file(1, "encoding", problem)
        return buffer

    def _decode_line(self, raw: bytes, following: Iterable[bytes] = ()) -> str:
        if self.offset + len(raw) - self._first_offset > MAX_ROW_BYTES:
            self._raise_row_too_large(raw)
        text = raw
        while not self.offset and text.startswith(_BOM):
            text = text[len(_BOM) :]
        self.offset += len(raw)
        self.line += 1
        self.crc32 = zlib.crc32(raw, self.crc32)
        if problem := describe_escapes(text):
            raise invalid_file(self.line, "encoding", problem)
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            problem = describe_invalid_bytes(text, error, following)
            raise invalid_file(self.line, "encoding", problem) from None

    def _raise_row_too_large(self, row: bytes | bytearray) -> NoReturn:
        limit = f"more than the limit of {MAX_ROW_BYTES:,} bytes"
        if b"\r" in row and b"\n" not in row:
            raise invalid_file(
                self.first_line,
                "line_ends",
                f"the row has {limit}; end lines with a line feed, not with a carriage return alone",
            )
        raise invalid_file(
            self.first_line, "row_too_large", f"the row that begins here has {limit}; check for a missing closing quote"
        )

    def _raise_malformed(self, error: csv.Error) -> NoReturn:
        """Raise the error of a record in our own words; those of the csv module may quote its data."""
        if "new-line" in str(error):
            raise invalid_file(
                self.first_line,
                "line_ends",
                "a carriage return has no line feed after it; end lines with LF or CRLF",
            ) from None
        if self._is_at_end and "unexpected end" in str(error):
            raise invalid_file(
                self.first_line, "unclosed_quote", "the row that begins here has a quote that is never closed; close it"
            ) from None
        raise invalid_file(
            self.first_line,
            "stray_quote",
            "the row that begins here has text after a closing quote; put a delimiter there, and double the quotes "
            "inside quotes",
        ) from None
