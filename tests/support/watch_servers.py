"""Servers that track a world, each in a thread that runs one database command at a time when the test allows it.

A server may pause before any command while another takes over. It may be killed before, after and during a command, or
get a connection error.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pymongo.errors import AutoReconnect, BulkWriteError

from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.domain.watch.schedule import PollingConfig
from audience_service.domain.watch.scheduler import WatchScheduler
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.segments.repository import MongoSegments
from audience_service.mongo.watch.event_log import MongoEventLog
from audience_service.mongo.watch.registry import MongoWatches
from tests.support.audiences import segment_resolver
from tests.support.watch_world import World


class Killed(BaseException):
    """The process was killed."""


class InvariantViolated(BaseException):
    """What the tracker did is wrong; no error that it could take for one of its own."""


class Handoff:
    """Lets a tracker's thread go on by one command at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._resume, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._fate = ""
        self.paused_at = ""
        self.kills = 0

    def grant(self, fate: str = "") -> None:
        """Let the paused command run with a given fate, until the tracker pauses at the next one."""
        self._fate = fate
        self._resume.release()
        self.wait_until_paused()

    def wait_until_paused(self) -> None:
        """Wait until the tracker pauses at a command."""
        assert self._paused.acquire(timeout=40), "a tracker hangs"

    def run(self, name: str, operation: Callable[..., Any], arguments: Any) -> Any:
        """Run a command as the fate has it."""
        self.paused_at = name
        self._paused.release()
        self._resume.acquire()
        fate = self._fate
        if fate in ("stop", "kill before"):
            raise Killed(fate)
        if fate == "break before":
            raise AutoReconnect("broken")
        answer = self._checked(name, operation, arguments, cut=fate == "kill during")
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
            raise InvariantViolated from error

    def _insert(self, operation: Callable[..., Any], rows: Any, *, cut: bool) -> Any:
        if cut:
            del rows[(len(rows) + 1) // 2 :]
        try:
            answer = operation()
        except BulkWriteError as error:
            self._world.check_inserted(rows[: error.details["nInserted"]])
            raise
        self._world.check_inserted(rows)
        return answer

    def stop(self, thread: threading.Thread) -> None:
        """End the tracker's thread."""
        self._fate = "stop"
        self._resume.release()
        thread.join(40)


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

    def __init__(self, inner: Any, handoff: Handoff) -> None:
        self._inner, self._handoff = inner, handoff

    def __getitem__(self, name: str) -> "Gated":
        return Gated(self._inner[name], self._handoff)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in (*self.READS, *self.WRITES):
            return found

        def command(*args: Any, **kwargs: Any) -> Any:
            return self._handoff.run(name, lambda: found(*args, **kwargs), args)

        return command


class Server:
    """A process that tracks, in a thread; after a kill it starts again."""

    def __init__(self, world: World) -> None:
        self.handoff = Handoff(world)
        self._world = world
        self._database: Any = Gated(world.database, self.handoff)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.handoff.wait_until_paused()

    def grant(self, fate: str = "") -> None:
        self.handoff.grant(fate)
        if self.error:
            raise self.error

    def _run(self) -> None:
        while self.error is None:
            try:
                scheduler = self._scheduler()
                while True:
                    with suppress(StoreUnavailable):
                        scheduler.step()
            except Killed as killed:
                if str(killed) == "stop":
                    return
                self.handoff.kills += 1
            except BaseException as error:
                self.error = error
                self.handoff.run("", lambda: None, ())

    def _scheduler(self) -> WatchScheduler:
        watches, event_log = MongoWatches(self._database, TenantScope()), MongoEventLog(self._database, TenantScope())
        audiences = segment_resolver(MongoSegments(self._database, TenantScope()), FilterCompiler(["contact"]))
        reconciler = Reconciler(
            watches, event_log, audiences, Notifier(), timedelta(days=100_000), lambda: self._world.clock
        )
        seconds = iter(range(0, 10**9, 2))  # every look at the watch takes two seconds, so that all is due soon
        clock = lambda: self._world.clock  # noqa: E731
        return WatchScheduler(
            watches, reconciler, self._world.change_stream, PollingConfig(0), clock, lambda: float(next(seconds))
        )
