"""Uploads as a client sends them."""

import queue
import zlib
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict

from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from tests.support.client import Client

CHUNK_SIZE = 64 * 1024
PUBLISHED, FAILED = pb.UPLOAD_STATE_PUBLISHED, pb.UPLOAD_STATE_FAILED


def header(audience_id: str, **fields: Any) -> pb.UploadMembersRequest:
    """The first message; an append called `first` by default. Fields are as in JSON, `mode` without its prefix."""
    message = {"audienceId": audience_id, "uploadId": "first", "mode": "append", **fields}
    if isinstance(message["mode"], str):
        message["mode"] = f"UPLOAD_MODE_{message['mode'].upper()}"
    return ParseDict({"header": message}, pb.UploadMembersRequest())


def chunk(offset: int, data: bytes) -> pb.UploadMembersRequest:
    """A piece of a file."""
    return pb.UploadMembersRequest(chunk=pb.UploadChunk(offset=offset, data=data, crc32=zlib.crc32(data)))


def trailer(data: bytes) -> pb.UploadMembersRequest:
    """The trailer of a complete file."""
    return pb.UploadMembersRequest(trailer=pb.UploadTrailer(size_bytes=len(data), crc32=zlib.crc32(data)))


def messages(
    head: pb.UploadMembersRequest, data: bytes, start: int = 0, size: int = CHUNK_SIZE
) -> Iterator[pb.UploadMembersRequest]:
    """All messages of a file, from an offset on."""
    yield head
    for offset in range(start, len(data), size):
        yield chunk(offset, data[offset : offset + size])
    yield trailer(data)


class Uploader:
    """Uploads as one client."""

    def __init__(self, client: Client) -> None:
        self._stub = CustomAudienceServiceStub(client.channel)
        self.metadata = client.metadata

    def send(self, requests: Iterator[pb.UploadMembersRequest], timeout: float | None = 40) -> pb.Upload:
        """What a stream of messages is answered with."""
        answer: pb.Upload = self._stub.UploadMembers(requests, metadata=self.metadata, timeout=timeout)
        return answer

    def start(self, requests: Iterator[pb.UploadMembersRequest]) -> Any:
        """The same, not waited for."""
        return self._stub.UploadMembers.future(requests, metadata=self.metadata, timeout=40)

    def upload(self, audience_id: str, data: bytes | str, **fields: Any) -> pb.Upload:
        """Upload a complete file."""
        raw = data.encode() if isinstance(data, str) else data
        return self.send(messages(header(audience_id, **fields), raw))


class StepwiseStream:
    """Messages that are sent as they are put in."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def put(self, *parts: Any) -> None:
        """Send these; None ends the stream."""
        for part in parts:
            self._queue.put(part)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


def emails(*names: str) -> bytes:
    """A file of addresses."""
    return "".join(["email\n", *(f"{name}@example.com\n" for name in names)]).encode()


def unmatched(client: Client, audience_id: str, **request: Any) -> list[tuple[int, list[str]]]:
    """The lines and cells of all unmatched rows; the total must agree."""
    batches = list(client.call("StreamUnmatchedRows", {"audienceId": audience_id, **request}))
    rows = [(row.line, list(row.cells)) for batch in batches for row in batch.rows]
    assert [batch.total_row_count for batch in batches if batch.HasField("total_row_count")] == [
        len(rows)
    ] or "cursor" in request
    return rows
