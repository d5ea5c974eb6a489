"""What uploads ask of storage; domain/ports.py states what holds for every method."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.identifiers.match_keys import KeyRule
from audience_service.domain.uploads.model import Upload


class Contact(NamedTuple):
    """A record that a row was matched to, by its id and its key."""

    pk: str
    sk: str


class ListedRow(NamedTuple):
    """A contact on a list, and the line of the file that put it there first."""

    contact: Contact
    line: int


@dataclass(frozen=True, slots=True)
class UnmatchedRow:
    """A row that has matched nobody, as it was uploaded."""

    line: int
    cells: Sequence[str]


class UploadRepository(Protocol):
    """How far uploads have come. An upload is known by its audience and the caller's upload_id."""

    def begin(self, org: str, upload: Upload, deadline: Deadline) -> Upload:
        """Store a new upload; answers with the one that is stored, which may be an earlier one of the same name."""

    def get(self, org: str, audience_id: str, upload_id: str, deadline: Deadline) -> Upload:
        """The upload. Raises UploadNotFound."""

    def claim(self, org: str, upload: Upload, deadline: Deadline) -> Upload:
        """Go on with an open upload under the next epoch; answers with it as it is stored then.

        One that is whole is answered with as it is. Raises UploadTakenOver where it has failed, UploadNotFound where
        it went with its audience.
        """

    def check(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Raise as `save` would."""

    def save(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Write how far it has come, if it is open, not yet whole and of the same epoch.

        Raises UploadTakenOver, UploadNotFound.
        """

    def finish(self, org: str, ended: Upload, deadline: Deadline) -> None:
        """Write how an upload has ended, whatever stream has it; nothing where it has ended before."""

    def update_counts(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Write the tally of a published upload."""

    def supersede(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Mark one that a whole new list has followed, to which its unmatched rows, which are gone, do not belong."""

    def with_unmatched(self, org: str, audience_id: str, deadline: Deadline) -> Sequence[Upload]:
        """The published uploads of an audience that have unmatched rows, those superseded aside, in that order."""


class UnmatchedRepository(Protocol):
    """The rows that have matched nobody, by upload and line."""

    def add(self, org: str, upload: Upload, rows: Sequence[UnmatchedRow], deadline: Deadline) -> None:
        """Keep rows; those that are there already stay."""

    def page(self, org: str, upload: Upload, after: int, size: int, deadline: Deadline) -> Sequence[UnmatchedRow]:
        """The next rows behind a line: at most `size`, and so many as a message can carry; none at the end."""

    def remove(self, org: str, upload: Upload, lines: Sequence[int], deadline: Deadline) -> None:
        """Forget rows."""

    def truncate_after(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """Forget all rows behind a line; with 0 all of them."""


class ListRowRepository(Protocol):
    """The rows of lists that are being written; what is published of them is for CustomAudienceRepository to say."""

    def add(self, org: str, list_version_id: str, rows: Sequence[ListedRow], deadline: Deadline) -> Collection[str]:
        """Put contacts on, each once among the rows; answers with the sk of those that another line had put there."""

    def existing(self, org: str, list_version_id: str, keys: Sequence[str], deadline: Deadline) -> Collection[str]:
        """Those of these sk that are on."""

    def upsert(
        self, org: str, list_version_id: str, contacts: Sequence[Contact], as_of: datetime, deadline: Deadline
    ) -> None:
        """Put contacts on, as of a moment; those who are on as of a later one stay so."""

    def truncate_after(self, org: str, list_version_id: str, after: int, deadline: Deadline) -> None:
        """Take off whom lines behind this one have put on; with 0 everybody."""

    def count(self, org: str, list_version_id: str, deadline: Deadline) -> int:
        """How many are on."""

    def merge(
        self,
        org: str,
        target_id: str,
        included: Mapping[str, datetime],
        excluded: Mapping[str, datetime],
        deadline: Deadline,
    ) -> None:
        """Write a list of all whom some lists put on later than others take them off, inside the database.

        The lists come with the moment that holds for those of their rows that have none of their own; where `off` is
        empty, those that put on last come first.
        """


class IdentifierRepository(Protocol):
    """An index of the org's records by the keys that domain/identifiers/match_keys.py makes of them."""

    def update(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        """Bring the index up to date with the records in use, by one rule, whatever has become of them."""

    def find(
        self, org: str, keys: Collection[bytes], limit: int, deadline: Deadline
    ) -> Mapping[bytes, Sequence[Contact]]:
        """Who has these keys, as of the last update; of a key that more than `most` have, so many and one."""

    def find_ids(
        self, org: str, datatype: str, ids: Collection[str], deadline: Deadline
    ) -> Mapping[str, Sequence[Contact]]:
        """The records in use that have these ids."""
