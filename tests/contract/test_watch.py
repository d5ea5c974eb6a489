"""What WatchMembership promises, on every store."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.watch.notifier import Notifier
from audience_service.mongo.embedded.store import embedded_store
from tests.conftest import Service, mongo_database, run_service
from tests.support.client import Client, Refusal
from tests.support.events import described
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("unwatched")

VIPS: dict[str, Any] = {"datatype": "contact", "where": {"tags": "vip"}}
NEVER = Deadline(None)
Insert = Callable[..., list[str]]


class Watcher:
    """A watch of an audience: the messages as they come, and the last token received."""

    def __init__(self, client: Client, audience_id: str, token: str = "") -> None:
        self.call = client.call("WatchMembership", {"audienceId": audience_id, "resumeToken": token}, timeout=50)
        self._messages: Iterator[Any] = iter(self.call)
        self._received: list[Any] = []
        self.token = token
        first = self.next()
        assert token or not first.events, "the first message of a new watch is a checkpoint"

    def next(self) -> Any:
        """The next message."""
        message = next(self._messages)
        self.token = message.resume_token
        self._received += message.events
        return message

    def unread_events(self) -> list[tuple[str, str, str]]:
        """The received events that `events` has not returned yet."""
        return self.events(len(self._received))

    def events(self, count: int) -> list[tuple[str, str, str]]:
        """The next so many events."""
        while len(self._received) < count:
            self.next()
        found, self._received = self._received[:count], self._received[count:]
        return [described(event) for event in found]

    def has_no_events(self) -> bool:
        """Whether no unread event arrives up to a watermark after this call."""
        asked_at = datetime.now(UTC)
        while not (message := self.next()).HasField("watermark") or message.watermark.ToDatetime(UTC) < asked_at:
            pass
        return not self._received


@contextmanager
def watching(client: Client, audience_id: str, token: str = "") -> Iterator[Watcher]:
    """A watcher that goes away in the end."""
    watcher = Watcher(client, audience_id, token)
    try:
        yield watcher
    finally:
        watcher.call.cancel()


@pytest.fixture
def update(service: Service, org: str) -> Callable[..., None]:
    """Change fields of a contact."""

    def change(key: str, **fields: Any) -> None:
        service.store.database["contact"].update_one({"sk": f"{org}/contact/{key}"}, {"$set": fields})

    return change


@pytest.mark.slow
def test_a_watch_sends_entries_and_exits_but_not_existing_members(
    client: Client, insert: Insert, update: Callable[..., None]
) -> None:
    insert([{"id": "a", "data": {"tags": ["vip"]}}, {"id": "b"}])
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        update("b", **{"data.tags": ["vip"]})
        assert watcher.events(1) == [("entered", "contact-b", "data")]
        update("a", state="deleted")
        assert watcher.events(1) == [("exited", "contact-a", "data")]
        insert([{"id": "c", "data": {"tags": ["vip"]}}])
        assert watcher.events(1) == [("entered", "contact-c", "data")]
        assert watcher.has_no_events()


def test_idle_watches_read_their_state_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one query, however many there are. An event that another process has found still arrives."""
    reads: list[str] = []
    store = embedded_store([], ("contact",))
    with contextmanager(run_service)("embedded", store, watch_heartbeat_seconds=30) as service:
        acme, globex = service.client("acme"), service.client("globex")
        ids = [client.create(name="vips", filter=VIPS).id for client in (acme, globex)]
        with watching(acme, ids[0]) as first, watching(acme, ids[0]), watching(globex, ids[1]) as other:
            watches = type(service.store.watches)
            for name in ("get", "states"):
                original: Any = getattr(watches, name)

                def read(store: Any, *args: Any, name: str = name, original: Any = original) -> Any:
                    reads.append(name)
                    return original(store, *args)

                monkeypatch.setattr(watches, name, read)
            monkeypatch.setattr(Notifier, "notify", lambda *_: None)  # as if another process had the leases
            eventually(lambda: reads.count("states") >= 4)
            assert "get" not in reads
            for client_org, watcher in (("acme", first), ("globex", other)):
                [contact_id] = service.insert(client_org, [{"data": {"tags": ["vip"]}}])
                assert watcher.events(1) == [("entered", contact_id, "data")]


def test_a_removed_record_exits(service: Service, org: str, client: Client, insert: Insert) -> None:
    insert([{"id": "a", "data": {"tags": ["vip"]}}])
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        service.store.database["contact"].delete_one({"sk": f"{org}/contact/a"})
        assert watcher.events(1) == [("exited", "contact-a", "data")]


def test_a_resumed_watch_receives_the_events_in_between(
    client: Client, insert: Insert, update: Callable[..., None]
) -> None:
    insert([{"id": "a"}, {"id": "b"}])
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        token = watcher.token
    update("a", **{"data.tags": ["vip"]})
    with watching(client, segment.id, token) as watcher:
        assert watcher.events(1) == [("entered", "contact-a", "data")]
        later = watcher.token
        update("b", **{"data.tags": ["vip"]})
        assert watcher.events(1) == [("entered", "contact-b", "data")]
    with watching(client, segment.id, later) as again, watching(client, segment.id, token) as from_the_first:
        assert again.events(1) == [("entered", "contact-b", "data")]
        both = [("entered", "contact-a", "data"), ("entered", "contact-b", "data")]
        assert from_the_first.events(2) == both


def test_a_segment_edit_sends_events_with_the_definition_cause(client: Client, insert: Insert) -> None:
    insert([{"id": "a", "data": {"tags": ["vip"]}}, {"id": "b", "data": {"tags": ["lead"]}}])
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        leads = {"datatype": "contact", "where": {"tags": "lead"}}
        client.call("UpdateSegment", {"segment": {"id": segment.id, "filter": leads}, "updateMask": "filter"})
        received = watcher.events(2)
        assert sorted(received) == [("entered", "contact-b", "definition"), ("exited", "contact-a", "definition")]
        insert([{"id": "c", "data": {"tags": ["lead"]}}])
        assert watcher.events(1) == [("entered", "contact-c", "data")]


def test_an_edit_of_a_referenced_audience_has_the_definition_cause(client: Client, insert: Insert) -> None:
    insert([{"id": "a", "data": {"tags": ["vip"]}}])
    inner = client.create(name="inner", filter={"datatype": "contact", "where": {"tags": "nobody"}})
    outer = client.create(name="outer", filter={"datatype": "contact", "where": {"$inAudience": inner.id}})
    with watching(client, outer.id) as watcher:
        client.call("UpdateSegment", {"segment": {"id": inner.id, "filter": VIPS}, "updateMask": "filter"})
        assert watcher.events(1) == [("entered", "contact-a", "definition")]


def test_a_time_trigger_sends_an_exit_without_a_poll(real_service: Service) -> None:
    """Never too early, and long before the next poll, which is an hour away."""
    with mongo_database() as store:
        for service in run_service("mongodb", store, watch_poll_interval_seconds=3_600):
            client = service.client("clock")
            now = datetime.now(UTC)
            timestamps = {key: now + timedelta(seconds=seconds) for key, seconds in (("a", 4), ("b", 5), ("c", 6))}
            month = timedelta(days=30)
            service.insert("clock", [{"id": key, "data": {"lastOpened": at - month}} for key, at in timestamps.items()])
            month_ago = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
            lately = {"datatype": "contact", "where": {"lastOpened": {"$gte": month_ago}}}
            with watching(client, client.create(name="lately", filter=lately).id) as watcher:
                for key, timestamp in timestamps.items():
                    assert watcher.events(1) == [("exited", f"contact-{key}", "time")]
                    assert datetime.now(UTC) >= timestamp


def test_a_static_segment_can_be_watched(client: Client, insert: Insert, update: Callable[..., None]) -> None:
    ids = insert([{"id": "a"}, {"id": "b"}])
    segment = client.create(name="list", type="static", contactIds=ids[:1])
    with watching(client, segment.id) as watcher:
        client.call("AddSegmentContacts", {"id": segment.id, "contactIds": ids})
        assert watcher.events(1) == [("entered", "contact-b", "data")]
        client.call("RemoveSegmentContacts", {"id": segment.id, "contactIds": ids[:1]})
        assert watcher.events(1) == [("exited", "contact-a", "data")]
        update("b", state="archived")
        assert watcher.events(1) == [("exited", "contact-b", "data")]


def test_many_events_are_split_into_several_messages(real_service: Service) -> None:
    client = real_service.client("crowd")
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        many = [{"id": f"{number:04}", "data": {"tags": ["vip"]}} for number in range(2_100)]
        ids = real_service.insert("crowd", many)
        assert sorted(pk for _, pk, _ in watcher.events(2_100)) == ids
        assert watcher.has_no_events()


@pytest.mark.slow
def test_the_org_sees_no_other_orgs_contacts(
    service: Service, org: str, client: Client, insert: Insert, refused: Callable[..., Refusal]
) -> None:
    segment = client.create(name="vips", filter=VIPS)
    other = service.client(f"{org}2")
    refusal = refused(lambda: other.call("WatchMembership", {"audienceId": segment.id}))
    assert refusal.info.reason == "AUDIENCE_NOT_FOUND"
    with watching(client, segment.id) as watcher:
        service.insert(f"{org}2", [{"id": "theirs", "data": {"tags": ["vip"]}}])
        insert([{"id": "ours", "data": {"tags": ["vip"]}}])
        assert watcher.events(1) == [("entered", "contact-ours", "data")]
        assert watcher.has_no_events()


@pytest.mark.slow
def test_a_segment_deleted_while_watched_ends_the_stream(client: Client, refused: Callable[..., Refusal]) -> None:
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        client.call("DeleteSegment", {"id": segment.id})
        refusal = refused(lambda: [watcher.next() for _ in range(1_000)])
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
        token = watcher.token
    client.call("UndeleteSegment", {"id": segment.id})
    with watching(client, segment.id, token) as watcher:
        assert watcher.has_no_events()


def test_a_segment_that_cannot_be_run_any_more_ends_the_stream(
    service: Service, client: Client, refused: Callable[..., Refusal]
) -> None:
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        broken = {"$set": {"data.filter.where": {"tags": {"$near": 1}}}}
        service.store.database["segment"].update_one({"pk": segment.id}, broken)
        refusal = refused(lambda: [watcher.next() for _ in range(1_000)])
        assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "UNUSABLE_AUDIENCE")


def test_a_token_of_another_audience_is_refused(client: Client, refused: Callable[..., Refusal]) -> None:
    first, second = (client.create(name=name, filter=VIPS) for name in ("first", "second"))
    with watching(client, first.id) as watcher:
        request = {"audienceId": second.id, "resumeToken": watcher.token}
        refusal = refused(lambda: client.call("WatchMembership", request))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ["resume_token"])


def test_a_token_from_before_tracking_ended_is_out_of_range(
    service: Service, org: str, client: Client, refused: Callable[..., Refusal]
) -> None:
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        token = watcher.token
    watches = service.store.database["audience_watch"]
    watches.update_one({"audience": segment.id}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    eventually(lambda: watches.find_one({"audience": segment.id}) is None)
    ended = service.store.database["audience_member_state"].count_documents({"sk": {"$regex": f"^{org}/"}})
    assert ended == 0
    request = {"audienceId": segment.id, "resumeToken": token}
    refusal = refused(lambda: client.call("WatchMembership", request))
    assert (refusal.code.name, refusal.info.reason) == ("OUT_OF_RANGE", "WATCH_TOKEN_EXPIRED")
    assert "had no watch" in refusal.info.metadata["cause"]
    with watching(client, segment.id) as watcher:
        assert watcher.token != token


def test_a_cancelled_watch_frees_its_stream_slot(service: Service, client: Client) -> None:
    segment = client.create(name="vips", filter=VIPS)
    eventually(lambda: service.open_stream_count == 0)
    with watching(client, segment.id):
        assert service.open_stream_count == 1
    eventually(lambda: service.open_stream_count == 0)


def test_watches_beyond_the_orgs_share_are_refused(
    service: Service, org: str, client: Client, refused: Callable[..., Refusal]
) -> None:
    segment = client.create(name="vips", filter=VIPS)
    eventually(lambda: service.open_stream_count == 0)
    with ExitStack() as listening:
        for _ in range(service.settings.max_watch_streams // 2):
            listening.enter_context(watching(client, segment.id))
        refusal = refused(lambda: client.call("WatchMembership", {"audienceId": segment.id}))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
        assert refusal.info.metadata["limited"] == "org"
        other = service.client(f"{org}2")
        with watching(other, other.create(name="vips", filter=VIPS).id):
            assert service.open_stream_count > service.settings.max_watch_streams // 2


@pytest.mark.slow
def test_a_watch_from_a_snapshot_sends_the_changes_since(
    client: Client, insert: Insert, update: Callable[..., None]
) -> None:
    insert([{"id": "stays", "data": {"tags": "vip"}}, {"id": "leaves", "data": {"tags": "vip"}}, {"id": "comes"}])
    segment = client.create(name="vips", filter=VIPS)
    snapshot = client.snapshot(audienceId=segment.id)
    with watching(client, segment.id) as watcher:
        update("comes", **{"data.tags": "vip"})
        assert watcher.events(1) == [("entered", "contact-comes", "data")]
        update("leaves", **{"data.tags": "lead"})
        assert watcher.events(1) == [("exited", "contact-leaves", "data")]
    stream = client.call("WatchMembership", {"audienceId": segment.id, "sinceSnapshotId": snapshot.id})
    received: list[tuple[str, str, str]] = []
    while len(received) < 2:
        message = next(stream)
        received += [described(event) for event in message.events]
    stream.cancel()
    assert received == [("entered", "contact-comes", "snapshot"), ("exited", "contact-leaves", "snapshot")]
    with watching(client, segment.id, message.resume_token) as watcher:
        update("leaves", **{"data.tags": "vip"})
        assert watcher.events(1) == [("entered", "contact-leaves", "data")]
        assert watcher.has_no_events()


def test_an_unsuitable_snapshot_start_is_refused(client: Client, refused: Callable[..., Refusal]) -> None:
    segment = client.create(name="vips", filter=VIPS)
    leads = client.snapshot(filter={"datatype": "lead", "where": {}})
    with watching(client, segment.id) as watcher:
        token = watcher.token
    for request, reason in (
        ({"sinceSnapshotId": "snapshot-none"}, "SNAPSHOT_NOT_FOUND"),
        ({"sinceSnapshotId": leads.id}, "INVALID_FIELD"),
        ({"sinceSnapshotId": leads.id, "resumeToken": token}, "INVALID_FIELD"),
    ):
        refusal = refused(lambda request=request: client.call("WatchMembership", {"audienceId": segment.id, **request}))
        assert refusal.info.reason == reason
        assert refusal.fields == (["since_snapshot_id"] if reason == "INVALID_FIELD" else [])
