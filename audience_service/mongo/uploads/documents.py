"""Uploads as they are stored.

{_id: sk, sk: "<org>/audience_upload/<audience>/<upload_id>", audience, header, state, list_version_id, epoch,
 createdate, position: {offset, line, crc32, names, width, delimiter},
 row_counts: {matched, ..., rejected, rejections, changes},
 is_complete, checked_at, error: {reason, problem, line}, expires_at (while it is open), published_at, list_size,
 is_superseded}
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from audience_service.domain.uploads.model import (
    Column,
    FilePosition,
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
        "list_version_id": upload.list_version_id,
        "epoch": upload.epoch,
        "createdate": upload.created_at,
        "expires_at": upload.expires_at,
        **progress_fields(upload),
    }


def progress_fields(upload: Upload) -> Record:
    """Return the fields that a stream writes."""
    return {
        "state": upload.state.value,
        "position": asdict(upload.position),
        "row_counts": asdict(upload.row_counts),
        "is_complete": upload.is_complete,
        "checked_at": upload.checked_at,
        "error": {
            "reason": upload.error,
            "problem": upload.error_problem,
            "line": upload.error_line,
        },
        "published_at": upload.published_at,
        "list_size": upload.list_size,
    }


def read_upload(record: Mapping[str, Any]) -> Upload:
    """Return the upload in a record."""
    header, position, row_counts = (dict(record[name]) for name in ("header", "position", "row_counts"))
    header["mode"] = UploadMode(header["mode"])
    header["columns"] = tuple(Column(**column) for column in header["columns"])
    position["names"] = tuple(position["names"])
    row_counts["rejections"] = tuple(Rejection(**rejection) for rejection in row_counts["rejections"])
    error = record["error"]
    return Upload(
        header=UploadHeader(**header),
        state=UploadState(record["state"]),
        list_version_id=record["list_version_id"],
        created_at=record["createdate"],
        epoch=record["epoch"],
        position=FilePosition(**position),
        row_counts=RowCounts(**row_counts),
        is_complete=record["is_complete"],
        checked_at=record["checked_at"],
        error=error["reason"],
        error_problem=error["problem"],
        error_line=error["line"],
        published_at=record["published_at"],
        list_size=record["list_size"],
    )
