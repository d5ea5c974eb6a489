"""The selector: the fields of a request that say whose members it is about."""

from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.filters import Filter


@dataclass(frozen=True, slots=True)
class AudienceSelector:
    """Whose members a caller selects: those of exactly one of an audience, a filter, a snapshot or a union.

    Members of the excluded audiences are left out, and members that the purpose must not reach. `audience_id_path` and
    `filter_path` are the field paths in the request. `snapshot_id` selects every stored row of a snapshot, in requests
    that take one.
    """

    audience_id: str = ""
    filter: Filter | None = None
    audience_id_path: str = "audience_id"
    filter_path: str = "filter"
    snapshot_id: str = ""
    audience_ids: Sequence[str] = ()
    exclude_audience_ids: Sequence[str] = ()
    purpose: str = ""
