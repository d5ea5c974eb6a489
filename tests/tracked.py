"""An audience that a test tracks itself, round by round."""

from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.segments.segment import Segment, SegmentType
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.starts import Position, Starts
from audience_service.domain.watches.wanted import Wanted
from audience_service.domain.watches.watch import EVERYTHING, Event, Look, Outlook, Watch
from audience_service.domain.watches.watching import Watching
from tests.conftest import Service

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATELY = {"lastOpened": {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}}


class Tracked:
    """An audience of an org that is tracked by whoever says so."""

    def __init__(self, service: Service, org: str, where: dict[str, Any]) -> None:
        self.service, self.store, self.org = service, service.store, org
        self.audience = f"segment-{org}"
        segment = Segment(self.audience, org, "", SegmentType.DYNAMIC, Filter("contact", where))
        self.store.segments.insert(org, segment, None, NEVER)
        # Leased to the test for good, so that the service's own tracker leaves it alone.
        self.lease = "the test's"
        self.store.watches.propose(org, self.audience, self.lease, NOON + timedelta(days=1_000), NEVER)
        self.claim(self.lease)

    def claim(self, lease: str) -> None:
        """Lease it, whoever holds it."""
        forever = {"lease": lease, "lease_until": datetime(2999, 1, 1, tzinfo=UTC)}
        self.store.database["audience_watch"].update_one({"audience": self.audience}, {"$set": forever})

    def watch(self) -> Watch:
        """How far it is tracked."""
        watch = self.store.watches.get(self.org, self.audience, NEVER)
        assert watch is not None
        return watch

    def round(self, moment: datetime = NOON, look: Look = EVERYTHING, *, lease: str = "", **replaced: Any) -> Outlook:
        """Run a round at a moment, with some repositories replaced."""
        parts = {"watches": self.store.watches, "ledger": self.store.ledger, **replaced}
        audiences = Audiences(self.store.segments, FilterCompiler(["contact"], ["order"]))
        rounds = Rounds(parts["watches"], parts["ledger"], audiences, Bell(), timedelta(days=7), lambda: moment)
        return rounds.run(self.watch(), lease or self.lease, look)

    def events(self) -> list[tuple[str, str]]:
        """What the ledger has."""
        return [(event.flip.change.value, event.flip.pk) for event in self.ledger()]

    def causes(self) -> list[str]:
        """By what."""
        return [event.cause.value for event in self.ledger()]

    def ledger(self) -> list[Event]:
        """The events."""
        return self.store.ledger.read(self.org, self.watch().generation, 0, None, 1_000, NEVER)

    def listen(self, seq: int, checkpoint_seconds: float = 10, snapshot_id: str = "", starts: Any = None) -> Any:
        """Watch from behind an event on, or first what has happened since a snapshot up to it."""
        sealer = TokenSealer(b"key")
        audiences = Audiences(self.store.segments, FilterCompiler(["contact"]))
        wanted = Wanted(self.store.watches, timedelta(days=7), 1_000, lambda: None)
        begun = Starts(starts or self.store.starts, ReadySnapshots(self.store.snapshots, self.store.members))
        watching = Watching(wanted, self.store.ledger, begun, audiences, sealer, checkpoint_seconds, Bell())
        call = Call(Caller("test", self.org, frozenset()), NEVER)
        position = Position(self.watch().generation, seq, snapshot_id)
        token = sealer.seal(("watch", self.org, self.audience), position.as_list())
        return watching.watch(call, self.audience, token)

    def update(self, key: str, **fields: Any) -> None:
        """Change fields of a contact."""
        sk = f"{self.org}/contact/{key}"
        self.store.database["contact"].update_one({"sk": sk}, {"$set": fields})

    def define(self, where: dict[str, Any]) -> None:
        """Edit the segment."""
        change = {"$set": {"data.filter.where": where}, "$inc": {"version": 1}}
        self.store.database["segment"].update_one({"pk": self.audience}, change)
