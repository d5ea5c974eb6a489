"""The database commands of a scan without changes, on every store."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.segments.model import Segment, SegmentType
from audience_service.domain.watch.model import ChangedKeys
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.domain.watch.schedule import PollingConfig
from audience_service.domain.watch.scheduler import WatchScheduler
from audience_service.mongo.store import Store
from tests.conftest import envelope
from tests.contract.test_watch_leases import NEVER, NOON, add_watch
from tests.support.audiences import segment_resolver


class CallRecorder:
    """A repository that records the calls of its methods."""

    def __init__(self, repository: Any, calls: list[str]) -> None:
        self._repository, self._calls = repository, calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls.append(name)
            return method(*args, **kwargs)

        return call


class Process:
    """A process that tracks an audience, with or without a change stream."""

    def __init__(self, store: Store, *, is_streaming: bool) -> None:
        where = {"plan": "paid"}
        segment = Segment("segment-a", "acme", "", SegmentType.DYNAMIC, Filter("contact", where))
        store.segments.insert("acme", segment, None, NEVER)
        add_watch(store, "acme", "segment-a", NOON + timedelta(days=1))
        self.calls: list[str] = []
        self.seconds = 0.0
        self.keys: frozenset[str] = frozenset()
        self._is_streaming = is_streaming
        watches, event_log = (CallRecorder(each, self.calls) for each in (store.watches, store.event_log))
        segments: Any = CallRecorder(store.segments, self.calls)
        audiences = segment_resolver(segments, FilterCompiler(["contact"]))
        clock = lambda: NOON + timedelta(seconds=self.seconds)  # noqa: E731
        reconciler = Reconciler(watches, event_log, audiences, Notifier(), timedelta(days=7), clock)
        change_stream: Any = self
        self._scheduler = WatchScheduler(
            watches, reconciler, change_stream, PollingConfig(2), clock, lambda: self.seconds
        )

    def subscribe(self, org: str, datatype: str) -> Any:
        """Receive the changes that the test defines."""
        return SimpleNamespace(
            datatype=datatype,
            is_streaming=self._is_streaming,
            has_pending=bool(self.keys),
            is_complete=self._is_streaming,
            drain=lambda: ChangedKeys(self.keys, self._is_streaming, NOON + timedelta(seconds=self.seconds)),
            close=lambda: None,
        )

    def scan(self) -> list[str]:
        """Scan if it is due, and return the recorded calls."""
        self._scheduler.renew_leases()
        self.seconds += 3
        self.calls.clear()
        self._scheduler.step()
        return [name for name in self.calls if name != "acquire"]


@pytest.mark.parametrize("follows", [False, True])
def test_a_scan_without_changes_sends_the_fewest_commands(store: Store, *, follows: bool) -> None:
    process = Process(store, is_streaming=follows)
    for _ in range(4):
        process.scan()
    compared = [] if follows else ["diff"]
    for _ in range(3):
        assert process.scan() == ["read", "get_many", *compared, "advance_watermark"]
    watch = store.watches.get("acme", "segment-a", NEVER)
    assert watch is not None
    assert watch.watermark == NOON + timedelta(seconds=process.seconds)


def test_a_scan_from_the_last_result_appends_each_event_once(store: Store) -> None:
    process = Process(store, is_streaming=False)
    contacts = store.database["contact"]
    contacts.insert_one(envelope("acme", {"id": "a"}))
    process.scan()
    for plan in ("paid", "free", "paid"):
        contacts.update_one({"pk": "contact-a"}, {"$set": {"data.plan": plan}})
        for _ in range(2):
            process.scan()
    watch = store.watches.get("acme", "segment-a", NEVER)
    assert watch is not None
    events = store.event_log.read("acme", watch.watch_epoch, 0, None, 10, NEVER)
    assert [event.change.kind for event in events] == ["entered", "exited", "entered"]


def test_a_process_detects_a_lost_lease(store: Store) -> None:
    process = Process(store, is_streaming=False)
    for _ in range(3):
        process.scan()
    store.database["audience_watch"].update_one({"audience": "segment-a"}, {"$set": {"lease": "theirs"}})
    assert process.scan()[-1] == "advance_watermark"
    assert process.scan() == ["renew"]
    assert process.scan() == []


def test_an_expired_watch_closes_without_a_read_before_each_scan(store: Store) -> None:
    process = Process(store, is_streaming=False)
    for _ in range(3):
        process.scan()
    ended = {"$set": {"expires_at": NOON + timedelta(seconds=process.seconds + 4)}}
    store.database["audience_watch"].update_one({"audience": "segment-a"}, ended)
    assert process.scan()[-1] == "advance_watermark"
    assert process.scan() == ["close_epoch"]
    for _ in range(3):
        process.scan()
    assert store.watches.get("acme", "segment-a", NEVER) is None
