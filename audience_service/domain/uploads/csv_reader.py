"""Lines and records of a CSV file that arrives in pieces, with the place where each record ends.

Python's csv module reads the records, in its strict dialect. The lines that it is given are cut here, so that after
each record it is known how many bytes lie before: a reader can begin anew at any record's end, and finds what follows
as if it had read on.
"""

import csv
import zlib
from collections.abc import Iterator
from typing import NoReturn

from audience_service.domain.custom_audiences.errors import InvalidFile
from audience_service.domain.uploads.encodings import describe_invalid_bytes, describe_signature
from audience_service.domain.uploads.model import Position

MAX_ROW_BYTES = 1024 * 1024
MAX_CELL_BYTES = 128 * 1024

_BOM = b"\xef\xbb\xbf"
_DETECTION_BYTES = 4

# The csv module has one limit for the process. Cells are bounded here, row by row, and rows before they are parsed: its
# own limit, a third of what a row may have, would stop it in the midst of one.
csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))


def invalid_file(line: int, problem: str, detail: str) -> InvalidFile:
    """The error that fails an upload; `problem` is its name for programs."""
    return InvalidFile(f"line {line:,}: {detail}", metadata={"line": str(line), "problem": problem})


class CsvReader:
    """Iterates over a file's records, from a position on; `line`, `offset` and `crc32` are those behind the last one.

    The pieces end with the file. Whatever they raise passes through. Raises InvalidFile.
    """

    def __init__(self, chunks: Iterator[bytes], delimiter: str, start: Position) -> None:
        self._chunks = chunks
        self._reader = csv.reader(self._iter_lines(), delimiter=delimiter, strict=True)
        self._is_at_end = False
        self.offset, self.line, self.crc32 = start.offset, start.line, start.crc32
        self.first_line = start.line + 1
        """The line that the last record begins at, from 1 on."""
        self._first_offset = start.offset

    def __iter__(self) -> "CsvReader":
        return self

    def __next__(self) -> list[str]:
        """The next record's cells; none at all for an empty line."""
        self.first_line, self._first_offset = self.line + 1, self.offset
        try:
            return next(self._reader)
        except csv.Error as error:
            self._raise_malformed(error)

    @property
    def size(self) -> int:
        """How many bytes the last record has."""
        return self.offset - self._first_offset

    def _iter_lines(self) -> Iterator[str]:
        """The lines with their ends, as text. Holds a piece and a row."""
        buffer = bytearray()
        chunk: bytes | None = self._read_beginning() if not self.offset else b""
        while chunk is not None:
            buffer += chunk
            if b"\n" in chunk:
                *lines, rest = bytes(buffer).split(b"\n")
                for line in lines:
                    yield self._decode_line(line + b"\n")
                buffer = bytearray(rest)
            if self.offset + len(buffer) - self._first_offset > MAX_ROW_BYTES:
                self._raise_row_too_large(buffer)
            chunk = next(self._chunks, None)
        self._is_at_end = True
        if buffer:
            yield self._decode_line(bytes(buffer))

    def _read_beginning(self) -> bytes:
        """The first bytes, enough of them to tell another encoding by."""
        buffer = b""
        for chunk in self._chunks:
            buffer += chunk
            if len(buffer) >= _DETECTION_BYTES:
                break
        if problem := describe_signature(buffer):
            raise invalid_file(1, "encoding", problem)
        return buffer

    def _decode_line(self, raw: bytes) -> str:
        if self.offset + len(raw) - self._first_offset > MAX_ROW_BYTES:
            self._raise_row_too_large(raw)
        text = raw[len(_BOM) :] if not self.offset and raw.startswith(_BOM) else raw
        self.offset += len(raw)
        self.line += 1
        self.crc32 = zlib.crc32(raw, self.crc32)
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise invalid_file(self.line, "encoding", describe_invalid_bytes(text, error)) from None

    def _raise_row_too_large(self, row: bytes | bytearray) -> NoReturn:
        limit = f"more than {MAX_ROW_BYTES:,} bytes, which is all that a row may have"
        if b"\r" in row and b"\n" not in row:
            raise invalid_file(
                self.first_line,
                "line_ends",
                f"the row has {limit}; lines that end with a carriage return alone are none",
            )
        raise invalid_file(
            self.first_line, "row_too_large", f"the row that begins here has {limit}; a quote may not be closed"
        )

    def _raise_malformed(self, error: csv.Error) -> NoReturn:
        """Say what is wrong with a record in words of our own: those of the module may quote what stands in it."""
        if "new-line" in str(error):
            raise invalid_file(
                self.first_line,
                "line_ends",
                "a carriage return stands alone; lines end with a line feed, one before it or not",
            ) from None
        if self._is_at_end and "unexpected end" in str(error):
            raise invalid_file(
                self.first_line, "unclosed_quote", "a quote that is opened in the row that begins here is never closed"
            ) from None
        raise invalid_file(
            self.first_line,
            "stray_quote",
            "behind a quoted cell of the row that begins here stands something else than a delimiter; quotes inside "
            "quotes are written twice",
        ) from None
