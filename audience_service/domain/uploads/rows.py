"""Reads the cells of a row: its candidates for a match, or the reason why it is rejected."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.identifiers.match_keys import DIGEST_DIGITS, KeyRule
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.uploads.columns import ColumnLayout
from audience_service.domain.uploads.csv_reader import MAX_CELL_BYTES
from audience_service.domain.uploads.model import MAX_CONTACTS_PER_IDENTIFIER, Rejection

REASONS: Mapping[str, str] = {
    "ragged_row": "has more or fewer cells than the first row",
    "cell_too_large": f"has a cell of more than {MAX_CELL_BYTES:,} bytes",
    "control_character": "has a control character; only cells without match keys may have tabs and line ends",
    "invalid_email": "is not an email address",
    "invalid_phone": "is not a phone number; write it with + and its country code, or set default_region",
    "invalid_hash": f"is not a SHA-256 in {DIGEST_DIGITS} hexadecimal digits",
    "too_common": f"more than {MAX_CONTACTS_PER_IDENTIFIER:,} contacts have this value, so it is likely a placeholder",
    "no_identifier": "has no value in the columns of match keys",
}
"""The reasons for which rows are rejected, with their explanations."""

_SPACES = frozenset("\t\r\n")
_ASCII_CONTROLS = frozenset(map(chr, (*range(32), 127))) - _SPACES
_HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row. `candidates` are what it may be matched by, in order: a contact's id as text, or a match key."""

    line: int
    cells: Sequence[str]
    candidates: Sequence[str | bytes]


class RowReader:
    """Reads the rows of one file. `rules` are the match keys of its columns, except the id."""

    def __init__(self, layout: ColumnLayout, rules: Mapping[str, KeyRule], datatype: str, default_region: str) -> None:
        self._layout = layout
        self._rules = rules
        self._datatype = datatype
        self._region = RegionContext(None, default_region or None)

    def read(self, cells: Sequence[str], line: int) -> Row | Rejection:
        """The row, or the reason to reject it.

        One valid identifier is enough: an invalid email next to a valid phone number does no harm. A row without any is
        rejected because of its first invalid one.
        """
        if len(cells) != self._layout.width:
            return Rejection(line, "", "ragged_row")
        for index, cell in enumerate(cells):
            if not cell.isprintable() and _has_control(cell):
                return Rejection(line, self._layout.column_name(index), "control_character")
            if len(cell) * 4 > MAX_CELL_BYTES and len(cell.encode()) > MAX_CELL_BYTES:
                return Rejection(line, self._layout.column_name(index), "cell_too_large")
        candidates: list[str | bytes] = []
        rejection: Rejection | None = None
        for field, index in self._layout.field_indexes:
            cell = cells[index].strip()
            if not cell:
                continue
            found = self._candidate(field, cell)
            if found:
                candidates.append(found)
            elif rejection is None:
                rejection = Rejection(line, self._layout.column_name(index), _reason(field, cell))
        if candidates:
            return Row(line, cells, candidates)
        return rejection or Rejection(line, "", "no_identifier")

    def _candidate(self, field: str, cell: str) -> str | bytes | None:
        if field == "id":
            return cell if cell.isprintable() or not _has_any_control(cell) else None
        rule = self._rules[field]
        if field.endswith("_sha256"):
            digits = cell.lower()
            is_hash = len(digits) == DIGEST_DIGITS and _HEXADECIMAL.issuperset(digits)
            return rule.key_from_digest(self._datatype, bytes.fromhex(digits)) if is_hash else None
        value = rule.normalise(cell, self._region)
        return rule.key_from_value(self._datatype, value) if value else None


def _reason(field: str, cell: str) -> str:
    if _has_any_control(cell):
        return "control_character"
    return f"invalid_{'hash' if field.endswith('_sha256') else field}"


def _has_any_control(cell: str) -> bool:
    return any(unicodedata.category(letter) == "Cc" for letter in cell)


def _has_control(cell: str) -> bool:
    """Whether a cell has a control character of Unicode's C0 or C1 other than tabs and line ends."""
    return not _ASCII_CONTROLS.isdisjoint(cell) or any("\x80" <= letter < "\xa0" for letter in cell)
