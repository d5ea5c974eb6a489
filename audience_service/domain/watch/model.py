"""What the scheduler and the reconciler of a watched audience exchange."""

from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.history.model import Watch


@dataclass(frozen=True, slots=True)
class ChangedKeys:
    """The sks of records that have been written since the last time that somebody asked.

    `complete` is whether there were no others; then up to `complete_at`, if that is known, there are none to come.
    """

    keys: frozenset[str] = frozenset()
    complete: bool = False
    complete_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """When a watch is to be looked at again, if nothing else calls for it.

    Up to `looked_at` whatever time has moved has been found. At `next_passage` time may next move somebody; None where
    it moves nobody. `unforeseen` is whether time may move people at moments that cannot be told in advance. `follows`
    is the datatype whose changes alone move people; "" where others do, too. `seq` is the last event that the look knew
    of: where others have come behind it, the next one looks at everything. `watch` is as the look has left it, where it
    ended well: the next one may go on from there.
    """

    evaluated_at: datetime
    next_trigger: datetime | None = None
    time_unpredictable: bool = False
    change_stream_datatype: str = ""
    last_seq: int = 0
    search_seconds: float = 0.0
    """How long the look searched for whom to judge."""
    watch: Watch | None = None


@dataclass(frozen=True, slots=True)
class ScanScope:
    """What a round looks at: everything, or the records that changed, and those whom time may have moved since."""

    changes: ChangedKeys = ChangedKeys()
    last_result: ReconcileResult | None = None
    """What came of the look before, None to look at everything."""


FULL_SCAN = ScanScope()
