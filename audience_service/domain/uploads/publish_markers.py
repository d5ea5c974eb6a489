"""Publish markers: the uploads that a custom audience's list contains, stored by the write that publishes the list.

    {"uploads": [{"rows": "custom-a.ab12", "count": 900, "at": ...}, ...], "replaced_at": ...}

The upload's own record is written after that. If a process dies between the two writes, the marker is right.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.domain.uploads.model import Upload, UploadMode, UploadState

_MAX_MARKERS = 100
"""The most markers of a list. A trailer repeated after as many later uploads would publish its upload again."""

_MIN_STEP = timedelta(milliseconds=1)
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_in_list(audience: CustomAudience, upload: Upload) -> bool:
    """Whether the upload has been published to the list."""
    return _marker(audience, upload) is not None


def with_publish_state(audience: CustomAudience, upload: Upload) -> Upload:
    """The upload as PUBLISHED, or unchanged if it has not been published."""
    marker = _marker(audience, upload)
    if marker is None:
        return upload
    return replace(upload, state=UploadState.PUBLISHED, published_at=marker["at"], list_size=int(marker["count"]))


def next_timestamp(audience: CustomAudience) -> datetime:
    """The time to publish the next upload at: after the previous one, even if the clocks of processes differ."""
    before = audience.publication.get("uploads", ())
    return max(now(), before[-1]["at"] + _MIN_STEP) if before else now()


def listed_since(audience: CustomAudience) -> datetime:
    """The time for rows of the list that have none of their own: those of an upload that became the list directly."""
    markers = audience.publication.get("uploads", ())
    return next(
        (marker["at"] for marker in markers if marker["list_version_id"] == audience.list_version_id), _UNIX_EPOCH
    )


def with_marker(audience: CustomAudience, upload: Upload, count: int, at: datetime) -> Mapping[str, Any]:
    """The metadata of the next list, which has `count` contacts after an upload published at `at`."""
    before = audience.publication.get("uploads", ())
    marker = {"list_version_id": upload.list_version_id, "count": count, "at": at}
    replaced_at = at if upload.header.mode == UploadMode.REPLACE else audience.publication.get("replaced_at")
    return {"uploads": [*before, marker][-_MAX_MARKERS:], "replaced_at": replaced_at}


def is_replaced(audience: CustomAudience, upload: Upload) -> bool:
    """Whether a later upload replaced the list, so that unmatched rows of this one no longer count."""
    replaced_at = audience.publication.get("replaced_at")
    return bool(replaced_at and upload.published_at and upload.published_at < replaced_at)


def _marker(audience: CustomAudience, upload: Upload) -> Mapping[str, Any] | None:
    markers = audience.publication.get("uploads", ())
    return next((marker for marker in markers if marker["list_version_id"] == upload.list_version_id), None)
