"""What the use cases on custom audiences ask of storage; domain/ports.py states what holds for every method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.jobs import JobRunner, Report
from audience_service.domain.core.lease import Lease
from audience_service.domain.custom_audiences.model import CustomAudience, CustomPage, CustomQuery, CustomType


class CustomAudienceRepository(Protocol):
    """The records of custom audiences.

    The rows of a list lie among those of static segments, under a `rows_id` of their own: the audience's id, a dot and
    8 random characters (`creation.new_rows_id`). `reserve` comes before the first of them is written; `publish` makes
    them the list. Rows that were reserved and not published, and those of the list before, are swept.
    """

    def insert(
        self,
        org: str,
        audience: CustomAudience,
        key: IdempotencyKey | None,
        deadline: Deadline,
        lease: Lease | None = None,
    ) -> None:
        """Store a new audience; one with `work` that is CREATING comes with the lease of who does that work.

        Raises NameTaken, or RequestIdReused where the request has made one already.
        """

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[CustomAudience, str] | None:
        """What a request has made, and the digest of that request."""

    def get(self, org: str, audience_id: str, deadline: Deadline) -> CustomAudience:
        """The audience, its list not counted. Raises AudienceNotFound."""

    def page(
        self, org: str, query: CustomQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> CustomPage:
        """Up to `size` audiences behind the key `after`, newest first; lists not counted, `published` left empty."""

    def is_name_taken(self, org: str, name: str, deadline: Deadline, except_id: str = "") -> bool:
        """Whether an audience other than `except_id` has the name."""

    def save(self, org: str, audience: CustomAudience, deadline: Deadline) -> CustomAudience:
        """Write the name and description of the audience that still has `audience.version`; returns it as written.

        A list that is published at the same time stays published. Raises NameTaken, StaleVersion, AudienceNotFound.
        """

    def reserve(self, org: str, audience_id: str, list_version_id: str, until: datetime, deadline: Deadline) -> None:
        """Note that rows of this id may lie about until then, when they are swept; again, it moves that time.

        Where they are the list, nothing. Raises AudienceNotFound, and StaleVersion where they are being swept.
        """

    def start_work(self, org: str, audience_id: str, lease: Lease, deadline: Deadline) -> CustomAudience | None:
        """Begin the next creation or refresh; None if one is running. Raises AudienceNotFound.

        It is a creation until the audience has been READY once.
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
        """Replace the list `audience.rows_id` by reserved rows, if it is still the current list; returns the audience.

        With `ends_work`, `audience.work` becomes READY by the same write, if its lease has not expired. Name and
        description may have changed meanwhile; they stay. `published` is stored as `CustomAudience.published`
        until the next list; its values are JSON values or dates. The previous list is swept once streams that read it
        have ended. Raises StaleVersion (also if the reserved rows have expired and may have been swept),
        AudienceNotFound.
        """

    def remove(self, org: str, audience: CustomAudience, deadline: Deadline) -> None:
        """Delete the audience that still has `audience.version`; its name is free at once, and its work ends.

        Its rows are swept when streams that read them have ended. Raises StaleVersion, AudienceNotFound.
        """

    def restore(self, org: str, audience: CustomAudience, deadline: Deadline) -> bool:
        """Take the removal back; False where that cannot be: the name or the request stands for another one now."""


ValidateSpec = Callable[[RequestContext, CustomAudience], CustomAudience]
"""Checks the spec of an audience that is to be made, and makes it and the datatype (empty for the default) definite.

Asked with validate_only, too. Raises what CreateCustomAudience states, with places from `custom_audience` on.
"""

RefreshAudience = Callable[[RequestContext, CustomAudience, Report], CustomAudience]
"""Writes a new list of an audience and publishes it; returns the audience as written. It runs in the background.

Raises what makes the work fail.
"""


@dataclass(frozen=True, slots=True)
class Refresher:
    """How the lists of a type are refreshed, and created if `creates`: what the call checks, and what runs after it.

    `check` raises at the call what can be known then: UnusableAudience, UnsupportedByStore.
    """

    check: Callable[[RequestContext, CustomAudience], None]
    refresh: RefreshAudience
    runner: JobRunner
    creates: bool = False


SpecValidators = Mapping[CustomType, ValidateSpec]
Refreshers = Mapping[CustomType, Refresher]
