"""What a custom audience notes of the uploads that are in its list, by the very write that publishes the list.

An upload's own record is written after that. Where the two differ, because a process died between them, this holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.clock import now
from audience_service.domain.custom.audience import CustomAudience
from audience_service.domain.uploads.upload import Mode, Upload, UploadState

_REMEMBERED = 100
"""How many uploads a list remembers to have in it: an end that is repeated after as many others would count anew."""

_NEXT = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_in_list(audience: CustomAudience, upload: Upload) -> bool:
    """Whether the upload has been published."""
    return _mark_of(audience, upload) is not None


def as_published(audience: CustomAudience, upload: Upload) -> Upload:
    """The upload as it was published; as it is, where it has not been."""
    mark = _mark_of(audience, upload)
    if mark is None:
        return upload
    return replace(upload, state=UploadState.PUBLISHED, publish_time=mark["at"], contact_count=int(mark["count"]))


def next_moment(audience: CustomAudience) -> datetime:
    """When the next upload is published: behind the one before, whatever the clocks of the processes say."""
    before = audience.published.get("uploads", ())
    return max(now(), before[-1]["at"] + _NEXT) if before else now()


def listed_since(audience: CustomAudience) -> datetime:
    """Since when those are on the list whose rows do not say it: all of an upload that is the list as it is."""
    marks = audience.published.get("uploads", ())
    return next((mark["at"] for mark in marks if mark["rows"] == audience.rows_id), _EPOCH)


def noted(audience: CustomAudience, upload: Upload, count: int, at: datetime) -> Mapping[str, Any]:
    """What an audience notes of its next list, to which an upload brings it at that moment, and which is so long."""
    before = audience.published.get("uploads", ())
    mark = {"rows": upload.rows_id, "count": count, "at": at}
    replaced_at = at if upload.header.mode == Mode.REPLACE else audience.published.get("replaced_at")
    return {"uploads": [*before, mark][-_REMEMBERED:], "replaced_at": replaced_at}


def is_replaced(audience: CustomAudience, upload: Upload) -> bool:
    """Whether a whole new list has followed a published upload, to which its unmatched rows do not belong."""
    replaced_at = audience.published.get("replaced_at")
    return bool(replaced_at and upload.publish_time and upload.publish_time < replaced_at)


def _mark_of(audience: CustomAudience, upload: Upload) -> Mapping[str, Any] | None:
    marks = audience.published.get("uploads", ())
    return next((mark for mark in marks if mark["rows"] == upload.rows_id), None)
