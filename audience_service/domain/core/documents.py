"""Records as the database sends them: undecoded BSON documents, one after the other, in sk order."""

import itertools
import struct
from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass

from bson.raw_bson import RawBSONDocument

_MAX_BYTES = 3 * 1024 * 1024
_LENGTH = struct.Struct("<i")
"""The first element of a BSON document: its length in bytes (bsonspec.org)."""


@dataclass(frozen=True, slots=True)
class Documents:
    """One or more records."""

    content: bytes
    count: int
    last_sk: str
    """The sk of the last record."""

    def halves(self) -> "tuple[Documents, Documents]":
        """Two batches of these documents, of which there must be two or more."""
        ends, half = document_ends(self.content), self.count // 2
        start, middle = ends[half - 2] if half > 1 else 0, ends[half - 1]
        return (
            Documents(self.content[:middle], half, _sk_of(self.content[start:middle])),
            Documents(self.content[middle:], self.count - half, self.last_sk),
        )


def cut_documents(content: bytes, size: int) -> Iterator[Documents]:
    """Batches of up to `size` of the documents in `content`, and of up to 3 MiB. A larger document is one batch."""
    ends = document_ends(content)
    first = start = 0
    while first < len(ends):
        last = min(first + size, len(ends))
        last = max(bisect_right(ends, start + _MAX_BYTES, first, last), first + 1)
        end = ends[last - 1]
        last_start = ends[last - 2] if last - first > 1 else start
        yield Documents(content[start:end], last - first, _sk_of(content[last_start:end]))
        first, start = last, end


def exclude(documents: Documents, sks: Container[str]) -> Documents | None:
    """The documents without the records of some sks, None if none remains."""
    ends = document_ends(documents.content)
    found = [documents.content[start:end] for start, end in itertools.pairwise([0, *ends])]
    present = [document for document in found if _sk_of(document) not in sks]
    return Documents(b"".join(present), len(present), _sk_of(present[-1])) if present else None


def document_ends(content: bytes) -> list[int]:
    """The offsets at which consecutive documents end."""
    ends: list[int] = []
    end = 0
    while end < len(content):
        end += _LENGTH.unpack_from(content, end)[0]
        ends.append(end)
    return ends


def _sk_of(document: bytes) -> str:
    return str(RawBSONDocument(document)["sk"])  # it decodes the top level only
