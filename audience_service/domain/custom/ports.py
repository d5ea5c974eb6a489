"""What the use cases on custom audiences ask of storage; domain/ports.py states what holds for every method."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from audience_service.domain.caller import Call, Deadline
from audience_service.domain.custom.audience import CustomAudience, CustomPage, CustomQuery, CustomType
from audience_service.domain.ports import CreateRequest


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
        request: CreateRequest | None,
        deadline: Deadline,
        made_by: datetime | None = None,
    ) -> None:
        """Store a new audience.

        With `made_by` it is being made: it has its name, and is found by `find_request` and `reserve` alone, until
        `publish` gives it its first list; after that moment it counts as given up. Raises NameTaken, or RequestIdReused
        where the request has made one already.
        """

    def find_request(self, org: str, request: CreateRequest, deadline: Deadline) -> tuple[CustomAudience, str] | None:
        """What a request has made or is making (in the state `making`), and the digest of that request."""

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

    def reserve(self, org: str, audience_id: str, rows_id: str, until: datetime, deadline: Deadline) -> None:
        """Note that rows of this id may lie about until then, when they are swept; again, it moves that time.

        Where they are the list, nothing. Raises AudienceNotFound, and StaleVersion where they are being swept.
        """

    def publish(
        self, org: str, audience: CustomAudience, rows_id: str, published: Mapping[str, Any], deadline: Deadline
    ) -> CustomAudience:
        """Replace the list `audience.rows_id` by reserved rows, if it is still the current list; returns the audience.

        Name and description may have changed meanwhile; they stay. `published` is stored as `CustomAudience.published`
        until the next list; its values are JSON values or dates. The previous list is swept once streams that read it
        have ended. Raises StaleVersion (also if the reserved rows have expired and may have been swept),
        AudienceNotFound.
        """

    def remove(self, org: str, audience: CustomAudience, deadline: Deadline) -> None:
        """Delete the audience that still has `audience.version`, be it being made; its name is free at once.

        Its rows are swept when streams that read them have ended. Raises StaleVersion, AudienceNotFound.
        """

    def restore(self, org: str, audience: CustomAudience, deadline: Deadline) -> bool:
        """Take the removal back; False where that cannot be: the name or the request stands for another one now."""


Plan = Callable[[Call, CustomAudience], CustomAudience]
"""Checks the spec of an audience that is to be made, and makes it and the datatype (empty for the default) definite.

Asked with validate_only, too. Raises what CreateCustomAudience states, with places from `custom_audience` on.
"""

Refresh = Callable[[Call, CustomAudience], CustomAudience]
"""Writes a new list of an audience and publishes it; answers with the audience as written.

A lookalike is refreshed once when it is made, in the state `making`. Raises what RefreshCustomAudience states.
"""

Plans = Mapping[CustomType, Plan]
Refreshers = Mapping[CustomType, Refresh]
