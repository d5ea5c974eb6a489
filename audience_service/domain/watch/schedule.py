"""A watch that this process tracks, and when it is to be looked at again."""

from dataclasses import dataclass
from datetime import datetime
from math import inf

from audience_service.domain.watch.model import FULL_SCAN, ReconcileResult, ScanScope
from audience_service.domain.watch.repository import ChangeStream, Subscription

_COOLDOWN_FACTOR = 9
"""Comparing takes a tenth of the time at most."""
_DEBOUNCE_SECONDS = 0.1
"""Changes are gathered for so long, to be looked at together."""
_UNPREDICTABLE_POLL_SECONDS = 60.0
"""How often everything is looked at where changes are told of, but time moves people at moments nobody can foresee."""


@dataclass(frozen=True, slots=True)
class PollingConfig:
    """How often everything is looked at, where changes are not told of, and what defines a watch, where they are.

    And for how long a watch is leased, which is how long it stands still when its process has died.
    """

    poll_seconds: float
    lease_seconds: float = 15.0


@dataclass(slots=True, eq=False)
class ScheduledWatch:
    """A leased watch. `due` is when everything is to be looked at, `check_at` when anything is, both monotonic.

    Everything may not be looked at before `rested_at`, nor what has changed before `gathered_at`. `outlook` is None
    where nothing is known that a look could go on from: then everything is looked at.
    """

    org: str
    audience_id: str
    lease: str
    full_scan_at: float = 0.0
    definition_check_at: float = inf
    earliest_incremental_at: float = 0.0
    earliest_full_scan_at: float = 0.0
    last_duration: float = 0.0
    initialised: bool = False
    last_result: ReconcileResult | None = None
    subscription: Subscription | None = None
    running: bool = False

    def seconds_until_due(self, monotonic: float, timestamp: datetime) -> float:
        """Seconds until the next look; none or less where it is due."""
        due_at = min(self.full_scan_at, self.definition_check_at)
        if self.last_result and self.subscription and self.subscription.has_pending:
            due_at = min(
                due_at, self.earliest_incremental_at if self.subscription.is_complete else self.earliest_full_scan_at
            )
        trigger = self.last_result and self.last_result.next_trigger
        return min(due_at - monotonic, (trigger - timestamp).total_seconds() if trigger else inf)

    def next_scope(self, monotonic: float) -> ScanScope:
        """What the look that is due is at. What has changed until now is taken to be looked at by it."""
        is_full_scan = self.full_scan_at <= monotonic or self.last_result is None
        if not self.subscription:
            return FULL_SCAN if is_full_scan else ScanScope(last_result=self.last_result)
        if not is_full_scan and not self.subscription.is_complete and monotonic < self.earliest_full_scan_at:
            return ScanScope(last_result=self.last_result)
        changes = self.subscription.drain()
        return ScanScope(changes, self.last_result) if changes.complete and not is_full_scan else FULL_SCAN

    def record_finish(self, scope: ScanScope, started: float, finished: float, config: PollingConfig) -> None:
        """Note that a look has ended, with the outlook that it came to."""
        self.running = False
        if scope == FULL_SCAN or self.last_result is None:
            self.last_duration = finished - started if scope == FULL_SCAN else self.last_duration
            self.earliest_full_scan_at, self.initialised = finished + self._cooldown(config), True
        self.earliest_incremental_at = finished + max(_DEBOUNCE_SECONDS, finished - started)
        self.definition_check_at = inf
        if self.last_result and self.subscription and self.subscription.is_streaming:
            self.definition_check_at = finished + config.poll_seconds
            # Also where an edit has made it so, which a look at changes has found.
            if scope == FULL_SCAN or (self.last_result.time_unpredictable and self.full_scan_at == inf):
                self.full_scan_at = (
                    max(self.earliest_full_scan_at, finished + _UNPREDICTABLE_POLL_SECONDS)
                    if self.last_result.time_unpredictable
                    else inf
                )
        elif scope == FULL_SCAN or self.last_result is None or self.full_scan_at == inf:
            self.full_scan_at = self.earliest_full_scan_at

    def _cooldown(self, config: PollingConfig) -> float:
        """Seconds until everything may be looked at again.

        The first look may have recorded a whole audience, and was too early to be told of what has changed since.
        """
        if self.initialised:
            return max(
                config.poll_seconds,
                _COOLDOWN_FACTOR * (self.last_result.search_seconds if self.last_result else self.last_duration),
            )
        return 0.0 if self.subscription and self.subscription.is_streaming else config.poll_seconds

    def update_subscription(self, change_stream: ChangeStream) -> None:
        """Be told of the changes that the outlook says to follow, and of no others."""
        datatype = self.last_result.change_stream_datatype if self.last_result else ""
        if self.subscription and self.subscription.datatype != datatype:
            self.unsubscribe()
        if datatype and not self.subscription:
            self.subscription = change_stream.subscribe(self.org, datatype)

    def unsubscribe(self) -> None:
        """Be told of no changes any more."""
        if self.subscription:
            self.subscription.close()
            self.subscription = None
