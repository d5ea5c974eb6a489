"""Malformed files (tests/data/uploads.json): each ends in counts and rejections, or fails as a unit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Refusal
from tests.support.uploads import FAILED, PUBLISHED, Uploader, header, messages

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "data" / "uploads.json").read_text())
PEOPLE = {"ann": {"email": "ann@example.com", "phone": "+18005550100"}, "bob": {"email": "bob@example.com"}}


def file_of(case: dict[str, Any]) -> bytes:
    text, count = case.get("times", ["", 0])
    content = case["file"] + text * count + case.get("after", "")
    return bytes(content.encode(case.get("encoding", "utf-8")) + bytes.fromhex(case.get("hex", "")))


@pytest.mark.parametrize("case", CASES, ids=[case["rule"] for case in CASES])
def test_a_file_is_counted_row_by_row_or_refused_completely(
    client: Client,
    insert: Callable[..., list[str]],
    refused: Callable[..., Refusal],
    case: dict[str, Any],
) -> None:
    insert([{"id": name, "data": data} for name, data in PEOPLE.items()])
    made, uploader, data = client.custom(name="list"), Uploader(client), file_of(case)
    big, head = 1024 * 1024, header(made.id, **case.get("header", {}))
    if "problem" not in case:
        upload = uploader.send(messages(head, data, size=big))
        rejected = [[each.line, each.column, each.reason] for each in upload.rejections]
        assert (upload.state, upload.matched_row_count, rejected) == (
            PUBLISHED,
            case.get("matched", 0),
            case.get("rejected", []),
        )
        assert upload.row_count == upload.accepted_row_count + len(rejected)
        assert sum(upload.rejected_row_counts.values()) == len(rejected)
        assert (upload.duplicate_row_count, upload.unmatched_row_count) == (
            case.get("duplicates", 0),
            case.get("unmatched", 0),
        )
        assert upload.delimiter == case.get("delimiter", head.header.delimiter or ",")
        assert len(client.members(audienceId=made.id)) == case.get("contacts", upload.matched_row_count)
        assert all(each.description for each in upload.rejections)
        return
    for _ in range(2):  # it has failed for good
        refusal = refused(lambda: uploader.send(messages(head, data, size=big)))
        assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILE")
        assert dict(refusal.info.metadata) == {"line": str(case["line"]), "problem": case["problem"]}
        assert case.get("says", "") in refusal.message
        assert "@" not in refusal.message, "the message contains no data of the file"
    upload = client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"})
    assert (upload.state, bool(upload.error)) == (FAILED, True)
    assert client.members(audienceId=made.id) == []
    assert client.call("GetCustomAudience", {"id": made.id}).version == 0
    assert list(client.call("StreamUnmatchedRows", {"audienceId": made.id}))[-1].total_row_count == 0
