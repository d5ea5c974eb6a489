"""The sync, its rows, batches and receipts, and the checks on what a caller writes.

A row is one member in the platform's form. Each of its keys (an email address, a phone number, both names) identifies a
person. Rows and keys are known by digests, so equal rows of two members are one row.

    scan 1   ann@old  desired            ──> batch 1: ADD ann@old      ──> acknowledged: the platform has ann@old
    scan 2   ann@new  desired, ann@old not ──> batch 2: REMOVE ann@old ──> acknowledged: the row is deleted
                                           ──> batch 3: ADD ann@new

Invariants, which tests/contract/test_sync_model.py checks over random histories:

1. Every key that the platform may have is in `platform_keys` of a stored row, or in an open batch.
2. A row with `sent_at` is complete on the platform, unless an open batch removes one of its keys.
3. A key is in at most one open batch. So a key is never removed after its own addition was sent.
4. A removal omits the keys of desired rows.
5. A row is desired if and only if a stored member has it, once a scan is complete. A full scan stores all members. The
   scans that follow read only members that entered, exited or changed, by the hashes of their fields.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from audience_service.domain.audiences.model import MAX_NAME_LENGTH
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.errors import InvalidArgument, StaleVersion
from audience_service.domain.core.page_tokens import digest

SYNC_PREFIX = "sync-"
MAX_RECEIPTS = 100
_MAX_EXTERNAL_ID_LENGTH = 200
_MIN_RESEND_AFTER = timedelta(hours=1)

SETTABLE = (
    "name",
    "audience_ids",
    "exclude_audience_ids",
    "purpose",
    "consent_fields",
    "fields",
    "rules_version",
    "options",
    "default_region",
    "phones_have_country_code",
    "resend_after",
)
"""The fields that an update can change."""


@dataclass(frozen=True, slots=True)
class SyncSpec:
    """A sync as a caller writes it. Protos: the message Sync has the meaning of each field."""

    name: str
    audience_ids: tuple[str, ...]
    platform: str
    exclude_audience_ids: tuple[str, ...] = ()
    purpose: str = ""
    consent_fields: tuple[str, ...] = ()
    external_id: str = ""
    fields: tuple[str, ...] = ()
    rules_version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    default_region: str = ""
    phones_have_country_code: bool = False
    resend_after: timedelta | None = None

    @property
    def selection(self) -> AudienceSelector:
        """The members of the list."""
        return AudienceSelector(
            audience_ids=self.audience_ids,
            exclude_audience_ids=self.exclude_audience_ids,
            purpose=self.purpose,
        )


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How the values of a row are arranged. A sync has one for each change of its rules or fields.

    `keys` has the name of each key, and the columns of its values.
    """

    rules_version: str
    options: Mapping[str, str]
    batch_size: int
    columns: tuple[str, ...]
    fields: tuple[str, ...]
    keys: tuple[tuple[str, tuple[int, ...]], ...]

    def keys_of(self, scope: str, values: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The digests of the row's complete keys, and their columns. `scope` keeps syncs apart."""
        found = {}
        for name, indexes in self.keys:
            parts = [values[index] for index in indexes]
            if all(parts):
                found[_digest(scope, name, *parts)] = indexes
        return found

    def digest_of(self, scope: str, values: Sequence[str]) -> str:
        """The digest of a row: equal for equal values, whatever the platform calls their columns."""
        pairs = sorted((name, value) for name, value in zip(self.fields, values, strict=True) if value)
        return _digest(scope, *(part for pair in pairs for part in pair))

    def without_other_keys(self, scope: str, values: Sequence[str], kept: Set[str]) -> tuple[str, ...]:
        """The row without the values of keys that are not in `kept`."""
        keys = self.keys_of(scope, values)
        kept_columns = {index for key, indexes in keys.items() if key in kept for index in indexes}
        cleared = {index for indexes in keys.values() for index in indexes} - kept_columns
        return tuple("" if index in cleared else value for index, value in enumerate(values))


@dataclass(frozen=True, slots=True)
class Scan:
    """One complete comparison of the members with the rows. `number` increases with each full scan, complete or not.

    `full_started_at` is when the full scan with this number began. The others have read only the members that changed.
    """

    number: int
    sync_version: int
    rules_version: str
    started_at: datetime
    ended_at: datetime
    member_count: int
    consented_count: int
    valid_count: int
    full_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync as it is stored. The service sets id, times, version and author. `scan_count` is the last full scan's."""

    id: str
    spec: SyncSpec
    version: int
    created_at: datetime
    updated_at: datetime
    author: str
    latest_scan: Scan | None = None
    formats: tuple[RowFormat, ...] = ()
    scan_count: int = 0


@dataclass(frozen=True, slots=True)
class SyncQuery:
    """Which syncs to list; empty strings do not restrict."""

    platform: str = ""
    audience_id: str = ""


@dataclass(frozen=True, slots=True)
class SyncRow:
    """A row that a scan found: its digest, values and the digests of its keys."""

    digest: str
    values: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberSource:
    """What a row is made of: the record's fields, and the digest of all else that decides how the row looks."""

    paths: tuple[str, ...]
    form: str


@dataclass(frozen=True, slots=True)
class SyncMember:
    """What a comparison knows of a member: the hash of its fields, and the digest of its row, or None without one."""

    sk: str
    source: int
    row: str | None


class BatchState(StrEnum):
    """The state of a batch.

    BUILDING: its rows are being chosen. OPEN: it has rows, and may be sent. APPLYING: it is acknowledged, and its rows
    are being changed. ACKNOWLEDGED: its rows are changed. DISCARDED: a reset has forgotten it.
    """

    BUILDING = "BUILDING"
    OPEN = "OPEN"
    APPLYING = "APPLYING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    DISCARDED = "DISCARDED"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The platform's response to a batch. `matched_count` is None if the platform does not report it."""

    received_count: int
    invalid_count: int
    matched_count: int | None
    rejected_count: int
    acknowledged_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of rows for one request to the platform. `format` is the index of their format in the sync."""

    number: int
    operation: str
    format: int
    scan: int
    state: BatchState
    row_count: int = 0
    worker_id: str = ""
    lease_until: datetime | None = None
    receipt: Receipt | None = None
    rejected_digests: tuple[str, ...] = ()


def check_spec(spec: SyncSpec, field_path: str) -> SyncSpec:
    """The spec with a trimmed name. It checks what needs no audience and no rules. Raises InvalidArgument."""
    name = spec.name.strip()
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidArgument.at(
            f"{field_path}.name",
            f"is empty, too long or not printable; use 1 to {MAX_NAME_LENGTH} printable characters",
        )
    if not spec.audience_ids:
        raise InvalidArgument.at(f"{field_path}.audience_ids", "is empty; set the id of at least one audience")
    if spec.resend_after is not None and spec.resend_after < _MIN_RESEND_AFTER:
        raise InvalidArgument.at(f"{field_path}.resend_after", "is too short; use at least one hour")
    check_external_id(spec.external_id, f"{field_path}.external_id")
    return replace(spec, name=name)


def check_external_id(external_id: str, field_path: str) -> str:
    """The platform's id of a list. Raises InvalidArgument."""
    if len(external_id) > _MAX_EXTERNAL_ID_LENGTH or not external_id.isprintable():
        raise InvalidArgument.at(
            field_path, f"is too long or not printable; use at most {_MAX_EXTERNAL_ID_LENGTH} printable characters"
        )
    return external_id


def check_version(current: Sync, version: int | None) -> None:
    """Raise StaleVersion unless the sync has this version; None accepts any."""
    if version is not None and version != current.version:
        raise StaleVersion(
            f"the sync is at version {current.version}, not {version}",
            metadata={"current_version": str(current.version)},
        )


def apply_mask(current: SyncSpec, written: SyncSpec, mask: Set[str], field_path: str) -> SyncSpec:
    """The current spec with the written values of the masked fields; without a mask, of all settable ones.

    Raises InvalidArgument, also if the written spec has another platform or external id.
    """
    mask = frozenset(SETTABLE) if not mask or mask == {"*"} else mask
    if foreign := sorted(mask - frozenset(SETTABLE)):
        raise InvalidArgument.at(
            "update_mask", f"contains {foreign[0][:50]!r}; the fields that can be changed are {', '.join(SETTABLE)}"
        )
    for name in ("platform", "external_id"):
        if getattr(written, name) not in ("", getattr(current, name)):
            cure = "; call ResetSync" if name == "external_id" else "; create another sync"
            raise InvalidArgument.at(f"{field_path}.{name}", f"cannot be changed by an update{cure}")
    return replace(current, **{name: getattr(written, name) for name in mask})


def _digest(*parts: str) -> str:
    """160 bits: the probability that two of a billion parts share a digest is about 10**-30."""
    return digest(parts)[:40]
