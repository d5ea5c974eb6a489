"""Uploads as they are stored.

{_id: sk, sk: "<org>/audience_upload/<audience>/<upload_id>", audience, header, state, rows, epoch, createdate,
 position: {offset, line, crc32, names, width}, tally: {matched, ..., rejected, rejections}, whole, checked_at,
 failure, open_until (while it is open), publish_time, contact_count, superseded}
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from audience_service.domain.uploads.model import (
    Column,
    Position,
    Rejection,
    RowCounts,
    Upload,
    UploadHeader,
    UploadMode,
    UploadState,
)

Record = dict[str, Any]


def upload_sk(org: str, audience_id: str, upload_id: str) -> str:
    """Return the sk of an upload, which is also its `_id`."""
    return f"{org}/audience_upload/{audience_id}/{upload_id}"


def new_upload(org: str, upload: Upload) -> Record:
    """Return the record of a new upload."""
    sk = upload_sk(org, upload.header.audience_id, upload.header.upload_id)
    return {
        "_id": sk,
        "sk": sk,
        "audience": upload.header.audience_id,
        "header": asdict(upload.header),
        "rows": upload.list_version_id,
        "epoch": upload.epoch,
        "createdate": upload.created_at,
        "open_until": upload.expires_at,
        **progress_fields(upload),
    }


def progress_fields(upload: Upload) -> Record:
    """Return the fields that a stream writes."""
    return {
        "state": upload.state.value,
        "position": asdict(upload.position),
        "tally": asdict(upload.row_counts),
        "whole": upload.is_complete,
        "checked_at": upload.checked_at,
        "failure": {
            "why": upload.error,
            "problem": upload.error_problem,
            "line": upload.error_line,
        },
        "publish_time": upload.published_at,
        "contact_count": upload.list_size,
    }


def read_upload(record: Mapping[str, Any]) -> Upload:
    """Return the upload in a record."""
    header, position, tally = (dict(record[name]) for name in ("header", "position", "tally"))
    header["mode"] = UploadMode(header["mode"])
    header["columns"] = tuple(Column(**column) for column in header["columns"])
    position["names"] = tuple(position["names"])
    tally["rejections"] = tuple(Rejection(**rejection) for rejection in tally["rejections"])
    failure = record["failure"]
    return Upload(
        header=UploadHeader(**header),
        state=UploadState(record["state"]),
        list_version_id=record["rows"],
        created_at=record["createdate"],
        epoch=record["epoch"],
        position=Position(**position),
        row_counts=RowCounts(**tally),
        is_complete=record["whole"],
        checked_at=record["checked_at"],
        error=failure["why"],
        error_problem=failure["problem"],
        error_line=failure["line"],
        published_at=record["publish_time"],
        list_size=record["contact_count"],
    )
