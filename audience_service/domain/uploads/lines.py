"""Lines and records of a CSV file that arrives in pieces, with the place where each record ends.

Python's csv module reads the records, in its strict dialect. The lines that it is given are cut here, so that after
each record it is known how many bytes lie before: a reader can begin anew at any record's end, and finds what follows
as if it had read on.
"""

import csv
import zlib
from collections.abc import Iterator
from typing import NoReturn

from audience_service.domain.custom.errors import InvalidFile
from audience_service.domain.uploads.encodings import check_beginning, refuse_bytes
from audience_service.domain.uploads.upload import Position

MAX_ROW_BYTES = 1024 * 1024
MAX_CELL_BYTES = 128 * 1024

_BOM = b"\xef\xbb\xbf"
_BEGINNING = 4

# The csv module has one limit for the process. Cells are bounded here, row by row, and rows before they are parsed: its
# own limit, a third of what a row may have, would stop it in the midst of one.
csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))


def invalid_file(line: int, problem: str, what: str) -> InvalidFile:
    """The error that fails an upload; `problem` is its name for programs."""
    return InvalidFile(f"line {line:,}: {what}", metadata={"line": str(line), "problem": problem})


class Records:
    """Iterates over a file's records, from a position on; `line`, `offset` and `crc32` are those behind the last one.

    The pieces end with the file. Whatever they raise passes through. Raises InvalidFile.
    """

    def __init__(self, pieces: Iterator[bytes], delimiter: str, start: Position) -> None:
        self._pieces = pieces
        self._reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        self._ended = False
        self.offset, self.line, self.crc32 = start.offset, start.line, start.crc32
        self.first_line = start.line + 1
        """The line that the last record begins at, from 1 on."""
        self._first_offset = start.offset

    def __iter__(self) -> "Records":
        return self

    def __next__(self) -> list[str]:
        """The next record's cells; none at all for an empty line."""
        self.first_line, self._first_offset = self.line + 1, self.offset
        try:
            return next(self._reader)
        except csv.Error as error:
            self._refuse(error)

    @property
    def size(self) -> int:
        """How many bytes the last record has."""
        return self.offset - self._first_offset

    def _lines(self) -> Iterator[str]:
        """The lines with their ends, as text. Holds a piece and a row."""
        held = bytearray()
        piece: bytes | None = self._beginning() if not self.offset else b""
        while piece is not None:
            held += piece
            if b"\n" in piece:
                *whole, rest = bytes(held).split(b"\n")
                for line in whole:
                    yield self._line(line + b"\n")
                held = bytearray(rest)
            if self.offset + len(held) - self._first_offset > MAX_ROW_BYTES:
                self._refuse_length(held)
            piece = next(self._pieces, None)
        self._ended = True
        if held:
            yield self._line(bytes(held))

    def _beginning(self) -> bytes:
        """The first bytes, enough of them to tell another encoding by."""
        held = b""
        for piece in self._pieces:
            held += piece
            if len(held) >= _BEGINNING:
                break
        if said := check_beginning(held):
            raise invalid_file(1, "encoding", said)
        return held

    def _line(self, raw: bytes) -> str:
        if self.offset + len(raw) - self._first_offset > MAX_ROW_BYTES:
            self._refuse_length(raw)
        text = raw[len(_BOM) :] if not self.offset and raw.startswith(_BOM) else raw
        self.offset += len(raw)
        self.line += 1
        self.crc32 = zlib.crc32(raw, self.crc32)
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise invalid_file(self.line, "encoding", refuse_bytes(text, error)) from None

    def _refuse_length(self, held: bytes | bytearray) -> NoReturn:
        limit = f"more than {MAX_ROW_BYTES:,} bytes, which is all that a row may have"
        if b"\r" in held and b"\n" not in held:
            raise invalid_file(
                self.first_line,
                "line_ends",
                f"the row has {limit}; lines that end with a carriage return alone are none",
            )
        raise invalid_file(
            self.first_line, "row_too_large", f"the row that begins here has {limit}; a quote may not be closed"
        )

    def _refuse(self, error: csv.Error) -> NoReturn:
        """Say what is wrong with a record in words of our own: those of the module may quote what stands in it."""
        if "new-line" in str(error):
            raise invalid_file(
                self.first_line,
                "line_ends",
                "a carriage return stands alone; lines end with a line feed, one before it or not",
            ) from None
        if self._ended and "unexpected end" in str(error):
            raise invalid_file(
                self.first_line, "unclosed_quote", "a quote that is opened in the row that begins here is never closed"
            ) from None
        raise invalid_file(
            self.first_line,
            "stray_quote",
            "behind a quoted cell of the row that begins here stands something else than a delimiter; quotes inside "
            "quotes are written twice",
        ) from None
