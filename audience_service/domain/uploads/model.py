"""The upload: what a caller says of a file, how far it has come, and what became of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.identifiers.phones import REGIONS

MAX_OPEN_TIME = timedelta(days=7)
"""How long an upload may be left open; then it has failed."""

MAX_UPLOAD_ID_LENGTH = 100
MAX_COLUMN_NAME_LENGTH = 1_000
MAX_COLUMNS = 1_000
MAX_CONTACTS_PER_IDENTIFIER = 1_000
"""How many contacts an address may have; one that more have, as a placeholder has, stands for nobody."""

DELIMITERS = (",", ";", "|", "\t")
_ENCODINGS = frozenset(("", "utf-8", "utf8", "utf-8-sig", "utf_8"))


class UploadMode(StrEnum):
    """What becomes of the list."""

    APPEND = "append"
    REMOVE = "remove"
    REPLACE = "replace"


class UploadState(StrEnum):
    """Where an upload is."""

    OPEN = "open"
    PUBLISHED = "published"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Column:
    """What a column of the file holds: the column by its name, or by its place, from 1 on."""

    field: str
    name: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """What is uploaded and how it is to be read, as the caller says."""

    audience_id: str
    upload_id: str
    mode: UploadMode
    encoding: str = ""
    delimiter: str = ""
    no_header: bool = False
    columns: tuple[Column, ...] = ()
    default_region: str = ""

    def validate(self, fields: Sequence[str]) -> "UploadHeader":
        """The header, for columns of these fields, with its defaults. Raises InvalidArgument at `header.<field>`."""
        if not 0 < len(self.upload_id) <= MAX_UPLOAD_ID_LENGTH or not self.upload_id.isprintable():
            raise InvalidArgument.at("header.upload_id", f"is 1 to {MAX_UPLOAD_ID_LENGTH} printable characters")
        if self.encoding.lower() not in _ENCODINGS:
            raise InvalidArgument.at("header.encoding", f"{self.encoding[:50]!r} is not taken; send the file as utf-8")
        if self.delimiter not in ("", *DELIMITERS):
            raise InvalidArgument.at("header.delimiter", "is none of , ; | and the tab")
        if self.default_region and self.default_region.upper() not in REGIONS:
            raise InvalidArgument.at(
                "header.default_region", f"{self.default_region[:50]!r} is no country in two letters"
            )
        _check_columns(self, fields)
        return UploadHeader(
            self.audience_id,
            self.upload_id,
            self.mode,
            "utf-8",
            self.delimiter or ",",
            self.no_header,
            self.columns,
            self.default_region.upper(),
        )


def _check_columns(header: UploadHeader, fields: Sequence[str]) -> None:
    if header.no_header and not header.columns:
        raise InvalidArgument.at("header.columns", "are missing; a file without a header needs their positions")
    seen: set[str] = set()
    for index, column in enumerate(header.columns):
        field_path = f"header.columns[{index}]"
        if column.field not in fields:
            problem = f"{column.field[:50]!r} is none of" if column.field else "is missing; name one of"
            raise InvalidArgument.at(f"{field_path}.field", f"{problem} {', '.join(fields)}")
        if column.field in seen:
            raise InvalidArgument.at(f"{field_path}.field", f"{column.field} has a column already")
        if bool(column.name.strip()) == bool(column.position):
            raise InvalidArgument.at(field_path, "takes a name or a position, one of them")
        if len(column.name) > MAX_COLUMN_NAME_LENGTH:
            raise InvalidArgument.at(f"{field_path}.name", f"has more than {MAX_COLUMN_NAME_LENGTH:,} characters")
        if column.name.strip() and header.no_header:
            raise InvalidArgument.at(
                f"{field_path}.name", "names a column of a file without a header; give its position"
            )
        if not 0 <= column.position <= MAX_COLUMNS:
            raise InvalidArgument.at(f"{field_path}.position", f"is 1 to {MAX_COLUMNS:,}")
        seen.add(column.field)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a file goes on: always at the end of a row.

    `offset` is in bytes, `line` how many lines lie before it, `crc32` the checksum of what lies before it. `names` are
    the first row of a file with a header, `width` the number of its columns, 0 before the first row.
    """

    offset: int = 0
    line: int = 0
    crc32: int = 0
    names: tuple[str, ...] = ()
    width: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was rejected, by the line that it begins at; nothing that stands in it."""

    line: int
    column: str
    reason: str


MAX_REJECTIONS = 100
"""How many rejected rows are told one by one."""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What became of the rows up to a position."""

    matched: int = 0
    duplicate: int = 0
    unmatched: int = 0
    matched_contacts: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()

    @property
    def accepted(self) -> int:
        """How many rows were whole."""
        return self.matched + self.duplicate + self.unmatched

    @property
    def rows(self) -> int:
        """How many rows have been read."""
        return self.accepted + sum(self.rejected.values())

    def plus(self, other: "RowCounts") -> "RowCounts":
        """Both together, the other one's rows behind these."""
        reasons = {*self.rejected, *other.rejected}
        return RowCounts(
            self.matched + other.matched,
            self.duplicate + other.duplicate,
            self.unmatched + other.unmatched,
            self.matched_contacts + other.matched_contacts,
            {reason: self.rejected.get(reason, 0) + other.rejected.get(reason, 0) for reason in sorted(reasons)},
            (*self.rejections, *other.rejections)[:MAX_REJECTIONS],
        )


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as it is stored.

    `rows_id` is what the contacts that it has found carry, `epoch` the number of the stream that writes it: a later
    stream has a higher one, and an earlier one can write no more. `checked_at` is when the index of identifiers was
    last brought up to date for it. `is_whole` says that its end has come and was right: no stream writes it any more,
    and it is published, by whoever sends the end again if need be.
    """

    header: UploadHeader
    state: UploadState
    list_version_id: str
    created_at: datetime
    epoch: int = 0
    position: Position = Position()
    row_counts: RowCounts = RowCounts()
    is_complete: bool = False
    checked_at: datetime | None = None
    error: str = ""
    error_problem: str = ""
    error_line: int = 0
    published_at: datetime | None = None
    list_size: int = 0

    @property
    def expires_at(self) -> datetime:
        """When it has failed if it is open still."""
        return self.created_at + MAX_OPEN_TIME


def mark_abandoned(upload: Upload) -> Upload:
    """The upload, failed because it was left open for too long."""
    error = f"it was open for more than {MAX_OPEN_TIME.days} days; send the file under another upload_id"
    return replace(upload, state=UploadState.FAILED, error=error, error_problem="abandoned")
