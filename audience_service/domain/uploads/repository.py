"""The storage of uploads, their rows and the identifier index.

domain/audiences/repository.py has the rules for every method.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.identifiers.match_keys import KeyRule
from audience_service.domain.uploads.model import Rejection, Upload


class Contact(NamedTuple):
    """A record that a row was matched to: its id and its sort key."""

    pk: str
    sk: str


class ListedRow(NamedTuple):
    """A contact on a list, and the first line of the file that added it."""

    contact: Contact
    line: int


@dataclass(frozen=True, slots=True)
class UnmatchedRow:
    """A row without a match, as it was uploaded."""

    line: int
    cells: Sequence[str]


class UploadRepository(Protocol):
    """The state of uploads, keyed by audience and the caller's upload_id."""

    def begin(self, org: str, upload: Upload, deadline: Deadline) -> Upload:
        """Store a new upload. Returns the stored one, which may be an earlier one with the same upload_id."""

    def get(self, org: str, audience_id: str, upload_id: str, deadline: Deadline) -> Upload:
        """The upload. Raises UploadNotFound."""

    def claim(self, org: str, upload: Upload, deadline: Deadline) -> Upload:
        """Continue an open upload in the next epoch and return it as it is stored then; a complete one is unchanged.

        Raises UploadTakenOver if it has failed, UploadNotFound if it was deleted with its audience.
        """

    def check(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Raise what `save` would raise."""

    def save(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Write the upload's state, if the stored one is open, not complete and of the same epoch.

        Raises UploadTakenOver, UploadNotFound.
        """

    def finish(self, org: str, ended: Upload, deadline: Deadline) -> None:
        """Write the final state of an upload in any epoch; does nothing if it is final already."""

    def update_counts(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Write the row counts of a published upload."""

    def supersede(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Mark an upload whose list a later upload replaced, and whose unmatched rows are deleted."""

    def list_with_unmatched_rows(self, org: str, audience_id: str, deadline: Deadline) -> Sequence[Upload]:
        """The published uploads of an audience with unmatched rows, by publication time, without superseded ones."""


class UnmatchedRepository(Protocol):
    """The rows without a match, by upload and line."""

    def add(self, org: str, upload: Upload, rows: Sequence[UnmatchedRow], deadline: Deadline) -> None:
        """Store rows. Rows that are stored already stay unchanged."""

    def page(self, org: str, upload: Upload, after: int, size: int, deadline: Deadline) -> Sequence[UnmatchedRow]:
        """The next rows after a line: at most `size`, and at most what fits a message; empty at the end."""

    def remove(self, org: str, upload: Upload, lines: Sequence[int], deadline: Deadline) -> None:
        """Delete rows."""

    def truncate_after(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """Delete all rows after a line; 0 deletes all."""


class RejectedRepository(Protocol):
    """The rejected rows of uploads, by upload and line, without their content. They expire after 30 days."""

    def add(self, org: str, upload: Upload, rejections: Sequence[Rejection], deadline: Deadline) -> None:
        """Store rejections. Those that are stored already stay unchanged."""

    def page(
        self, org: str, upload: Upload, reason: str, after: int, size: int, deadline: Deadline
    ) -> Sequence[Rejection]:
        """The next rejections after a line, at most `size`; with a `reason`, those for this reason only."""

    def truncate_after(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """Delete all rejections after a line; 0 deletes all."""


class ListRowRepository(Protocol):
    """The rows of lists that are being written. CustomAudienceRepository publishes them."""

    def add(self, org: str, list_version_id: str, rows: Sequence[ListedRow], deadline: Deadline) -> Collection[str]:
        """Add contacts, each once among `rows`. Returns the sk of those that another line had added."""

    def filter_existing(
        self, org: str, list_version_id: str, keys: Sequence[str], deadline: Deadline
    ) -> Collection[str]:
        """The keys (sk) that are on the list."""

    def upsert(
        self, org: str, list_version_id: str, contacts: Sequence[Contact], as_of: datetime, deadline: Deadline
    ) -> None:
        """Add contacts as of a time. Contacts that are on the list as of a later time stay unchanged."""

    def truncate_after(self, org: str, list_version_id: str, after: int, deadline: Deadline) -> None:
        """Remove the contacts that lines after this one added; 0 removes all."""

    def count(self, org: str, list_version_id: str, deadline: Deadline) -> int:
        """The number of contacts on the list."""

    def merge(
        self,
        org: str,
        target_id: str,
        included: Mapping[str, datetime],
        excluded: Mapping[str, datetime],
        deadline: Deadline,
    ) -> None:
        """Write a list of the contacts that some lists add later than others remove them, inside the database.

        Each list has the time for its rows without a time of their own. If `excluded` is empty, `included` begins with
        the latest list.
        """


class IdentifierRepository(Protocol):
    """An index of the org's records by the match keys of domain/identifiers/match_keys.py."""

    def update(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        """Update the index of one rule: add new and changed records, remove archived and deleted ones."""

    def find(
        self, org: str, keys: Collection[bytes], limit: int, deadline: Deadline
    ) -> Mapping[bytes, Sequence[Contact]]:
        """The contacts with these keys, as of the last update; `limit` + 1 of them for a key with more than `limit`."""

    def find_ids(
        self, org: str, datatype: str, ids: Collection[str], deadline: Deadline
    ) -> Mapping[str, Sequence[Contact]]:
        """The records with these ids that are not archived."""
