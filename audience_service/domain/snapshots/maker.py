"""Making snapshots, on threads of the maker's own: a call that ends early does not end the making.

An attempt is held by a lease, which one thread renews for all that are being made here. Where the process dies, the
lease runs out, and the attempt can be taken over or is marked FAILED (mongo/snapshot_sweep.py).
"""

import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from audience_service.domain.audiences.populations import Choice
from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import AudienceError, OutOfTime, StoreUnavailable, TooManySnapshots
from audience_service.domain.snapshots.ports import FrozenRepository, Lease, SnapshotRepository
from audience_service.domain.snapshots.snapshot import (
    COPYING_PROGRESS,
    COUNTING_PROGRESS,
    READY_PROGRESS,
    Snapshot,
    SnapshotState,
)

_WRITE_SECONDS = 30.0
_BEAT_SECONDS = 3.0
_PAUSE_SECONDS = 0.5
_DROP_SECONDS = 300.0
_BEATS_PER_LEASE = 4
_TURNS = 16

_log = structlog.get_logger()

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class MakingRules:
    """How snapshots are made: so many at once, each within so many seconds, and given up when silent for so many."""

    at_once: int = 4
    timeout_seconds: float = 3600.0
    lease_seconds: float = 30.0

    @property
    def most(self) -> int:
        """How many may be made or wait for their turn in one process: their leases are renewed one after another."""
        return self.at_once * _TURNS


@dataclass(frozen=True, slots=True)
class _Making:
    org: str
    snapshot: Snapshot


class SnapshotMaker:
    """Makes the snapshots of one process."""

    def __init__(self, snapshots: SnapshotRepository, rows: FrozenRepository, rules: MakingRules) -> None:
        self._snapshots = snapshots
        self._rows = rows
        self._rules = rules
        self._owner = secrets.token_hex(8)
        self._pool = ThreadPoolExecutor(rules.at_once, thread_name_prefix="snapshot")
        self._makings: dict[str, _Making] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def check_room(self) -> None:
        """Raise TooManySnapshots where as many are made here, or wait for their turn, as may."""
        if len(self._makings) >= self._rules.most:
            most = self._rules.most
            raise TooManySnapshots(f"{most} snapshots are being made already", metadata={"limit": str(most)})

    def lease(self) -> Lease:
        """A lease from now on, for an attempt that will be started here."""
        return Lease(self._owner, now() + timedelta(seconds=self._rules.lease_seconds))

    def busy_until(self) -> datetime:
        """When the commands that make snapshots now will have ended, here or in another process."""
        return now() + timedelta(seconds=self._rules.timeout_seconds)

    def start(self, org: str, snapshot: Snapshot, choice: Choice) -> None:
        """Make an attempt that is stored with a lease of this maker. Returns at once."""
        with self._lock:
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="snapshot-leases", daemon=True)
                self._heart.start()
            done = self._pool.submit(self._make, org, snapshot, choice)
            self._makings[snapshot.rows_id] = _Making(org, snapshot)
        done.add_done_callback(lambda _: self._makings.pop(snapshot.rows_id, None))

    def close(self) -> None:
        """Give up all that is being made, so that others can take it over at once."""
        self._closed.set()
        given_up = tuple(self._makings.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for making in given_up:
            failed = replace(
                making.snapshot, state=SnapshotState.FAILED, failure="the service that made it was stopped"
            )
            with suppress(AudienceError):
                self._snapshots.fail(making.org, failed, self.busy_until(), Deadline.after(_BEAT_SECONDS))

    def _make(self, org: str, snapshot: Snapshot, choice: Choice) -> None:
        try:
            copying = replace(snapshot, progress=COPYING_PROGRESS)
            if not self._written(lambda until: self._snapshots.renew(org, copying, self.lease(), until)):
                return  # it has waited for its turn too long, and is somebody else's
            frozen = self._rows.freeze(
                org,
                snapshot,
                choice.candidates,
                choice.reasons,
                Deadline.after(self._rules.timeout_seconds),
                lambda: self._report_counting(org, snapshot),
            )
            made = replace(
                snapshot,
                state=SnapshotState.READY,
                progress=READY_PROGRESS,
                count=frozen.count,
                digest=frozen.digest,
                exclusions=frozen.exclusions,
                read_at=frozen.read_at,
                one_instant=frozen.one_instant,
            )
            if not self._written(lambda until: self._snapshots.finish(org, made, until)):
                # Given up, taken over or deleted meanwhile: nothing refers to these rows.
                self._rows.drop(org, snapshot.rows_id, Deadline.after(_DROP_SECONDS))
        except OutOfTime:
            limit = self._rules.timeout_seconds
            self._fail(org, snapshot, f"it took longer than the {limit:g} seconds that a snapshot may take")
        except AudienceError as error:
            self._fail(org, snapshot, str(error))
        except Exception as error:
            incident = uuid.uuid4().hex[:8]
            _log.error("snapshot failed", snapshot=snapshot.id, incident=incident, exc_info=error)
            self._fail(org, snapshot, f"internal error; the log has incident {incident}")

    def _report_counting(self, org: str, snapshot: Snapshot) -> None:
        """Store the progress if the database is available; the creation goes on without it."""
        counting = replace(snapshot, progress=COUNTING_PROGRESS)
        with suppress(AudienceError):
            self._snapshots.renew(org, counting, self.lease(), Deadline.after(_BEAT_SECONDS))

    def _fail(self, org: str, snapshot: Snapshot, why: str) -> None:
        """Say so, if the database can be reached; else the lease runs out."""
        failed = replace(snapshot, state=SnapshotState.FAILED, failure=why)
        with suppress(AudienceError):
            self._written(lambda until: self._snapshots.fail(org, failed, self.busy_until(), until))

    def _written(self, write: Callable[[Deadline], Answer]) -> Answer:
        """What a write to the manifest answers, tried again for as long as a lease lasts while the database is away.

        What has been frozen is not to be lost by an election. Each write can be done twice.
        """
        last = time.monotonic() + self._rules.lease_seconds
        while True:
            try:
                return write(Deadline.after(_WRITE_SECONDS))
            except StoreUnavailable:
                if time.monotonic() > last or self._closed.wait(_PAUSE_SECONDS):
                    raise

    def _beat(self) -> None:
        while not self._closed.wait(self._rules.lease_seconds / _BEATS_PER_LEASE):
            for making in tuple(self._makings.values()):
                try:
                    self._snapshots.renew(making.org, making.snapshot, self.lease(), Deadline.after(_BEAT_SECONDS))
                except AudienceError:
                    pass  # the next beat will do
                except Exception as error:  # one lease must not end the others'
                    _log.error("a lease was not renewed", snapshot=making.snapshot.id, exc_info=error)
