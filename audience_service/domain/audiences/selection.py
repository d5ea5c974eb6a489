"""Whose members a caller means."""

from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.filters import Filter


@dataclass(frozen=True, slots=True)
class AudienceSelector:
    """Whose members a caller means: an audience of the org, an unsaved filter, or a union: exactly one of them.

    Members of the excluded audiences are left out, and those who must not be reached for the purpose. The places are
    where the request has the first two. `snapshot_id` means all that a snapshot froze instead, where that can be asked
    for.
    """

    audience_id: str = ""
    filter: Filter | None = None
    audience_id_path: str = "audience_id"
    filter_path: str = "filter"
    snapshot_id: str = ""
    audience_ids: Sequence[str] = ()
    exclude_audience_ids: Sequence[str] = ()
    purpose: str = ""
