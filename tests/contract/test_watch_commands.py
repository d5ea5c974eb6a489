"""What a look asks of the database where nothing has happened, on every store."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.segments.segment import Segment, SegmentType
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.held import Pace
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.tracker import Tracker
from audience_service.domain.watches.watch import Changes
from audience_service.mongo.store import Store
from tests.conftest import envelope
from tests.contract.test_watch_leases import NEVER, NOON, want


class Asked:
    """A repository that notes what it is asked."""

    def __init__(self, repository: Any, asked: list[str]) -> None:
        self._repository, self._asked = repository, asked

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            self._asked.append(name)
            return method(*args, **kwargs)

        return ask


class Process:
    """One that tracks an audience, told of changes or not."""

    def __init__(self, store: Store, *, follows: bool) -> None:
        where = {"plan": "paid"}
        segment = Segment("segment-a", "acme", "", SegmentType.DYNAMIC, Filter("contact", where))
        store.segments.insert("acme", segment, None, NEVER)
        want(store, "acme", "segment-a", NOON + timedelta(days=1))
        self.asked: list[str] = []
        self.seconds = 0.0
        self.keys: frozenset[str] = frozenset()
        self._follows = follows
        watches, ledger = (Asked(each, self.asked) for each in (store.watches, store.ledger))
        segments: Any = Asked(store.segments, self.asked)
        audiences = Audiences(segments, FilterCompiler(["contact"]))
        clock = lambda: NOON + timedelta(seconds=self.seconds)  # noqa: E731
        rounds = Rounds(watches, ledger, audiences, Bell(), timedelta(days=7), clock)
        feed: Any = self
        self._tracker = Tracker(watches, rounds, feed, Pace(2), clock, lambda: self.seconds)

    def subscribe(self, org: str, datatype: str) -> Any:
        """Be told of the changes that the test says there are."""
        return SimpleNamespace(
            datatype=datatype,
            follows=self._follows,
            has_news=bool(self.keys),
            is_complete=self._follows,
            take=lambda: Changes(self.keys, self._follows, NOON + timedelta(seconds=self.seconds)),
            close=lambda: None,
        )

    def look(self) -> list[str]:
        """Look when it is due; answers with what was asked."""
        self._tracker.keep()
        self.seconds += 3
        self.asked.clear()
        self._tracker.step()
        return [name for name in self.asked if name != "claim"]


@pytest.mark.parametrize("follows", [False, True])
def test_a_look_that_finds_nothing_asks_no_more_than_it_must(store: Store, *, follows: bool) -> None:
    process = Process(store, follows=follows)
    for _ in range(4):
        process.look()
    compared = [] if follows else ["differences"]
    for _ in range(3):
        assert process.look() == ["read", "get", *compared, "finish"]
    watch = store.watches.get("acme", "segment-a", NEVER)
    assert watch is not None
    assert watch.as_of == NOON + timedelta(seconds=process.seconds)


def test_who_goes_on_from_the_last_look_tells_what_has_happened_and_no_more_than_once(store: Store) -> None:
    process = Process(store, follows=False)
    contacts = store.database["contact"]
    contacts.insert_one(envelope("acme", {"id": "a"}))
    process.look()
    for plan in ("paid", "free", "paid"):
        contacts.update_one({"pk": "contact-a"}, {"$set": {"data.plan": plan}})
        for _ in range(2):
            process.look()
    watch = store.watches.get("acme", "segment-a", NEVER)
    assert watch is not None
    events = store.ledger.read("acme", watch.generation, 0, None, 10, NEVER)
    assert [event.flip.change for event in events] == ["entered", "exited", "entered"]


def test_who_has_lost_the_watch_since_the_last_look_comes_to_know_it(store: Store) -> None:
    process = Process(store, follows=False)
    for _ in range(3):
        process.look()
    store.database["audience_watch"].update_one({"audience": "segment-a"}, {"$set": {"lease": "theirs"}})
    assert process.look()[-1] == "finish"
    assert process.look() == ["renew"]
    assert process.look() == []


def test_a_watch_that_is_wanted_no_more_ends_though_it_is_not_read_before_each_look(store: Store) -> None:
    process = Process(store, follows=False)
    for _ in range(3):
        process.look()
    ended = {"$set": {"wanted_until": NOON + timedelta(seconds=process.seconds + 4)}}
    store.database["audience_watch"].update_one({"audience": "segment-a"}, ended)
    assert process.look()[-1] == "finish"
    assert process.look() == ["end"]
    for _ in range(3):
        process.look()
    assert store.watches.get("acme", "segment-a", NEVER) is None
