"""The storage of custom audiences. domain/audiences/repository.py has the rules for every method.

A list is replaced as a unit, by one write:

    reserve(id.ab12) ──> write the rows ──> publish: list_version_id becomes id.ab12 ──> sweep the rows of the old list
                              └── the process dies: the reservation expires, and the rows are swept
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.jobs import JobRunner, Report
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.custom_audiences.model import (
    CustomAudience,
    CustomAudienceQuery,
    CustomType,
)


class CustomAudienceRepository(Protocol):
    """The records of custom audiences.

    1. The rows of a list are in the collection of static lists, under a list version id of their own. That id is made
       by `idempotency.new_list_version_id`.
    2. `reserve` comes before the first write of a row; `publish` makes the rows the list.
    3. Reserved rows that are not published are swept when the reservation expires.
    4. The rows of the previous list are swept when streams that read them have ended.
    """

    def insert(
        self,
        org: str,
        audience: CustomAudience,
        key: IdempotencyKey | None,
        deadline: Deadline,
        lease: Lease | None = None,
    ) -> None:
        """Store a new audience. If its `work` is CREATING, `lease` is the lease of the process that does the work.

        Raises NameTaken, or RequestIdReused if an audience has this key already.
        """

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[CustomAudience, str] | None:
        """The audience that a request created, and the digest of that request."""

    def get(self, org: str, audience_id: str, deadline: Deadline) -> CustomAudience:
        """The audience without `contact_count`. Raises AudienceNotFound."""

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """The number of audiences, up to `limit`."""

    def page(
        self, org: str, query: CustomAudienceQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[CustomAudience]:
        """Up to `size` audiences after the key `after`, newest first, without `contact_count`, `publication`."""

    def is_name_taken(self, org: str, name: str, deadline: Deadline, except_id: str = "") -> bool:
        """Whether an audience other than `except_id` has the name."""

    def save(self, org: str, audience: CustomAudience, deadline: Deadline) -> CustomAudience:
        """Write name, description and external, and return the audience, if the stored version is `audience.version`.

        A list that is published concurrently stays published. Raises NameTaken, StaleVersion, AudienceNotFound.
        """

    def reserve(self, org: str, audience_id: str, list_version_id: str, until: datetime, deadline: Deadline) -> None:
        """Reserve a list version id until a time, after which its rows are swept; a repeated call moves that time.

        It leaves the current list as it is. Raises AudienceNotFound, and StaleVersion if the sweep has begun.
        """

    def start_work(self, org: str, audience_id: str, lease: Lease, deadline: Deadline) -> CustomAudience | None:
        """Start the next creation or refresh and return the audience; None if one is running. Raises AudienceNotFound.

        The work is a creation until the audience has been READY once.
        """

    def renew_work(self, org: str, audience: CustomAudience, lease: Lease, progress: int, deadline: Deadline) -> bool:
        """Renew the lease of `audience.work` and raise its progress; False if it ended or its lease expired."""

    def end_work(self, org: str, audience: CustomAudience, error: str, deadline: Deadline) -> bool:
        """Mark `audience.work` as READY, or FAILED if there is an error; False if it ended or its lease expired."""

    def publish(
        self,
        org: str,
        audience: CustomAudience,
        list_version_id: str,
        publication: Mapping[str, Any],
        deadline: Deadline,
        *,
        ends_work: bool = False,
    ) -> CustomAudience:
        """Make reserved rows the list, and return the audience, if `audience.list_version_id` is still the list.

        With `ends_work`, `audience.work` becomes READY in the same write, if its lease has not expired. Concurrent
        changes of name and description stay. `publication` (JSON values and dates) is stored until the next list.
        Raises StaleVersion, also if the reservation has expired, and AudienceNotFound.
        """

    def remove(self, org: str, audience: CustomAudience, deadline: Deadline) -> None:
        """Delete the audience if the stored version is `audience.version`. Its name is free, and its work ends.

        Its rows are swept when streams that read them have ended. Raises StaleVersion, AudienceNotFound.
        """

    def restore(self, org: str, audience: CustomAudience, deadline: Deadline) -> bool:
        """Undo a removal. Returns False if another audience has the name or the request_id now."""


ValidateSpec = Callable[[RequestContext, CustomAudience], CustomAudience]
"""Validates the spec and datatype of a new audience and returns the audience with their defaults.

Called with validate_only too. Raises what CreateCustomAudience states, at field paths from `custom_audience` on.
"""

RefreshAudience = Callable[[RequestContext, CustomAudience, Report], CustomAudience]
"""Writes and publishes a new list of an audience, in the background; returns the audience as written.

What it raises makes the work FAILED.
"""


@dataclass(frozen=True, slots=True)
class Refresher:
    """Refreshes the lists of a type, and creates them if `creates`.

    `check` runs within the call and raises UnusableAudience, UnsupportedByStore. `refresh` runs as a job of `runner`.
    """

    check: Callable[[RequestContext, CustomAudience], None]
    refresh: RefreshAudience
    runner: JobRunner
    creates: bool = False


SpecValidators = Mapping[CustomType, ValidateSpec]
Refreshers = Mapping[CustomType, Refresher]
