"""Reads the cells of a row: its candidates for a match, or the reason why it is rejected."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.identifiers.countries import find_country, phone_region
from audience_service.domain.identifiers.emails import email_problem, read_emails
from audience_service.domain.identifiers.match_keys import DIGEST_DIGITS, KeyRule
from audience_service.domain.identifiers.phones import read_phones
from audience_service.domain.identifiers.readings import PROBLEMS, Reading, digest_problem, unwrap
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.uploads.columns import ColumnLayout
from audience_service.domain.uploads.csv_reader import MAX_CELL_BYTES
from audience_service.domain.uploads.model import MAX_CONTACTS_PER_IDENTIFIER, Rejection

REASONS: Mapping[str, str] = {
    **PROBLEMS,
    "ragged_row": "has more cells than the first row; quote cells with delimiters",
    "cell_too_large": f"has a cell of more than {MAX_CELL_BYTES:,} bytes",
    "control_character": "has a control character in a column of match keys; remove it",
    "invalid_hash": f"is not a SHA-256 in {DIGEST_DIGITS} hexadecimal digits",
    "too_common": f"more than {MAX_CONTACTS_PER_IDENTIFIER:,} contacts have this value, so it is likely a placeholder",
    "erased": "belongs to a person who was erased; remove it from the file",
    "no_identifier": "has no value in the columns of match keys",
}
"""The reasons for which rows are rejected, with their explanations."""

_HEXADECIMAL = frozenset("0123456789abcdef")
_READERS = {"email": read_emails, "phone": read_phones}
_HASHED = "_sha256"

Candidate = str | bytes
"""What a row may be matched by: a contact's id as text, or a match key."""


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row. `candidates` are those of each field, in the order of matching. `changes` are kinds of changes."""

    line: int
    cells: Sequence[str]
    candidates: Sequence[Sequence[Candidate]]
    changes: Sequence[str] = ()


class RowReader:
    """Reads the rows of one file. `rules` are the match keys of its columns, except the id."""

    def __init__(
        self, layout: ColumnLayout, rules: Mapping[str, KeyRule], datatype: str, default: RegionContext
    ) -> None:
        self._layout = layout
        self._rules = rules
        self._datatype = datatype
        self._default = default

    def read(self, cells: Sequence[str], line: int) -> Row | Rejection:
        """The row, or the reason to reject it.

        One valid identifier is enough: an invalid email next to a valid phone number does no harm. A row without any is
        rejected because of its first invalid one. Missing cells at the end are empty, and additional cells must be.
        """
        width = self._layout.width
        if len(cells) > width and any(map(str.strip, cells[width:])):
            advice = "quote cells with delimiters, without a space before the quote"
            detail = f"has {len(cells):,} cells, but the first row has {width:,}; {advice}"
            return Rejection(line, "", "ragged_row", detail)
        cells = [*cells[:width], *[""] * (width - len(cells))]
        for index, cell in enumerate(cells):
            if len(cell) * 4 > MAX_CELL_BYTES and len(cell.encode()) > MAX_CELL_BYTES:
                return Rejection(line, self._layout.column_name(index), "cell_too_large")
        context = self._context(cells)
        candidates: dict[str, dict[Candidate, None]] = {}
        changes: dict[str, None] = {}
        rejection: Rejection | None = None
        for field, index in self._layout.field_indexes:
            cell = cells[index].strip()
            if not cell:
                continue
            found, changed, problem = self._candidates(field, cell, context)
            candidates.setdefault(field, {}).update(dict.fromkeys(found))
            changes.update(dict.fromkeys(changed))
            if problem and rejection is None:
                rejection = Rejection(line, self._layout.column_name(index), problem)
        by_field = [list(found) for found in candidates.values() if found]
        if by_field:
            return Row(line, cells, by_field, list(changes))
        return rejection or Rejection(line, "", "no_identifier")

    def _context(self, cells: Sequence[str]) -> RegionContext:
        """The row's own country comes before the default region of the upload."""
        index = self._layout.country_index
        country = find_country(cells[index]) if index is not None else None
        default = self._default
        return RegionContext(country, phone_region(country) or default.region, default.has_country_codes)

    def _candidates(
        self, field: str, cell: str, context: RegionContext
    ) -> tuple[Sequence[Candidate], Sequence[str], str]:
        """The candidates of a cell, the changes made to read them, and the first problem."""
        if field == "id":
            return ([], [], "control_character") if _has_control(cell) else ([cell], [], "")
        if field.endswith(_HASHED):
            digits, changes = unwrap(cell)
            key = self._key_from_hash(field, digits)
            return ([key], changes, "") if key else ([], [], digest_problem(digits) or "invalid_hash")
        readings = _READERS[field](cell, context)
        found: list[Candidate] = []
        changed: list[str] = []
        problems: list[str] = []
        for reading in readings:
            key = self._key(field, reading, context)
            if key:
                found.append(key)
                changed += reading.changes
            else:
                problems.append(
                    reading.problem or (email_problem(reading.value) if field == "email" else "invalid_phone")
                )
        if problems and _has_control(cell):
            return [], [], "control_character"  # Several lines are several values only if all are valid.
        return found, changed, problems[0] if problems else ""

    def _key(self, field: str, reading: Reading, context: RegionContext) -> bytes | None:
        hashed = f"{field}{_HASHED}"
        if reading.problem == "hashed_value" and hashed in self._rules:
            return self._key_from_hash(hashed, str(reading.value))
        if reading.problem:
            return None
        rule = self._rules[field]
        value = rule.normalise(reading.value, context)
        return rule.key_from_value(self._datatype, value) if value else None

    def _key_from_hash(self, field: str, text: str) -> bytes | None:
        digits = text.lower()
        is_hash = len(digits) == DIGEST_DIGITS and _HEXADECIMAL.issuperset(digits)
        return self._rules[field].key_from_digest(self._datatype, bytes.fromhex(digits)) if is_hash else None


def _has_control(cell: str) -> bool:
    return not cell.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in cell)
