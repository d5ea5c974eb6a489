"""Servers that are told of changes: by scripted streams over the real engine, which has none of its own."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from audience_service.mongo.changes import MongoChanges
from tests.conftest import Service, mongo_database, run_service
from tests.contract.test_watch import VIPS, watching
from tests.scripted import ScriptedDatabase, ScriptedStream

POLL = timedelta(seconds=4)
"""How often a server looks by itself. What comes much sooner was not found by that."""


@pytest.fixture
def script() -> ScriptedDatabase:
    """The script."""
    return ScriptedDatabase()


@pytest.fixture
def followed(real_service: Service, script: ScriptedDatabase) -> Iterator[Service]:
    """A server on an empty database of its own, told of changes by the script, with nothing else to go by for long."""
    with mongo_database() as store:
        scripted: Any = script
        told = replace(store, changes=partial(MongoChanges, scripted))
        yield from run_service("mongodb", told, watch_poll_seconds=POLL.total_seconds())


class Compared:
    """Counts the looks at everything that a server takes."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        kind = type(service.store.ledger)
        original: Any = kind.differences

        def counted(*args: Any) -> Any:
            self.count += 1
            return original(*args)

        monkeypatch.setattr(kind, "differences", counted)


def test_changes_are_told_as_they_come_and_nothing_is_compared_for_them(
    followed: Service, script: ScriptedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = Compared(followed, monkeypatch)
    client = followed.client("acme")
    followed.insert("acme", [{"id": "a"}, {"id": "b"}])
    with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
        stream = script.opened()
        settled(watcher)
        before = compared.count
        for key in "ab":
            change(followed, stream, key, **{"data.tags": "vip"})
            asked = datetime.now(UTC)
            assert watcher.events(1) == [("entered", f"contact-{key}", "data")]
            assert datetime.now(UTC) - asked < POLL * 2 / 3
        assert watcher.is_told_nothing()
        assert compared.count == before


def test_an_edit_of_the_segment_is_noticed_though_no_contact_changes(
    followed: Service, script: ScriptedDatabase
) -> None:
    client = followed.client("acme")
    followed.insert("acme", [{"id": "a", "data": {"tags": "lead"}}])
    segment = client.create(name="vips", filter=VIPS)
    with watching(client, segment.id) as watcher:
        script.opened()
        settled(watcher)
        leads = {"datatype": "contact", "where": {"tags": "lead"}}
        client.call("UpdateSegment", {"segment": {"id": segment.id, "filter": leads}, "updateMask": "filter"})
        assert watcher.events(1) == [("entered", "contact-a", "definition")]


def test_a_removed_record_and_whatever_a_broken_stream_missed_are_found_by_comparing(
    followed: Service, script: ScriptedDatabase
) -> None:
    client = followed.client("acme")
    followed.insert("acme", [{"id": key, "data": {"tags": "vip"}} for key in "ab"])
    with watching(client, client.create(name="vips", filter=VIPS).id) as watcher:
        stream = script.opened()
        settled(watcher)
        contacts = followed.store.database["contact"]
        contacts.delete_one({"sk": "acme/contact/a"})
        stream.tell("delete")
        assert watcher.events(1) == [("exited", "contact-a", "data")]
        contacts.update_one({"sk": "acme/contact/b"}, {"$set": {"state": "deleted"}})
        stream.tell("invalidate")
        assert watcher.events(1) == [("exited", "contact-b", "data")]


def test_time_moves_those_who_changed_a_moment_ago(followed: Service, script: ScriptedDatabase) -> None:
    """A busy machine may delay one of three contacts for longer than a second. A defect delays all of them."""
    client = followed.client("acme")
    followed.insert("acme", [{"id": key} for key in "abc"])
    month_ago = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}
    lately = {"datatype": "contact", "where": {"lastOpened": {"$gte": month_ago}}}
    with watching(client, client.create(name="lately", filter=lately).id) as watcher:
        stream = script.opened()
        settled(watcher)
        late = []
        for key in "abc":
            moment = datetime.now(UTC) + timedelta(seconds=2)
            change(followed, stream, key, **{"data.lastOpened": moment - timedelta(days=30)})
            told = watcher.events(2)
            assert told == [("entered", f"contact-{key}", "data"), ("exited", f"contact-{key}", "time")]
            late.append(datetime.now(UTC) - moment)
        assert timedelta() <= min(late) < timedelta(seconds=1)


def change(service: Service, stream: ScriptedStream, key: str, **updated: Any) -> None:
    """Write, and tell of it."""
    service.store.database["contact"].update_one({"sk": f"acme/contact/{key}"}, {"$set": updated})
    stream.tell("update", f"acme/contact/{key}", int(datetime.now(UTC).timestamp()))


def settled(watcher: Any) -> None:
    """Wait for the look at everything that follows on being told of changes: two rounds from now."""
    for _ in range(2):
        assert watcher.is_told_nothing()
