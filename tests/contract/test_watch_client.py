"""The automation in docs/how-to/follow-an-audience.md, run unchanged."""

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from audience_service.pb.audience.v1.membership_service_pb2 import ChangeKind
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from tests.conftest import Service
from tests.contract.test_watch import VIPS
from tests.support.client import Client
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("unwatched")

PAGE = Path(__file__).parents[2] / "docs/how-to/follow-an-audience.md"


class State:
    """What the automation keeps."""

    def __init__(self) -> None:
        self.token, self.members = "", set[str]()
        self.start_count = 0

    def begin(self, members: set[str], token: str) -> None:
        """Start with the current members."""
        self.members, self.token = members, token
        self.start_count += 1

    def apply(self, events: Iterable[Any], token: str) -> None:
        """Apply events."""
        for event in events:
            has_entered = event.change == ChangeKind.CHANGE_KIND_ENTERED
            (self.members.add if has_entered else self.members.discard)(event.contact_id)
        self.token = token


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The function of the page."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "def follow" in block]
    (tmp_path / "documented_follow.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("documented_follow")
    monkeypatch.delitem(sys.modules, "documented_follow")
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100)))
    found: Callable[..., None] = module.follow
    return found


@pytest.mark.slow
def test_the_documented_client_resumes_and_restarts_after_its_token_expires(
    service: Service, org: str, client: Client, insert: Callable[..., list[str]], follow: Any
) -> None:
    contacts, watches = service.store.database["contact"], service.store.database["audience_watch"]
    first, second, third = insert([{"id": key, "data": {"tags": ["vip"]}} for key in "abc"])
    segment = client.create(name="vips", filter=VIPS)
    state, ended = State(), list[grpc.StatusCode]()

    def run() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{service.app.port}") as channel:
            stub = MembershipServiceStub(channel)
            watch = partial(stub.WatchMembership, timeout=1)  # and is resumed
            membership = SimpleNamespace(WatchMembership=watch, StreamMembers=stub.StreamMembers)
            try:
                follow(membership, lambda: client.metadata, segment.id, state)
            except grpc.RpcError as error:
                ended.append(error.code())

    thread = Thread(target=run, daemon=True)
    thread.start()
    eventually(lambda: state.members == {first, second, third})
    contacts.update_one({"sk": f"{org}/contact/a"}, {"$set": {"data.tags": []}})
    eventually(lambda: state.members == {second, third})
    long_ago = {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}

    def aged() -> bool:
        """Age the watch repeatedly: another watch may register the audience again meanwhile."""
        watches.update_one({"audience": segment.id}, {"$set": long_ago})
        return state.start_count >= 2

    eventually(aged)
    contacts.update_one({"sk": f"{org}/contact/b"}, {"$set": {"data.tags": []}})
    eventually(lambda: state.members == {third})
    client.call("DeleteSegment", {"id": segment.id})
    thread.join(40)
    assert ended == [grpc.StatusCode.NOT_FOUND]
