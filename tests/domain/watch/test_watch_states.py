"""Streams of one process share the reads of their watches."""

import threading
from collections.abc import Collection, Mapping
from types import SimpleNamespace

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.history.model import WatchState
from audience_service.domain.watch import watch_states
from audience_service.domain.watch.watch_states import WatchKey, WatchStates
from tests.support.tokens import Clock
from tests.support.waiting import eventually

A, B = ("acme", "segment-a"), ("globex", "segment-b")
FOREVER = Deadline(None)


class Reads:
    """Counts the reads, each of which finds one event more."""

    def __init__(self) -> None:
        self.keys: list[Collection[WatchKey]] = []
        self.failure: Exception | None = None

    def __call__(self, keys: Collection[WatchKey], deadline: Deadline) -> Mapping[WatchKey, WatchState]:
        self.keys.append(keys)
        if self.failure:
            raise self.failure
        return {key: WatchState("epoch", len(self.keys), None) for key in keys}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch_states, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_one_read_serves_every_stream(clock: Clock) -> None:
    """Until it is older than a stream's interval."""
    reads = Reads()
    states = WatchStates(reads, lambda: (A, B))
    for expected in (1, 2):
        found = [states.get(key, FOREVER) for key in (A, B, A, ("acme", "segment-new"))]
        assert found == [*[WatchState("epoch", expected, None)] * 3, None]
        clock.now += 0.25
    assert reads.keys == [(A, B)] * 2


def test_a_read_that_fails_is_repeated_by_the_next_stream(clock: Clock) -> None:
    """Each stream hears of an outage, as if it had read by itself."""
    reads = Reads()
    states = WatchStates(reads, lambda: (A, B))
    reads.failure = StoreUnavailable("away")
    for key in (A, B):
        with pytest.raises(StoreUnavailable):
            states.get(key, FOREVER)
    reads.failure = None
    assert states.get(A, FOREVER) == WatchState("epoch", 3, None)


def test_no_stream_waits_for_the_read_of_another() -> None:
    """It compares with the last states meanwhile."""
    resume, reading = threading.Event(), threading.Event()

    def read(keys: Collection[WatchKey], deadline: Deadline) -> Mapping[WatchKey, WatchState]:
        reading.set()
        resume.wait(40)
        return {A: WatchState("epoch", 1, None)}

    states = WatchStates(read, lambda: (A,))
    reader = threading.Thread(target=states.get, args=(A, FOREVER))
    reader.start()
    eventually(reading.is_set)
    assert states.get(A, FOREVER) is None
    resume.set()
    reader.join(40)
    assert states.get(A, FOREVER) == WatchState("epoch", 1, None)
