"""Uploads whose database fails at any step, or whose client falls silent: resumed, they are exact."""

import itertools
import uuid
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from audience_service.domain.core.context import Caller, RequestContext
from audience_service.domain.core.erased import NobodyErased
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.custom_audiences.errors import UploadNotFound
from audience_service.domain.uploads.model import Upload, UploadHeader, UploadMode
from audience_service.domain.uploads.processor import UploadStorage
from audience_service.domain.uploads.publisher import Publisher
from audience_service.domain.uploads.service import Uploads
from audience_service.domain.uploads.stream_messages import Chunk, Trailer, UploadMessage
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store
from tests.conftest import URI, Service, run_service
from tests.support.client import Client, Refusal
from tests.support.lists import NO_DEADLINE, publish
from tests.support.proxy import Proxy, run_mongo_service
from tests.support.uploads import StepwiseStream, Uploader, chunk, emails, header, messages, trailer, unmatched
from tests.support.waiting import eventually

Insert = Callable[..., list[str]]
DATA = emails("a", "b", "nobody", "b", "none at all", "c", "noone")
EXPECTED_COUNTS = (7, 6, 3, 1, 2, 3)


class Steps:
    """Repositories of which one call, whichever it is, is done and not answered."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, repository: Any) -> Any:
        """The repository, each of whose calls is a step."""
        return _Stepping(repository, self)

    @property
    def has_failed(self) -> bool:
        """Whether the call has come."""
        return self._left <= 0

    def step(self, call: Callable[[], Any]) -> Any:
        """One call."""
        self._left -= 1
        answer = call()
        if self._left == 0:
            raise StoreUnavailable("gone")
        return answer


class _Stepping:
    def __init__(self, repository: Any, steps: Steps) -> None:
        self._repository, self._steps = repository, steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)
        return lambda *args, **kwargs: self._steps.step(lambda: method(*args, **kwargs))


def use_cases(store: Store, stepping: Callable[[Any], Any] = lambda repository: repository) -> Uploads:
    """Uploads on a store, whose repositories may fail."""
    kept = store.upload_storage
    custom_audiences = stepping(store.custom_audiences)
    repositories = (kept.uploads, kept.unmatched, kept.lists, kept.rejected)
    storage = UploadStorage(*map(stepping, repositories))
    publisher = Publisher(custom_audiences, storage, max_shrink_share=0.5)
    return Uploads(
        custom_audiences, storage, stepping(store.identifiers), publisher, TokenCodec(b"key"), b"secret", NobodyErased()
    )


def parts(audience_id: str, mode: str, start: int) -> Iterator[UploadMessage]:
    """The file from an offset on."""
    yield UploadHeader(audience_id, "first", UploadMode(mode))
    yield Chunk(start, DATA[start:], zlib.crc32(DATA[start:]))
    yield Trailer(len(DATA), zlib.crc32(DATA))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "left"), [("append", ["a", "b", "c", "z"]), ("remove", ["z"]), ("replace", ["a", "b", "c"])]
)
def test_an_upload_resumes_exactly_after_a_database_failure_at_any_step(
    service: Service,
    client: Client,
    org: str,
    insert: Insert,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    left: list[str],
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 3)
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in "abcz"])
    ctx = RequestContext(Caller("tester", org, frozenset()), NO_DEADLINE)
    well = use_cases(service.store)
    for at in itertools.count(1):
        made = client.custom(name=uuid.uuid4().hex).id
        publish(service.store, org, made, ["contact-a", "contact-z"])
        steps = Steps(at)
        done = _resume_upload(ctx, use_cases(service.store, steps), well, made, mode)
        assert counts_of(done) == ("published", *EXPECTED_COUNTS, len(left)), at
        assert client.members(audienceId=made) == [f"contact-{name}" for name in left], at
        assert client.call("GetCustomAudience", {"id": made}).version == 2
        lines = [line for line, _ in unmatched(client, made)]
        assert lines == [4, 8], at
        if not steps.has_failed:
            assert at > 15
            return


def _resume_upload(ctx: RequestContext, failing: Uploads, well: Uploads, audience_id: str, mode: str) -> Upload:
    """The upload, once it is published: sent again from where it is, as a client does."""
    try:
        return failing.receive(ctx, parts(audience_id, mode, 0))
    except StoreUnavailable:
        try:
            start = well.get(ctx, audience_id, "first").position.offset
        except UploadNotFound:
            start = 0
        return well.receive(ctx, parts(audience_id, mode, start))


def counts_of(upload: Upload) -> tuple[Any, ...]:
    """The counts of an upload."""
    row_counts = upload.row_counts
    counts = (
        row_counts.rows,
        row_counts.accepted,
        row_counts.matched,
        row_counts.duplicate,
        row_counts.unmatched,
        row_counts.matched_contacts,
    )
    return (upload.state, *counts, upload.list_size)


def test_a_database_outage_is_unavailable_and_the_upload_resumes(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 100)
    org, count = "uploadoutage", 1_000
    names = [f"p{number:03}" for number in range(count)]
    real_service.insert(org, [{"id": name, "data": {"email": f"{name}@example.com"}} for name in names])
    client, data, slow = real_service.client(org), emails(*names, "nobody", names[0]), StepwiseStream()
    made, half = client.custom(name="list").id, len(emails(*names)) // 2
    at = urlsplit(URI)
    proxy = Proxy(at.hostname or "127.0.0.1", at.port or 27017)
    uri = f"mongodb://127.0.0.1:{proxy.port}/?serverSelectionTimeoutMS=300"
    with run_mongo_service(uri, real_service.store.database.name) as service:
        slow.put(header(made), chunk(0, data[:half]))
        call = Uploader(service.client(org)).start(iter(slow))
        request = {"audienceId": made, "uploadId": "first"}
        uploads = real_service.store.database["audience_upload"]
        eventually(lambda: bool(uploads.count_documents({"audience": made, "position.offset": {"$gt": 0}})))
        proxy.disconnect()
        slow.put(chunk(half, data[half:]), trailer(data), None)
        refusal = Refusal(call.exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert refusal.retry_seconds
        eventually(lambda: service.open_stream_count == 0)
    start = client.call("GetUpload", request).next_offset
    assert 0 < start < len(data)
    assert client.members(audienceId=made) == []
    done = Uploader(client).send(messages(header(made), data, start))
    counts = (done.row_count, done.matched_row_count, done.duplicate_row_count, done.unmatched_row_count)
    assert counts == (
        count + 2,
        count,
        1,
        1,
    )
    assert client.members(audienceId=made) == [f"contact-{name}" for name in names]


@pytest.mark.slow
def test_an_idle_client_is_disconnected_and_can_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 2)
    for service in run_service("embedded", embedded_store([], ("contact",)), stream_send_timeout_seconds=1):
        client = service.client("idle")
        made, data, slow = client.custom(name="list").id, emails(*"abcde"), StepwiseStream()
        slow.put(header(made), chunk(0, data[:-1]))
        call = Uploader(client).start(iter(slow))
        is_stored = partial(
            service.store.database["audience_upload"].count_documents, {"audience": made, "position.offset": {"$gt": 0}}
        )
        eventually(lambda is_stored=is_stored: bool(is_stored()))  # type: ignore[misc]

        refusal = Refusal(call.exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("DEADLINE_EXCEEDED", "CLIENT_TIMEOUT")
        slow.put(None)
        eventually(lambda service=service: service.open_stream_count == 0)  # type: ignore[misc]
        start = client.call("GetUpload", {"audienceId": made, "uploadId": "first"}).next_offset
        assert start in range(len(data))
        assert Uploader(client).send(messages(header(made), data, start)).unmatched_row_count == 5
