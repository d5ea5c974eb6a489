"""Uploads as they are stored.

{_id: sk, sk: "<org>/audience_upload/<audience>/<upload_id>", audience, header, state, rows, epoch, createdate,
 position: {offset, line, crc32, names, width}, tally: {matched, ..., rejected, rejections}, whole, checked_at,
 failure, open_until (while it is open), publish_time, contact_count, superseded}
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from audience_service.domain.uploads.upload import (
    Column,
    Mode,
    Position,
    Rejection,
    Tally,
    Upload,
    UploadHeader,
    UploadState,
)

Record = dict[str, Any]


def upload_sk(org: str, audience_id: str, upload_id: str) -> str:
    """The key of an upload."""
    return f"{org}/audience_upload/{audience_id}/{upload_id}"


def new_upload(org: str, upload: Upload) -> Record:
    """The record of a new upload."""
    sk = upload_sk(org, upload.header.audience_id, upload.header.upload_id)
    return {
        "_id": sk,
        "sk": sk,
        "audience": upload.header.audience_id,
        "header": asdict(upload.header),
        "rows": upload.rows_id,
        "epoch": upload.epoch,
        "createdate": upload.create_time,
        "open_until": upload.expire_time,
        **written(upload),
    }


def written(upload: Upload) -> Record:
    """What a stream writes of an upload."""
    return {
        "state": upload.state.value,
        "position": asdict(upload.position),
        "tally": asdict(upload.tally),
        "whole": upload.is_whole,
        "checked_at": upload.checked_at,
        "failure": {
            "why": upload.failure,
            "problem": upload.failure_problem,
            "line": upload.failure_line,
        },
        "publish_time": upload.publish_time,
        "contact_count": upload.contact_count,
    }


def read_upload(record: Mapping[str, Any]) -> Upload:
    """The upload in a record."""
    header, position, tally = (dict(record[name]) for name in ("header", "position", "tally"))
    header["mode"] = Mode(header["mode"])
    header["columns"] = tuple(Column(**column) for column in header["columns"])
    position["names"] = tuple(position["names"])
    tally["rejections"] = tuple(Rejection(**rejection) for rejection in tally["rejections"])
    failure = record["failure"]
    return Upload(
        header=UploadHeader(**header),
        state=UploadState(record["state"]),
        rows_id=record["rows"],
        create_time=record["createdate"],
        epoch=record["epoch"],
        position=Position(**position),
        tally=Tally(**tally),
        is_whole=record["whole"],
        checked_at=record["checked_at"],
        failure=failure["why"],
        failure_problem=failure["problem"],
        failure_line=failure["line"],
        publish_time=record["publish_time"],
        contact_count=record["contact_count"],
    )
