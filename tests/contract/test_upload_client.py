"""The client in docs/how-to/upload-a-list.md, run unchanged."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from tests.support.client import Client
from tests.support.uploads import PUBLISHED, emails

PAGE = Path(__file__).parents[2] / "docs/how-to/upload-a-list.md"


class Breaking:
    """A stub whose first few streams break after the given numbers of messages."""

    def __init__(self, stub: Any, *breaks: int) -> None:
        self.GetUpload = stub.GetUpload
        self._send, self._breaks = stub.UploadMembers, list(breaks)
        self.sent: list[int] = []

    def UploadMembers(  # noqa: N802 - as the stub has it
        self, messages: Iterator[Any], metadata: Any
    ) -> Any:
        """Send, or a part of it."""
        parts = list(islice(messages, self._breaks.pop(0)) if self._breaks else messages)
        self.sent.append(sum(part.HasField("chunk") for part in parts))
        return self._send(iter(parts), metadata=metadata)


def test_the_documented_client_resumes_broken_streams(
    client: Client, insert: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "def upload" in block]
    names: dict[str, Any] = {}
    exec(compile(code.replace("2**18", "100"), str(PAGE), "exec"), names)  # noqa: S102 - what the page says
    names["time"] = SimpleNamespace(sleep=lambda _: None)
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 3)
    insert([{"data": {"email": f"{name}@example.com"}} for name in "abcdefghijklmnop"])
    made, data = client.custom(name="list"), emails(*"abcdefghijklmnop")
    stub = Breaking(CustomAudienceServiceStub(client.channel), 1, 3)
    header = pb.UploadHeader(audience_id=made.id, upload_id="spring", mode=pb.UPLOAD_MODE_APPEND)
    done = names["upload"](stub, client.metadata, header, data)
    assert (done.state, done.matched_row_count, done.duplicate_row_count, done.list_size) == (PUBLISHED, 16, 0, 16)
    assert stub.sent[:2] == [0, 2]
    assert 0 < stub.sent[2] < -(-len(data) // 100)
