"""What a custom audience notes of the uploads that are in its list, by the very write that publishes the list.

An upload's own record is written after that. Where the two differ, because a process died between them, this holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.domain.uploads.model import Upload, UploadMode, UploadState

_MAX_MARKERS = 100
"""How many uploads a list remembers to have in it: an end that is repeated after as many others would count anew."""

_MIN_STEP = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_in_list(audience: CustomAudience, upload: Upload) -> bool:
    """Whether the upload has been published."""
    return _marker(audience, upload) is not None


def with_publish_state(audience: CustomAudience, upload: Upload) -> Upload:
    """The upload as it was published; as it is, where it has not been."""
    marker = _marker(audience, upload)
    if marker is None:
        return upload
    return replace(upload, state=UploadState.PUBLISHED, published_at=marker["at"], list_size=int(marker["count"]))


def next_timestamp(audience: CustomAudience) -> datetime:
    """When the next upload is published: behind the one before, whatever the clocks of the processes say."""
    before = audience.publication.get("uploads", ())
    return max(now(), before[-1]["at"] + _MIN_STEP) if before else now()


def listed_since(audience: CustomAudience) -> datetime:
    """Since when those are on the list whose rows do not say it: all of an upload that is the list as it is."""
    markers = audience.publication.get("uploads", ())
    return next((marker["at"] for marker in markers if marker["list_version_id"] == audience.list_version_id), _EPOCH)


def with_marker(audience: CustomAudience, upload: Upload, count: int, at: datetime) -> Mapping[str, Any]:
    """What an audience notes of its next list, to which an upload brings it at that moment, and which is so long."""
    before = audience.publication.get("uploads", ())
    marker = {"list_version_id": upload.list_version_id, "count": count, "at": at}
    replaced_at = at if upload.header.mode == UploadMode.REPLACE else audience.publication.get("replaced_at")
    return {"uploads": [*before, marker][-_MAX_MARKERS:], "replaced_at": replaced_at}


def is_replaced(audience: CustomAudience, upload: Upload) -> bool:
    """Whether a whole new list has followed a published upload, to which its unmatched rows do not belong."""
    replaced_at = audience.publication.get("replaced_at")
    return bool(replaced_at and upload.published_at and upload.published_at < replaced_at)


def _marker(audience: CustomAudience, upload: Upload) -> Mapping[str, Any] | None:
    markers = audience.publication.get("uploads", ())
    return next((marker for marker in markers if marker["list_version_id"] == upload.list_version_id), None)
