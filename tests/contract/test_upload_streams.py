"""Upload streams that break, resume and take over: every row counts exactly once."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.examples import examples
from tests.support.uploads import (
    PUBLISHED,
    StepwiseStream,
    Uploader,
    chunk,
    emails,
    header,
    messages,
    trailer,
    unmatched,
)
from tests.support.waiting import eventually

Insert = Callable[..., list[str]]
ROWS = 40


@pytest.fixture
def uploader(client: Client) -> Uploader:
    return Uploader(client)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored of a file grows by a few rows at a time."""
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 3)


def counts_of(upload: pb.Upload) -> tuple[Any, ...]:
    """What became of a file, however it was sent."""
    rejections = [(each.line, each.column, each.reason) for each in upload.rejections]
    counts = (
        upload.row_count,
        upload.accepted_row_count,
        upload.matched_row_count,
        upload.duplicate_row_count,
        upload.unmatched_row_count,
        upload.matched_contact_count,
    )
    return (upload.state, upload.error, upload.next_offset, *counts, dict(upload.rejected_row_counts), rejections)


def send_broken(uploader: Uploader, client: Client, audience_id: str, data: bytes, cuts: list[int], size: int) -> Any:
    """A file whose streams end at some places; the last one goes on to the end."""
    start = 0
    for cut in cuts:
        head = [header(audience_id), *_chunks(data, start, cut, size)]
        with pytest.raises(grpc.RpcError) as caught:
            uploader.send(iter(head))
        refusal = Refusal(caught.value)
        if refusal.info.reason == "INVALID_FILE":
            return client.call("GetUpload", {"audienceId": audience_id, "uploadId": "first"})
        assert refusal.info.reason == "UPLOAD_INCOMPLETE"
        start = int(refusal.info.metadata["next_offset"])
        assert client.call("GetUpload", {"audienceId": audience_id, "uploadId": "first"}).next_offset == start
    try:
        return uploader.send(messages(header(audience_id), data, start, size))
    except grpc.RpcError as error:
        assert Refusal(error).info.reason == "INVALID_FILE"
        return client.call("GetUpload", {"audienceId": audience_id, "uploadId": "first"})


def _chunks(data: bytes, start: int, stop: int, size: int) -> list[pb.UploadMembersRequest]:
    return [chunk(at, data[at : min(at + size, stop)]) for at in range(start, stop, size)]


CELLS = st.one_of(
    st.sampled_from([f"p{n}@example.com" for n in range(8)] + ["nobody@example.com", "none", ""]),
    st.text(alphabet='é€",;\r\n\t\x00=@a ', max_size=6),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """CSV files, most of them well formed."""
    rows = draw(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=ROWS))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in rows]
    data = ("email,note" + ends + "".join(line + ends for line in lines)).encode()
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from([b'"', b"\xff", b"\r", b"\xc3", b",", b"\n"])) + data[at:]
    return data


@examples(25, HealthCheck.function_scoped_fixture)
@given(files(), st.integers(1, 400), st.lists(st.floats(0, 1), max_size=3))
def test_a_file_that_is_cut_and_broken_anywhere_comes_to_the_same_as_in_one_piece(
    service: Service,
    client: Client,
    uploader: Uploader,
    small_batches: None,
    data: bytes,
    size: int,
    breaks: list[float],
) -> None:
    org = client.metadata[1][1]
    if not service.store.database["contact"].find_one({"sk": {"$regex": f"^{org}/"}}):
        service.insert(org, [{"id": f"p{n}", "data": {"email": f"P{n}@example.com"}} for n in range(8)])
    complete, broken = (client.custom(name=uuid.uuid4().hex) for _ in range(2))
    expected = send_broken(uploader, client, complete.id, data, [], 1024 * 1024)
    got = send_broken(uploader, client, broken.id, data, sorted(int(part * len(data)) for part in breaks), size)
    if expected.state == PUBLISHED:
        assert counts_of(got) == counts_of(expected)
    else:  # a failed one says where, and what it had counted depends on nothing but its batches
        assert (got.state, got.error) == (expected.state, expected.error)
    assert client.members(audienceId=broken.id) == client.members(audienceId=complete.id)
    left = [unmatched(client, each.id) for each in (complete, broken)]
    assert left[0] == left[1]


def test_a_chunk_at_the_wrong_offset_is_refused_with_the_next_offset(
    client: Client, uploader: Uploader, small_batches: None, refused: Callable[..., Refusal]
) -> None:
    made, data = client.custom(name="list"), emails(*"abcdefg")
    stored = len(emails(*"abcdef"))
    sent = [header(made.id), chunk(0, data[:-1]), chunk(len(data), b"x")]
    for code, reason, wrong in (
        ("OUT_OF_RANGE", "OFFSET_MISMATCH", chunk(len(data) + 1, b"x")),
        ("ABORTED", "CHECKSUM_MISMATCH", pb.UploadMembersRequest(chunk=pb.UploadChunk(offset=stored, data=b"x"))),
        ("OUT_OF_RANGE", "UPLOAD_INCOMPLETE", trailer(data + b"x")),
    ):
        refusal = refused(lambda sent=sent: uploader.send(iter(sent)))
        assert refusal.info.metadata["next_offset"] == str(stored)
        sent = [header(made.id), wrong]
        refusal = refused(lambda sent=sent: uploader.send(iter(sent)))
        assert (refusal.code.name, refusal.info.reason) == (code, reason)
        assert refusal.info.metadata["next_offset"] == str(stored)
    assert uploader.send(messages(header(made.id), data, stored)).unmatched_row_count == 7


def test_a_file_with_a_wrong_checksum_restarts(
    client: Client, insert: Insert, uploader: Uploader, small_batches: None, refused: Callable[..., Refusal]
) -> None:
    insert([{"data": {"email": f"{name}@example.com"}} for name in "abcxyz"])
    made, wrong, right = client.custom(name="list"), emails(*"abcd"), emails(*"wxyz")
    crossed = [header(made.id), chunk(0, wrong), trailer(right)]
    refusal = refused(lambda: uploader.send(iter(crossed)))
    assert (refusal.info.reason, refusal.info.metadata["next_offset"]) == ("CHECKSUM_MISMATCH", "0")
    assert client.members(audienceId=made.id) == []
    upload = uploader.upload(made.id, right)
    assert (upload.matched_row_count, upload.unmatched_row_count, upload.list_size) == (3, 1, 3)
    assert len(client.members(audienceId=made.id)) == 3
    assert unmatched(client, made.id) == [(2, ["w@example.com"])]


def test_rows_of_a_superseded_stream_restart_the_upload(
    client: Client,
    insert: Insert,
    uploader: Uploader,
    service: Service,
    small_batches: None,
    refused: Callable[..., Refusal],
) -> None:
    ids = insert([{"data": {"email": f"{name}@example.com"}} for name in "abcz"])
    made, data = client.custom(name="list"), emails(*"abc")
    refused(lambda: uploader.send(iter([header(made.id), chunk(0, data)])))
    members = service.store.database["audience_member"]
    [row, *_] = members.find({"audience": {"$regex": f"^{made.id}"}})
    late = {**row, "pk": ids[3], "sk": row["sk"].replace(row["pk"].split("-")[1], ids[3].split("-")[1]), "line": 2}
    members.insert_one({**late, "_id": f"{row['audience']}/{late['sk']}"})
    refusal = refused(lambda: uploader.send(messages(header(made.id), data, len(data))))
    assert (refusal.info.reason, refusal.info.metadata["next_offset"]) == ("CHECKSUM_MISMATCH", "0")
    assert uploader.upload(made.id, data).list_size == 3
    assert sorted(client.members(audienceId=made.id)) == sorted(ids[:3])


@pytest.mark.parametrize(
    ("sent", "field_path"),
    [
        ([], "header"),
        ([trailer(b"")], "header"),
        ([None, pb.UploadMembersRequest()], "content"),
        ([None, None], "header"),
        ([None, chunk(0, b"x" * (1024 * 1024 + 1))], "chunk.data"),
    ],
)
def test_out_of_order_messages_are_refused(
    client: Client, uploader: Uploader, refused: Callable[..., Refusal], sent: list[Any], field_path: str
) -> None:
    made = client.custom(name="list")
    parts = [header(made.id) if part is None else part for part in sent]
    refusal = refused(lambda: uploader.send(iter(parts)))
    assert (refusal.code.name, refusal.fields) == ("INVALID_ARGUMENT", [field_path])


def test_bytes_that_are_no_message_are_an_invalid_argument_after_the_first_too(
    service: Service, client: Client, refused: Callable[..., Refusal]
) -> None:
    made = client.custom(name="list")
    call: Any = service.channel.stream_unary("/audience.v1.CustomAudienceService/UploadMembers")
    raw = [header(made.id).SerializeToString(), b"\xff\xff\xff"]
    refusal = refused(lambda: call(iter(raw), metadata=client.metadata))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


def test_the_latest_stream_writes_and_the_earlier_one_fails(
    client: Client, insert: Insert, uploader: Uploader, service: Service, small_batches: None
) -> None:
    insert([{"data": {"email": f"{name}@example.com"}} for name in "abcdefgh"])
    made, data, slow = client.custom(name="list"), emails(*"abcdefgh"), StepwiseStream()
    slow.put(header(made.id), chunk(0, data[:70]))
    first = uploader.start(iter(slow))

    def state() -> Any:
        return client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"})

    uploads = service.store.database["audience_upload"]
    eventually(lambda: bool(uploads.count_documents({"audience": made.id, "position.offset": {"$gt": 0}})))
    slow_start = state().next_offset
    upload = uploader.send(messages(header(made.id), data, slow_start))
    assert (upload.state, upload.matched_row_count, upload.list_size) == (PUBLISHED, 8, 8)
    slow.put(chunk(70, data[70:]), trailer(data), None)
    refusal = Refusal(first.exception(timeout=40))
    assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "UPLOAD_TAKEN_OVER")
    assert (state(), len(client.members(audienceId=made.id))) == (upload, 8)


def test_a_disconnected_stream_releases_its_slot_and_can_resume(
    client: Client, uploader: Uploader, service: Service
) -> None:
    made, data, slow = client.custom(name="list"), emails(*"abc"), StepwiseStream()
    eventually(lambda: service.open_stream_count == 0)  # streams of earlier tests may still be ending
    slow.put(header(made.id), chunk(0, data[:9]))
    call = uploader.start(iter(slow))
    eventually(lambda: service.open_stream_count == 1)
    call.cancel()
    slow.put(None)
    eventually(lambda: service.open_stream_count == 0)
    assert uploader.upload(made.id, data).unmatched_row_count == 3


def test_unmatched_rows_are_returned_unchanged_except_escaped_formulas(client: Client, uploader: Uploader) -> None:
    made = client.custom(name="list")
    cells = ["=1+1", "+14155550100", "-5", "@x", "\tx", "＝1", "plain", "a=b", ""]
    lines = "".join(f'no{n}@example.com,"{cell}"\n' for n, cell in enumerate(cells))
    uploader.upload(made.id, "email,=note\n" + lines)
    raw = [(n + 2, [f"no{n}@example.com", cell]) for n, cell in enumerate(cells)]
    assert unmatched(client, made.id, unescapedFormulas=True) == raw
    shown = ["'=1+1", "'+14155550100", "'-5", "'@x", "'\tx", "'＝1", "plain", "a=b", ""]
    assert [row[1] for _, row in unmatched(client, made.id)] == shown
    [batch, last] = client.call("StreamUnmatchedRows", {"audienceId": made.id})
    assert (batch.upload_id, list(batch.columns), last.total_row_count) == ("first", ["email", "'=note"], len(cells))
    [batch, _] = client.call("StreamUnmatchedRows", {"audienceId": made.id, "unescapedFormulas": True})
    assert list(batch.columns) == ["email", "=note"]


def test_unmatched_rows_resume_after_any_cursor(
    client: Client, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.service.UNMATCHED_BATCH_SIZE", 2)
    made = client.custom(name="list")
    for name in ("one", "two"):
        uploader.upload(made.id, emails(*"abcde"), uploadId=name)
    batches = list(client.call("StreamUnmatchedRows", {"audienceId": made.id}))
    rows = [(batch.upload_id, row.line) for batch in batches for row in batch.rows]
    assert rows == [(name, line) for name in ("one", "two") for line in range(2, 7)]
    for index, batch in enumerate(batches):
        rest = list(client.call("StreamUnmatchedRows", {"audienceId": made.id, "cursor": batch.cursor}))
        assert rest[-1].total_row_count == 10
        assert [(b.upload_id, r.line) for b in [*batches[: index + 1], *rest] for r in b.rows] == rows


def test_an_upload_that_is_left_open_for_a_week_has_failed_and_is_cleared_away(
    client: Client, uploader: Uploader, service: Service, small_batches: None, refused: Callable[..., Refusal]
) -> None:
    made, data = client.custom(name="list"), emails(*"abcd")
    refused(lambda: uploader.send(iter([header(made.id), chunk(0, data)])))
    rows, uploads = (service.store.database[name] for name in ("audience_upload_row", "audience_upload"))
    kept = {"sk": {"$regex": f"/audience_upload_row/{made.id}"}}
    assert rows.count_documents(kept) == 3
    [stored] = uploads.find({"audience": made.id})
    service.store.upload_sweeper.sweep(stored["expires_at"])
    assert rows.count_documents(kept) == 3
    service.store.upload_sweeper.sweep(stored["expires_at"] + timedelta(seconds=1))
    assert rows.count_documents(kept) == 0
    refusal = refused(lambda: uploader.upload(made.id, data))
    assert refusal.info.metadata["problem"] == "abandoned"
