"""Servers with change streams: scripted ones over the real engine, which has none of its own."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from audience_service.mongo.watch.change_stream import MongoChangeStreams
from tests.conftest import Service, mongo_database, run_service
from tests.contract.test_watch import VIPS, watching
from tests.support.fake_change_stream import ScriptedDatabase, ScriptedStream

POLL = timedelta(seconds=4)
"""How often a server looks by itself."""


@pytest.fixture
def script() -> ScriptedDatabase:
    """The script."""
    return ScriptedDatabase()


@pytest.fixture
def streaming_service(real_service: Service, script: ScriptedDatabase) -> Iterator[Service]:
    """A server on its own empty database, with scripted changes and long polling intervals."""
    with mongo_database() as store:
        scripted: Any = script
        streaming_store = replace(store, open_change_stream=partial(MongoChangeStreams, scripted))
        yield from run_service("mongodb", streaming_store, watch_poll_interval_seconds=POLL.total_seconds())


class FullScanCounter:
    """Counts the full scans of a server, and not those of other servers in this process."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original: Any = service.store.event_log.diff

        def counted(*args: Any) -> Any:
            self.count += 1
            return original(*args)

        monkeypatch.setattr(service.store.event_log, "diff", counted)


def test_streamed_changes_arrive_without_a_full_scan(
    streaming_service: Service, script: ScriptedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = FullScanCounter(streaming_service, monkeypatch)
    client = streaming_service.client("acme")
    streaming_service.insert("acme", [{"id": "a"}, {"id": "b"}])
    with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
        stream = script.next_stream()
        wait_for_full_scan(watcher)
        before = compared.count
        assert before
        for key in "ab":
            change(streaming_service, stream, key, **{"data.tags": "vip"})
            assert watcher.events(1) == [("entered", f"contact-{key}", "data")]
        assert watcher.has_no_events()
        assert compared.count == before


def test_a_segment_edit_is_detected_without_contact_changes(
    streaming_service: Service, script: ScriptedDatabase
) -> None:
    client = streaming_service.client("acme")
    streaming_service.insert("acme", [{"id": "a", "data": {"tags": "lead"}}])
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        script.next_stream()
        wait_for_full_scan(watcher)
        leads = {"datatype": "contact", "where": {"tags": "lead"}}
        client.call("UpdateSegment", {"segment": {"id": segment.id, "filter": leads}, "updateMask": "filter"})
        assert watcher.events(1) == [("entered", "contact-a", "definition")]


def test_full_scans_find_removed_records_and_changes_missed_by_a_broken_stream(
    streaming_service: Service, script: ScriptedDatabase
) -> None:
    client = streaming_service.client("acme")
    streaming_service.insert("acme", [{"id": key, "data": {"tags": "vip"}} for key in "ab"])
    with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
        stream = script.next_stream()
        wait_for_full_scan(watcher)
        contacts = streaming_service.store.database["contact"]
        contacts.delete_one({"sk": "acme/contact/a"})
        stream.emit("delete")
        assert watcher.events(1) == [("exited", "contact-a", "data")]
        contacts.update_one({"sk": "acme/contact/b"}, {"$set": {"state": "deleted"}})
        stream.emit("invalidate")
        assert watcher.events(1) == [("exited", "contact-b", "data")]


def test_a_recently_changed_contact_exits_by_time(streaming_service: Service, script: ScriptedDatabase) -> None:
    """Never too early. The tests of the schedule show that its scan does not wait for a poll."""
    client = streaming_service.client("acme")
    streaming_service.insert("acme", [{"id": key} for key in "abc"])
    month_ago = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
    lately = {"datatype": "contact", "where": {"lastOpened": {"$gte": month_ago}}}
    with watching(client, client.create(name="lately", filter=lately).id) as watcher:
        stream = script.next_stream()
        wait_for_full_scan(watcher)
        for key in "abc":
            timestamp = datetime.now(UTC) + timedelta(seconds=2)
            change(streaming_service, stream, key, **{"data.lastOpened": timestamp - timedelta(days=30)})
            received = watcher.events(2)
            assert received == [("entered", f"contact-{key}", "data"), ("exited", f"contact-{key}", "time")]
            assert datetime.now(UTC) >= timestamp


def change(service: Service, stream: ScriptedStream, key: str, **updated: Any) -> None:
    """Write, and emit the change."""
    service.store.database["contact"].update_one({"sk": f"acme/contact/{key}"}, {"$set": updated})
    stream.emit("update", f"acme/contact/{key}", int(datetime.now(UTC).timestamp()))


def wait_for_full_scan(watcher: Any) -> None:
    """Wait for the full scan that follows a new subscription: two reconciliations from now."""
    for _ in range(2):
        assert watcher.has_no_events()
