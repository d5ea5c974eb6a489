"""An audience that a test tracks itself, round by round."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.history.model import Event, Watch
from audience_service.domain.segments.model import Segment, SegmentType
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.watch.model import FULL_SCAN, ReconcileResult, ScanScope
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.domain.watch.snapshot_start import SnapshotBootstrap, StreamPosition
from audience_service.domain.watch.stream import WatchStreams
from tests.conftest import Service
from tests.support.audiences import segment_resolver

NO_DEADLINE = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPENED_RECENTLY = {"lastOpened": {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}}


class WatchHarness:
    """An audience of an org that any test process can track."""

    def __init__(self, service: Service, org: str, where: dict[str, Any]) -> None:
        self.service, self.store, self.org = service, service.store, org
        self.audience_id = f"segment-{org}"
        segment = Segment(self.audience_id, org, "", SegmentType.DYNAMIC, Filter("contact", where))
        self.store.segments.insert(org, segment, None, NO_DEADLINE)
        # Leased to the test for good, so that the service's own tracker leaves it alone.
        self.lease = "the test's"
        self.store.watches.create_provisional(
            org, self.audience_id, self.lease, NOON + timedelta(days=1_000), NO_DEADLINE
        )
        self.lease_to(self.lease)

    def lease_to(self, lease: str) -> None:
        """Lease the watch to a process, whichever process has it now."""
        fields = {"lease": lease, "lease_until": datetime(2999, 1, 1, tzinfo=UTC)}
        self.store.database["audience_watch"].update_one({"audience": self.audience_id}, {"$set": fields})

    def watch(self) -> Watch:
        """How far it is tracked."""
        watch = self.store.watches.get(self.org, self.audience_id, NO_DEADLINE)
        assert watch is not None
        return watch

    def reconcile(
        self, timestamp: datetime = NOON, scope: ScanScope = FULL_SCAN, *, lease: str = "", **repositories: Any
    ) -> ReconcileResult:
        """Reconcile at a timestamp, with some repositories replaced."""
        parts = {"watches": self.store.watches, "event_log": self.store.event_log, **repositories}
        audiences = segment_resolver(self.store.segments, FilterCompiler(["contact"], ["order"]))
        reconciler = Reconciler(
            parts["watches"], parts["event_log"], audiences, Notifier(), timedelta(days=7), lambda: timestamp
        )
        return reconciler.run(self.watch(), lease or self.lease, scope)

    def events(self) -> list[tuple[str, str]]:
        """The event log's stored events."""
        return [(event.change.kind.value, event.change.pk) for event in self.event_log()]

    def causes(self) -> list[str]:
        """By what."""
        return [event.cause.value for event in self.event_log()]

    def event_log(self) -> list[Event]:
        """The events."""
        return self.store.event_log.read(self.org, self.watch().watch_epoch, 0, None, 1_000, NO_DEADLINE)

    def stream(self, seq: int, heartbeat_seconds: float = 10, snapshot_id: str = "", snapshot_diff: Any = None) -> Any:
        """Stream the events after one, or first the changes since a snapshot up to it."""
        tokens = TokenCodec(b"key")
        audiences = segment_resolver(self.store.segments, FilterCompiler(["contact"]))
        registry = WatchRegistry(self.store.watches, timedelta(days=7), 1_000, lambda: None)
        bootstrap = SnapshotBootstrap(
            snapshot_diff or self.store.history, SnapshotReader(self.store.snapshots, self.store.members)
        )
        streams = WatchStreams(
            registry, self.store.event_log, bootstrap, audiences, tokens, heartbeat_seconds, Notifier()
        )
        ctx = RequestContext(Caller("test", self.org, frozenset()), NO_DEADLINE)
        position = StreamPosition(self.watch().watch_epoch, seq, snapshot_id)
        token = tokens.encode(("watch", self.org, self.audience_id), position.as_list())
        return streams.watch(ctx, self.audience_id, token)

    def update(self, key: str, **fields: Any) -> None:
        """Change fields of a contact."""
        sk = f"{self.org}/contact/{key}"
        self.store.database["contact"].update_one({"sk": sk}, {"$set": fields})

    def define(self, where: dict[str, Any]) -> None:
        """Edit the segment."""
        change = {"$set": {"data.filter.where": where}, "$inc": {"version": 1}}
        self.store.database["segment"].update_one({"pk": self.audience_id}, change)


TrackAudience = Callable[[dict[str, Any]], WatchHarness]
"""Make an audience of the test's org from its filter."""
