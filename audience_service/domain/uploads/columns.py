"""Finds the columns of a file that rows are matched by: the upload's mapping, applied to the file's first row.

first row: id, E-Mail, note    mapping: none, fields id, email, phone
Layout: field_indexes (("id", 0), ("email", 1)), names ("id", "E-Mail", "note"), width 3
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.uploads.csv_reader import invalid_file
from audience_service.domain.uploads.model import MAX_COLUMNS, FilePosition, UploadHeader

_MIN_DATA_DIGITS = 5
_MAX_NAME_LENGTH = 60
_MAX_NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The columns of a file. `field_indexes` has pairs of a field and a column index, in the order of matching."""

    field_indexes: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    width: int

    def column_name(self, index: int) -> str:
        """The column's name in the report of a rejected row, or its position from 1 on if it has none.

        The position is also used if the name is too long, or may be personal data.
        """
        name = self.names[index].strip() if self.names else ""
        return name if name and not _looks_like_data(name) else str(index + 1)


def read_layout(header: UploadHeader, fields: Sequence[str], first: Sequence[str], line: int) -> ColumnLayout:
    """The layout of a file whose first row is `first`, at line `line`. Raises InvalidFile."""
    width = len(first)
    if width > MAX_COLUMNS:
        raise invalid_file(line, "columns", f"the first row has {width:,} columns, more than {MAX_COLUMNS:,}")
    return _layout(header, fields, tuple(first) if header.has_header else (), width, line)


def resume_layout(header: UploadHeader, fields: Sequence[str], position: FilePosition) -> ColumnLayout:
    """The layout of a file whose first row was read by an earlier stream."""
    return _layout(header, fields, position.names, position.width, 1)


def _layout(header: UploadHeader, fields: Sequence[str], names: tuple[str, ...], width: int, line: int) -> ColumnLayout:
    column_names = [_casefolded(name) for name in names]
    requested = {_casefolded(column.name) for column in header.columns} if header.columns else {*fields}
    repeated = [name for name, count in Counter(column_names).items() if name and name in requested and count > 1]
    if repeated:
        positions = [index + 1 for index, name in enumerate(column_names) if name == repeated[0]]
        shown_positions = " and ".join(map(str, positions[:2]))
        raise invalid_file(
            line, "duplicate_column", f"columns {shown_positions} have the same name; make the names unique"
        )
    index_by_name = {name: index for index, name in enumerate(column_names) if name}
    found: dict[str, int] = {}
    for column in header.columns:
        if column.position > width:
            raise invalid_file(
                line, "missing_column", f"{column.field} is mapped to column {column.position}, but there are {width}"
            )
        if column.position and names and _is_data(names[column.position - 1]):
            raise invalid_file(
                line,
                "missing_header",
                f"column {column.position} has data instead of a name; set has_header to false if there is no header",
            )
        if not column.position and _casefolded(column.name) not in index_by_name:
            raise invalid_file(
                line,
                "missing_column",
                f"no column is named {column.name.strip()[:50]!r}, for {column.field}; {_describe_columns(names)}",
            )
        found[column.field] = column.position - 1 if column.position else index_by_name[_casefolded(column.name)]
    if not header.columns:
        # A column "E-mail" is for email, unless another column has exactly that name.
        index_by_alias = {
            _without_separators(name): index for name, index in reversed(index_by_name.items())
        } | index_by_name
        found = {field: index_by_alias[field] for field in fields if field in index_by_alias}
    if not found:
        known_fields = ", ".join(fields)
        raise invalid_file(
            line, "missing_column", f"no column is named any of {known_fields}; {_describe_columns(names)}"
        )
    return ColumnLayout(tuple((field, found[field]) for field in fields if field in found), names, width)


def _casefolded(name: str) -> str:
    return name.strip().casefold()


def _without_separators(name: str) -> str:
    return name.replace("-", "").replace(" ", "")


def _describe_columns(names: Sequence[str]) -> str:
    """A description of the first row, which does not quote cells that may be personal data."""
    if any(map(_looks_like_data, names)):
        return "the first row looks like data; if there is no header, set has_header to false and map positions"
    named = ", ".join(repr(name.strip()) for name in names[:_MAX_NAMES_SHOWN])
    return f"the columns are {named}" + (
        f" and {len(names) - _MAX_NAMES_SHOWN} more" if len(names) > _MAX_NAMES_SHOWN else ""
    )


def _looks_like_data(name: str) -> bool:
    return _is_data(name) or len(name) > _MAX_NAME_LENGTH or not name.isprintable()


def _is_data(name: str) -> bool:
    return "@" in name or sum(letter.isdigit() for letter in name) >= _MIN_DATA_DIGITS
