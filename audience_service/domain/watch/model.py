"""Values that the scheduler and the reconciler of a watch exchange."""

from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.history.model import Watch


@dataclass(frozen=True, slots=True)
class ChangedKeys:
    """The sks of the records that were written since the previous `Subscription.drain`."""

    keys: frozenset[str] = frozenset()
    is_complete: bool = False
    """Whether `keys` are all records that were written; if not, only a full scan finds the others."""
    complete_at: datetime | None = None
    """If `complete`: no write before this time is still to come. None if that time is unknown."""


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """The result of a reconciliation, from which the next one can continue with an incremental scan."""

    evaluated_at: datetime
    """The time at which relative dates were evaluated: every crossing up to it was found."""
    next_trigger: datetime | None = None
    """The earliest time at which time alone may change a membership; None if time changes none."""
    time_unpredictable: bool = False
    """Whether time may change memberships at times that cannot be computed."""
    change_stream_datatype: str = ""
    """The datatype whose records alone decide membership; "" if other collections do as well."""
    last_seq: int = 0
    """The last event that the reconciliation knew of. Later events of other processes cause a full scan."""
    search_seconds: float = 0.0
    """The time spent on finding candidates."""
    watch: Watch | None = None
    """The watch after the reconciliation, which the next one starts from; None if it has to be read again."""


@dataclass(frozen=True, slots=True)
class ScanScope:
    """The records that a reconciliation evaluates: all, or the changed ones and those with a crossing."""

    changes: ChangedKeys = ChangedKeys()
    last_result: ReconcileResult | None = None
    """The result of the previous reconciliation; None for a full scan."""


FULL_SCAN = ScanScope()
