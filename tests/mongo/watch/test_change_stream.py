"""The change stream on scripted streams: which changes reach which subscribers, and when they are incomplete."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from audience_service.domain.watch.model import ChangedKeys
from audience_service.mongo.watch.change_stream import MongoChangeStreams
from tests.conftest import Service
from tests.support.fake_change_stream import ScriptedDatabase, ScriptedStream
from tests.support.waiting import eventually

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MakeChangeStream = Callable[..., MongoChangeStreams]


@pytest.fixture
def streams() -> Iterator[MakeChangeStream]:
    """Feeds on databases, closed in the end."""
    made: list[MongoChangeStreams] = []

    def make(database: Any, **limits: Any) -> MongoChangeStreams:
        made.append(MongoChangeStreams(database, lambda: None, lambda: NOON, retry_seconds=0.01, **limits))
        return made[-1]

    yield make
    for feed in made:
        feed.close()


def test_each_org_receives_its_own_changes_and_starts_incomplete(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase()
    feed = streams(database)
    ours, theirs = feed.subscribe("acme", "contact"), feed.subscribe("acme2", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    assert ours.is_streaming
    assert (ours.has_pending, ours.is_complete, ours.drain().is_complete) == (True, False, False)
    assert not ours.has_pending
    for operation, sk in (("insert", "acme/contact/a"), ("update", "acme2/contact/b"), ("replace", "acme/contact/c")):
        stream.emit(operation, sk)
    stream.wait_until_drained()
    taken, written = ours.drain(), frozenset(("acme/contact/a", "acme/contact/c"))
    assert taken == ChangedKeys(written, is_complete=True, complete_at=taken.complete_at)
    assert theirs.drain().keys == {"acme2/contact/b"}
    assert (ours.drain().keys, ours.has_pending) == (frozenset(), False)


def test_one_stream_per_datatype_reads_keys_only(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase()
    feed = streams(database)
    for org in ("acme", "umbrella"):
        feed.subscribe(org, "contact")
    database.next_stream()
    [(name, stages, options)] = database.watch_calls
    assert name == "contact"
    assert stages[0]["$project"].keys() == {"operationType", "clusterTime", "documentKey.sk", "fullDocument.sk"}
    assert options["full_document"] == "updateLookup"


@pytest.mark.parametrize(
    ("operation", "sk"), [("delete", None), ("update", None), ("drop", None), ("rename", None), ("invalidate", None)]
)
def test_a_change_without_an_sk_makes_the_changes_incomplete(
    streams: MakeChangeStream, operation: str, sk: str | None
) -> None:
    database = ScriptedDatabase()
    subscription = streams(database).subscribe("acme", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    subscription.drain()
    assert subscription.is_complete
    stream.emit(operation, sk)
    eventually(lambda: not subscription.is_complete)
    assert not subscription.drain().is_complete


@pytest.mark.parametrize(
    "error", [AutoReconnect("gone"), OperationFailure("history lost", 286), ValueError("a defect")]
)
def test_a_broken_stream_reopens_as_incomplete(streams: MakeChangeStream, error: Any) -> None:
    database = ScriptedDatabase()
    subscription = streams(database).subscribe("acme", "contact")
    first = database.next_stream()
    first.wait_until_drained()
    subscription.drain()
    first.fail(error)
    second = database.next_stream()
    second.wait_until_drained()
    assert (subscription.is_streaming, subscription.has_pending, subscription.drain().is_complete) == (
        True,
        True,
        False,
    )
    second.emit("insert", "acme/contact/a")
    second.wait_until_drained()
    taken = subscription.drain()
    assert taken == ChangedKeys(frozenset(("acme/contact/a",)), is_complete=True, complete_at=taken.complete_at)


def test_a_deployment_that_loses_change_streams_is_no_longer_followed(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase()
    feed = streams(database)
    subscription = feed.subscribe("acme", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    subscription.drain()
    refusal = OperationFailure("only on replica sets", 40573)
    database.failures = [refusal] * 100
    stream.fail(refusal)
    eventually(lambda: not feed.is_reading("contact"))
    assert (subscription.is_streaming, subscription.drain().is_complete) == (False, False)


def test_a_refused_open_is_tried_again(streams: MakeChangeStream) -> None:
    """One refusal must not switch change streams off for good."""
    database = ScriptedDatabase()
    database.failures = [OperationFailure("only on replica sets", 40573)]
    feed = streams(database)
    subscription = feed.subscribe("acme", "contact")
    database.next_stream().wait_until_drained()
    assert database.failures == []
    assert (subscription.is_streaming, feed.is_reading("contact")) == (True, True)
    assert [subscription.drain().is_complete for _ in range(2)] == [False, True]


def test_changes_are_incomplete_while_the_stream_is_closed(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase()
    database.is_away = True
    subscription = streams(database).subscribe("acme", "contact")
    eventually(lambda: len(database.watch_calls) > 1)
    assert (subscription.drain().is_complete, subscription.drain().is_complete) == (False, False)
    database.is_away = False
    database.next_stream().wait_until_drained()
    assert [subscription.drain().is_complete for _ in range(2)] == [False, True]


def test_complete_at_is_the_last_change_or_the_last_empty_poll(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase()
    feed = streams(database)
    subscription = feed.subscribe("acme", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    subscription.drain()
    assert subscription.drain().complete_at == NOON
    later = datetime(2026, 3, 1, 13, 30, 15, tzinfo=UTC)
    stream.is_blocking = True
    stream.emit("insert", "umbrella/contact/a", int(later.timestamp()))
    eventually(lambda: subscription.drain().complete_at == later)
    stream.is_blocking = False
    eventually(lambda: subscription.drain().complete_at == NOON)


def test_complete_at_is_when_the_poll_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timestamps, released = [NOON], threading.Event()

    def wait(_: ScriptedStream) -> None:
        if len(timestamps) > 1:
            released.wait(40)
        timestamps.append(NOON + timedelta(minutes=1))

    monkeypatch.setattr(ScriptedStream, "try_next", wait)
    database: Any = ScriptedDatabase()
    feed = MongoChangeStreams(database, lambda: None, lambda: timestamps[-1])
    subscription = feed.subscribe("acme", "contact")
    eventually(lambda: subscription.drain().complete_at is not None)
    assert subscription.drain().complete_at == NOON
    released.set()
    feed.close()


def test_an_empty_poll_of_a_sharded_cluster_proves_nothing(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase(is_mongos=True)
    subscription = streams(database).subscribe("acme", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    subscription.drain()
    assert subscription.drain() == ChangedKeys(is_complete=True, complete_at=None)
    stream.emit("insert", "umbrella/contact/a", int(NOON.timestamp()))
    stream.wait_until_drained()
    assert subscription.drain().complete_at == NOON


def test_a_reopened_stream_forgets_complete_at(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase(is_mongos=True)
    subscription = streams(database).subscribe("acme", "contact")
    first = database.next_stream()
    first.emit("insert", "umbrella/contact/a", int(NOON.timestamp()))
    first.wait_until_drained()
    subscription.drain()
    assert subscription.drain().complete_at == NOON
    first.fail(AutoReconnect("gone"))
    database.next_stream().wait_until_drained()
    subscription.drain()
    assert subscription.drain() == ChangedKeys(is_complete=True, complete_at=None)


def test_only_an_idle_subscriber_of_the_org_is_woken() -> None:
    database, notified = ScriptedDatabase(), []
    any_database: Any = database
    feed = MongoChangeStreams(any_database, lambda: notified.append(1))
    subscription = feed.subscribe("acme", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    subscription.drain()
    before = len(notified)
    for key in "abc":
        stream.emit("update", f"umbrella/contact/{key}")
    stream.wait_until_drained()
    assert len(notified) == before
    for key in "abc":
        stream.emit("update", f"acme/contact/{key}")
    stream.wait_until_drained()
    assert len(notified) == before + 1
    for _ in range(3):
        stream.emit("delete")
    stream.wait_until_drained()
    assert len(notified) == before + 2
    feed.close()


def test_too_many_changes_are_reported_as_incomplete(streams: MakeChangeStream) -> None:
    database = ScriptedDatabase()
    subscription = streams(database, max_keys=3).subscribe("acme", "contact")
    stream = database.next_stream()
    stream.wait_until_drained()
    subscription.drain()
    for key in "abcd":
        stream.emit("insert", f"acme/contact/{key}")
    stream.wait_until_drained()
    taken = subscription.drain()
    assert (taken.keys, taken.is_complete) == (frozenset(), False)


def test_a_deployment_without_change_streams_is_not_followed(real_service: Service, streams: MakeChangeStream) -> None:
    feed = streams(real_service.store.database)
    subscription = feed.subscribe("acme", "contact")
    eventually(lambda: not feed.is_reading("contact"))
    assert not subscription.is_streaming
    assert not subscription.drain().is_complete
