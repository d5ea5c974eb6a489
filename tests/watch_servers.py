"""Servers that track a world, each in a thread that goes on from one command to the database to the next, as is said.

A server may stand still before any command while another takes over; it may be killed before, after and in the midst
of a command, or be told that the connection broke.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pymongo.errors import AutoReconnect, BulkWriteError

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.held import Pace
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.tracker import Tracker
from audience_service.mongo.ledger import MongoLedger
from audience_service.mongo.segments import MongoSegments
from audience_service.mongo.watches import MongoWatches
from tests.watch_world import World


class Killed(BaseException):
    """The process is gone."""


class Refuted(BaseException):
    """What the tracker did is wrong; no error that it could take for one of its own."""


class Baton:
    """Lets a tracker's thread go on by one command at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._fate = ""
        self.stands_at = ""
        self.kills = 0

    def grant(self, fate: str = "") -> None:
        """Let the command run at which the tracker stands, with what becomes of it, until it stands at the next."""
        self._fate = fate
        self._go.release()
        self.await_stand()

    def await_stand(self) -> None:
        """Wait until the tracker stands at a command."""
        assert self._stands.acquire(timeout=20), "a tracker hangs"

    def run(self, name: str, operation: Callable[..., Any], arguments: Any) -> Any:
        """Run a command as the fate has it."""
        self.stands_at = name
        self._stands.release()
        self._go.acquire()
        fate = self._fate
        if fate in ("stop", "kill before"):
            raise Killed(fate)
        if fate == "break before":
            raise AutoReconnect("broken")
        answer = self._checked(name, operation, arguments, cut=fate == "kill midst")
        if fate.startswith("kill"):
            raise Killed(fate)
        if fate == "break after":
            raise AutoReconnect("broken")
        return answer

    def _checked(self, name: str, operation: Callable[..., Any], arguments: Any, *, cut: bool) -> Any:
        if name != "insert_many":
            return operation()
        try:
            return self._insert(operation, *arguments, cut=cut)
        except AssertionError as error:
            raise Refuted from error

    def _insert(self, operation: Callable[..., Any], rows: Any, *, cut: bool) -> Any:
        if cut:
            del rows[(len(rows) + 1) // 2 :]
        try:
            answer = operation()
        except BulkWriteError as error:
            self._world.inserted(rows[: error.details["nInserted"]])
            raise
        self._world.inserted(rows)
        return answer

    def stopped(self, thread: threading.Thread) -> None:
        """End the tracker's thread."""
        self._fate = "stop"
        self._go.release()
        thread.join(20)


class Gated:
    """A database, or a collection of it, whose commands wait for the baton."""

    READS = ("find", "find_one", "aggregate")
    WRITES = (
        "insert_many",
        "bulk_write",
        "update_one",
        "update_many",
        "delete_one",
        "delete_many",
        "find_one_and_update",
    )

    def __init__(self, inner: Any, baton: Baton) -> None:
        self._inner, self._baton = inner, baton

    def __getitem__(self, name: str) -> "Gated":
        return Gated(self._inner[name], self._baton)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in (*self.READS, *self.WRITES):
            return found

        def command(*args: Any, **kwargs: Any) -> Any:
            return self._baton.run(name, lambda: found(*args, **kwargs), args)

        return command


class Server:
    """A process that tracks, in a thread; killed, it begins anew."""

    def __init__(self, world: World) -> None:
        self.baton = Baton(world)
        self._world = world
        self._database: Any = Gated(world.database, self.baton)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()
        self.baton.await_stand()

    def grant(self, fate: str = "") -> None:
        self.baton.grant(fate)
        if self.error:
            raise self.error

    def _live(self) -> None:
        while self.error is None:
            try:
                tracker = self._tracker()
                while True:
                    with suppress(StoreUnavailable):
                        tracker.step()
            except Killed as killed:
                if str(killed) == "stop":
                    return
                self.baton.kills += 1
            except BaseException as error:
                self.error = error
                self.baton.run("", lambda: None, ())

    def _tracker(self) -> Tracker:
        watches, ledger = MongoWatches(self._database), MongoLedger(self._database)
        audiences = Audiences(MongoSegments(self._database), FilterCompiler(["contact"]))
        rounds = Rounds(watches, ledger, audiences, Bell(), timedelta(days=100_000), lambda: self._world.clock)
        ticks = iter(range(0, 10**9, 2))  # every look at the watch takes two seconds, so that all is due soon
        clock = lambda: self._world.clock  # noqa: E731
        return Tracker(watches, rounds, self._world.feed, Pace(0), clock, lambda: float(next(ticks)))
