"""Permits: what one org may have, who is next, and what a cancelled call leaves."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import OutOfTime, TooManyCalls
from audience_service.rpc import permits
from audience_service.rpc.calls import CancelEvent
from audience_service.rpc.permits import PermitPool, RequestBytes, Shares
from tests.support.waiting import eventually


class Calls:
    """Calls in threads of their own. They end when the test ends them."""

    def __init__(self, pool: PermitPool) -> None:
        self.pool = pool
        self.started: list[str] = []
        """The names of the calls, in the order in which they got their permits."""
        self.failed: dict[str, Exception] = {}
        self.ended: set[str] = set()
        self.cancel_events: dict[str, CancelEvent] = {}
        self._end_events: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, org: str, subject: str = "ann", deadline_seconds: float = 60, size: int = 0) -> None:
        """Start a call, and wait until it runs, waits or has failed."""
        before = self._known()
        self.cancel_events[name], self._end_events[name] = CancelEvent(), threading.Event()
        deadline = Deadline.after(deadline_seconds, self.cancel_events[name])
        ctx = RequestContext(Caller(subject, org, frozenset()), deadline)
        self._threads.append(threading.Thread(target=self._run, args=(name, ctx, size)))
        self._threads[-1].start()
        eventually(lambda: self._known() > before)

    def end(self, name: str) -> None:
        """End a call that runs, and wait until it has returned its permit."""
        self._end_events[name].set()
        eventually(lambda: name in self.ended)

    def _known(self) -> int:
        return len(self.started) + len(self.failed) + self.pool.waiting_count

    def _run(self, name: str, ctx: RequestContext, size: int) -> None:
        try:
            with self.pool.acquire(ctx, size):
                self.started.append(name)
                self._end_events[name].wait(60)
        except (OutOfTime, TooManyCalls) as error:
            self.failed[name] = error
        self.ended.add(name)

    def close(self) -> None:
        """End all."""
        for name, event in self._end_events.items():
            event.set()
            self.cancel_events[name].set()
        for thread in self._threads:
            thread.join(40)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def calls_of(
    stack: ExitStack, permit_count: int, org_share: float = 0.5, caller_share: float = 1.0, max_large_bytes: int = 1_000
) -> Calls:
    shares = Shares(org_share, caller_share)
    waiting = RequestBytes(100, shares, max_request_bytes=10)
    calls = Calls(PermitPool(permit_count, shares, waiting, max_large_bytes=max_large_bytes))
    stack.callback(calls.close)
    return calls


def test_an_org_uses_no_more_than_its_share(stack: ExitStack) -> None:
    """The rest stays free for other orgs."""
    calls = calls_of(stack, permit_count=4)
    for name in ("a1", "a2", "a3", "b1"):
        calls.start(name, org=name[0])
    assert calls.started == ["a1", "a2", "b1"]
    calls.end("a2")
    eventually(lambda: calls.started[3:] == ["a3"])


def test_a_caller_uses_no_more_than_its_share_in_all_orgs(stack: ExitStack) -> None:
    """It cannot evade the limit with another org."""
    calls = calls_of(stack, permit_count=4, org_share=1.0, caller_share=0.5)
    for name in ("a1", "b1", "c1"):
        calls.start(name, org=name[0], subject="ann")
    calls.start("d1", org="d", subject="bob")
    assert calls.started == ["a1", "b1", "d1"]
    calls.end("a1")
    eventually(lambda: calls.started[3:] == ["c1"])


def test_orgs_take_turns(stack: ExitStack) -> None:
    """An org with many waiting calls does not delay the next org by more than one of them."""
    calls = calls_of(stack, permit_count=1, org_share=1.0)
    for name in ("a1", "a2", "a3", "b1", "c1"):
        calls.start(name, org=name[0])
    for number, name in enumerate(["a1", "a2", "b1", "c1", "a3"], start=1):
        eventually(lambda number=number: len(calls.started) == number)  # type: ignore[misc]
        assert calls.started[-1] == name
        calls.end(name)
    assert calls.pool.running_count == 0


def test_a_late_call_lets_others_of_its_org_overtake_it(stack: ExitStack) -> None:
    """Calls that run out of time together would else occupy permits in turn, and none would end in time."""
    calls = calls_of(stack, permit_count=1, org_share=1.0)
    for name in ("a1", "a2", "a3", "a4"):
        calls.start(name, org="a")
    for waiter in [*calls.pool._queues["a"]][:2]:
        waiter.late_at = 0.0  # half of its time has passed
    for number, name in enumerate(["a1", "a4", "a3", "a2"], start=1):
        eventually(lambda number=number: len(calls.started) == number)  # type: ignore[misc]
        assert calls.started[-1] == name
        calls.end(name)


def test_more_waiting_calls_of_an_org_are_refused(stack: ExitStack) -> None:
    """Those of other orgs still wait."""
    calls = calls_of(stack, permit_count=1)
    for number in range(5):  # one runs, four wait: half of the eight that may
        calls.start(f"a{number}", org="a")
    calls.start("refused", org="a")
    error = calls.failed["refused"]
    assert isinstance(error, TooManyCalls)
    assert error.metadata == {"limit": "4", "limited": "org"}
    calls.start("b", org="b")
    assert calls.pool.waiting_count == 5


def test_waiting_requests_are_limited_in_bytes(stack: ExitStack) -> None:
    """By org and in all; a request that leaves makes room, and one of any size may wait alone."""
    calls = calls_of(stack, permit_count=1)
    for name, size in (("a1", 90), ("a2", 30), ("a3", 20), ("a4", 1), ("b1", 50), ("c1", 1)):
        calls.start(name, org=name[0], size=size)
    found = {name: dict(error.metadata) for name, error in calls.failed.items() if isinstance(error, TooManyCalls)}
    assert found == {
        "a4": {"limit": "50", "limited": "org", "unit": "bytes"},
        "c1": {"limit": "100", "limited": "server", "unit": "bytes"},
    }
    assert calls.failed["a4"].retry_after_seconds  # type: ignore[attr-defined]
    calls.cancel_events["a2"].set()
    eventually(lambda: "a2" in calls.failed)
    calls.start("a5", org="a", size=30)
    assert calls.pool.waiting_count == 3


def test_large_requests_of_an_org_run_one_after_another(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permits are free meanwhile: small requests use them, and so do the large ones of other orgs."""
    monkeypatch.setattr(permits, "_LARGE_REQUEST_BYTES", 5)
    calls = calls_of(stack, permit_count=8, max_large_bytes=20)
    for name, size in (("a1", 10), ("a2", 6), ("a3", 5), ("b1", 10), ("c1", 6), ("a4", 4)):
        calls.start(name, org=name[0], size=size)
    assert calls.started == ["a1", "a3", "b1", "a4"]
    calls.end("b1")
    eventually(lambda: calls.started[4:] == ["c1"])
    calls.end("a1")
    eventually(lambda: calls.started[5:] == ["a2"])


def test_a_large_request_that_ends_makes_room_for_several(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permit stays free while a call waits that may have it."""
    monkeypatch.setattr(permits, "_LARGE_REQUEST_BYTES", 2)
    calls = calls_of(stack, permit_count=8, max_large_bytes=20)
    for name, size in (("a1", 10), ("a2", 5), ("a3", 5)):
        calls.start(name, org="a", size=size)
    assert calls.started == ["a1"]
    calls.end("a1")
    eventually(lambda: sorted(calls.started[1:]) == ["a2", "a3"])


def test_shares_leave_room_for_one_request_to_wait(stack: ExitStack) -> None:
    """Of the largest size, also if the shares come to less."""
    calls = calls_of(stack, permit_count=1, org_share=0.05)
    calls.start("a1", org="a")
    calls.start("b1", org="b", size=10)
    calls.start("b2", org="c", size=11)
    assert set(calls.failed) == {"b2"}


def test_a_cancelled_call_leaves_the_queue_at_once(stack: ExitStack) -> None:
    """Its place goes to another call, long before the deadline."""
    calls = calls_of(stack, permit_count=1, org_share=1.0)
    calls.start("runs", org="a")
    calls.start("waits", org="a")
    calls.cancel_events["waits"].set()
    eventually(lambda: "waits" in calls.failed)
    assert calls.pool.waiting_count == 0


def test_a_call_waits_no_longer_than_its_deadline(stack: ExitStack) -> None:
    """It is then OUT_OF_TIME, and the queue is empty."""
    calls = calls_of(stack, permit_count=1, org_share=1.0)
    calls.start("runs", org="a")
    calls.start("waits", org="a", deadline_seconds=0.05)
    eventually(lambda: isinstance(calls.failed.get("waits"), OutOfTime))
    assert calls.pool.waiting_count == 0


def test_a_cancelled_call_occupies_its_permit_until_its_thread_ends(stack: ExitStack) -> None:
    """The database still works for it."""
    calls = calls_of(stack, permit_count=1, org_share=1.0)
    calls.start("runs", org="a")
    calls.start("waits", org="a")
    calls.cancel_events["runs"].set()
    assert calls.started == ["runs"]
    calls.end("runs")
    eventually(lambda: calls.started == ["runs", "waits"])
