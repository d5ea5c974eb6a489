"""The upload: the caller's description of a file, the position of its stream, and the counts of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.custom_audiences.errors import InvalidFile
from audience_service.domain.identifiers.countries import read_default_region

MAX_OPEN_TIME = timedelta(days=7)
"""The longest time that an upload may stay open. Then it has failed."""

MAX_UPLOAD_ID_LENGTH = 100
MAX_COLUMN_NAME_LENGTH = 1_000
MAX_COLUMNS = 1_000
COUNTRY = "country"
"""The field of the column with each row's country. It decides how phone numbers are read, and matches nothing."""
MAX_CONTACTS_PER_IDENTIFIER = 1_000
"""The most contacts of one identifier. An identifier with more, such as a placeholder, matches none of them."""

DELIMITERS = (",", ";", "|", "\t")
_ENCODINGS = frozenset(("", "utf-8", "utf8", "utf-8-sig", "utf_8"))


class UploadMode(StrEnum):
    """What publishing the upload does to the list."""

    APPEND = "append"
    REMOVE = "remove"
    REPLACE = "replace"


class UploadState(StrEnum):
    """The state of an upload."""

    OPEN = "open"
    PUBLISHED = "published"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Column:
    """The field of one column of the file. The column is given by its name, or by its position from 1 on."""

    field: str
    name: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """The upload and the format of its file, as the caller describes them.

    An empty delimiter means that the file decides it. `force` allows a REPLACE to empty or shrink the list.
    """

    audience_id: str
    upload_id: str
    mode: UploadMode
    encoding: str = ""
    delimiter: str = ""
    has_header: bool = True
    columns: tuple[Column, ...] = ()
    default_region: str = ""
    phones_have_country_code: bool = False
    force: bool = False

    def validate(self, fields: Sequence[str]) -> "UploadHeader":
        """The header with its defaults; `fields` are those it may map. Raises InvalidArgument at `header.<field>`."""
        if not 0 < len(self.upload_id) <= MAX_UPLOAD_ID_LENGTH or not self.upload_id.isprintable():
            raise InvalidArgument.at(
                "header.upload_id",
                f"is empty, too long or not printable; use 1 to {MAX_UPLOAD_ID_LENGTH} printable characters",
            )
        if self.encoding.lower() not in _ENCODINGS:
            raise InvalidArgument.at(
                "header.encoding", f"{self.encoding[:50]!r} is not supported; send the file as utf-8"
            )
        if self.delimiter not in ("", *DELIMITERS):
            raise InvalidArgument.at("header.delimiter", "is not a delimiter; use a comma, semicolon, | or tab")
        region = read_default_region(self.default_region, "header.default_region")
        _check_columns(self, fields)
        return replace(self, encoding="utf-8", default_region=region)


def _check_columns(header: UploadHeader, fields: Sequence[str]) -> None:
    if not header.has_header and not header.columns:
        raise InvalidArgument.at("header.columns", "are missing; a file without a header needs columns with positions")
    for index, column in enumerate(header.columns):
        field_path = f"header.columns[{index}]"
        if column.field not in fields:
            problem = f"{column.field[:50]!r} is not a field" if column.field else "is missing"
            raise InvalidArgument.at(f"{field_path}.field", f"{problem}; set one of {', '.join(fields)}")
        if bool(column.name.strip()) == bool(column.position):
            raise InvalidArgument.at(field_path, "has neither or both of name and position; set one")
        if len(column.name) > MAX_COLUMN_NAME_LENGTH:
            raise InvalidArgument.at(f"{field_path}.name", f"has more than {MAX_COLUMN_NAME_LENGTH:,} characters")
        if column.name.strip() and not header.has_header:
            raise InvalidArgument.at(f"{field_path}.name", "is set for a file without a header; set position instead")
        if not 0 <= column.position <= MAX_COLUMNS:
            raise InvalidArgument.at(f"{field_path}.position", f"is out of range; use 1 to {MAX_COLUMNS:,}")


@dataclass(frozen=True, slots=True)
class FilePosition:
    """The position at which a file continues, always at the end of a row.

    `offset` is in bytes, `line` is the number of lines before it, `crc32` the checksum of the bytes before it. `names`
    is the first row of a file with a header. `width` is the number of columns, 0 before the first row. `delimiter`
    is the one that the file is read by, empty before the first row.
    """

    offset: int = 0
    line: int = 0
    crc32: int = 0
    names: tuple[str, ...] = ()
    width: int = 0
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected row, given by the line that it begins at. It quotes no data of the row.

    `detail` describes the problem better than the reason alone; empty if there is nothing to add.
    """

    line: int
    column: str
    reason: str
    detail: str = ""


MAX_REJECTIONS = 100
"""The most rejected rows that the upload itself lists. ListRejectedRows has all."""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The counts of the rows up to a position. `changes` counts accepted rows by the kind of change to their values."""

    matched: int = 0
    duplicate: int = 0
    unmatched: int = 0
    matched_contacts: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()
    changes: Mapping[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """The number of valid rows."""
        return self.matched + self.duplicate + self.unmatched

    @property
    def rows(self) -> int:
        """The number of rows read, including rejected ones."""
        return self.accepted + sum(self.rejected.values())

    def plus(self, other: "RowCounts") -> "RowCounts":
        """The sum of both; `other` is of later rows."""
        return RowCounts(
            self.matched + other.matched,
            self.duplicate + other.duplicate,
            self.unmatched + other.unmatched,
            self.matched_contacts + other.matched_contacts,
            _sum(self.rejected, other.rejected),
            (*self.rejections, *other.rejections)[:MAX_REJECTIONS],
            _sum(self.changes, other.changes),
        )


def _sum(counts: Mapping[str, int], others: Mapping[str, int]) -> Mapping[str, int]:
    return {key: counts.get(key, 0) + others.get(key, 0) for key in sorted({*counts, *others})}


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as it is stored.

    `list_version_id` identifies the rows of its matched contacts. `epoch` is the number of the stream that writes it:
    each new stream has a higher one, and writes of an earlier one are refused. `checked_at` is when the identifier
    index was last updated for it. `is_complete` is true once its trailer was received and matched the file. Then no
    stream writes it any more, and it is published. If the process dies before that, a repeated trailer publishes it.
    """

    header: UploadHeader
    state: UploadState
    list_version_id: str
    created_at: datetime
    epoch: int = 0
    position: FilePosition = FilePosition()
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
        """When the upload fails if it is still open."""
        return self.created_at + MAX_OPEN_TIME


def mark_abandoned(upload: Upload) -> Upload:
    """The upload as FAILED, because it was open for too long."""
    error = f"it was open for more than {MAX_OPEN_TIME.days} days; send the file with another upload_id"
    return replace(upload, state=UploadState.FAILED, error=error, error_problem="abandoned")


def mark_failed(upload: Upload, error: InvalidFile) -> Upload:
    """The upload as FAILED, because of its file."""
    return replace(
        upload,
        state=UploadState.FAILED,
        error=error.message,
        error_problem=error.metadata["problem"],
        error_line=int(error.metadata["line"]),
    )
