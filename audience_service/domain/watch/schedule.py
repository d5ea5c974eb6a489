"""When a leased watch is due for its next scan, and what that scan covers.

Example: a poll interval of 2 s, a change stream, and a filter that depends on dates. A full scan takes 1 s, and an
incremental scan almost no time. The left column is the start of each scan in seconds.

     0.0  full scan         the process has just leased the watch
     1.0  full scan         no cooldown: the change stream missed the writes during the first scan
     4.0  incremental scan  no changes: the last scan ended 2 s ago, so the definition is checked
     5.1  incremental scan  contact a was written
     5.2  incremental scan  contact b was written at 5.12; scans are at least 0.1 s apart, to collect writes
     7.2  incremental scan  no changes: the definition is checked
     8.0  incremental scan  the time trigger of the last result: a contact crosses a date of the filter
    10.0  incremental scan  the definition is checked; the stream broke at 8.5, so its changes wait for a full scan
    11.0  full scan         the cooldown of the full scan at 1.0 ends

Without a change stream every scan is a full scan, except those of time triggers.

1. An incremental scan continues from the result of the previous scan. After a failed scan a full scan follows.
2. `next_scope` drains the subscription before the scan reads records. A write during the scan is pending after it.
3. Full scans take at most a tenth of the time: a cooldown of 9 times the search time follows each but the first.
"""

from dataclasses import dataclass
from datetime import datetime
from math import inf

from audience_service.domain.watch.model import FULL_SCAN, ReconcileResult, ScanScope
from audience_service.domain.watch.repository import ChangeStream, Subscription

_COOLDOWN_FACTOR = 9
"""Seconds without a full scan per second of searching, so that searching takes at most a tenth of the time."""
_DEBOUNCE_SECONDS = 0.1
"""The least interval between scans of streamed changes, which collects the changes of a burst."""
_UNPREDICTABLE_POLL_SECONDS = 60.0
"""The interval of full scans with a change stream, if time changes memberships at times that cannot be computed."""


@dataclass(frozen=True, slots=True)
class PollingConfig:
    """The intervals of scans and leases."""

    poll_seconds: float
    """Without a change stream: the least interval of full scans. With one: the interval of definition checks."""
    lease_seconds: float = 15.0
    """The lease duration. Another process takes over the watches of a crashed one after at most this long."""


@dataclass(slots=True, eq=False)
class ScheduledWatch:
    """A watch that this process has leased. Its times are seconds of the monotonic clock."""

    org: str
    audience_id: str
    lease: str
    full_scan_at: float = 0.0
    """When a full scan is due even without a change."""
    definition_check_at: float = inf
    """When an incremental scan is due even without a change."""
    earliest_incremental_at: float = 0.0
    """When the debounce time of the previous scan ends."""
    earliest_full_scan_at: float = -inf
    """When the cooldown of the previous full scan ends; -inf before the first scan."""
    last_result: ReconcileResult | None = None
    """The result of the previous scan; None before the first scan and after a failed one."""
    subscription: Subscription | None = None
    running: bool = False
    acquired_at: float = 0.0
    """When the process leased the watch."""
    overdue_since: float = 0.0
    """When the running scan became due."""

    @property
    def _is_streaming(self) -> bool:
        return self.subscription is not None and self.subscription.is_streaming

    def seconds_until_due(self, monotonic: float, timestamp: datetime) -> float:
        """Seconds until the next scan is due; 0 or less if it is due now."""
        due_at = min(self.full_scan_at, self.definition_check_at)
        if self.last_result and self.subscription and self.subscription.has_pending:
            is_complete = self.subscription.is_complete
            due_at = min(due_at, self.earliest_incremental_at if is_complete else self.earliest_full_scan_at)
        trigger = self.last_result and self.last_result.next_trigger
        return min(due_at - monotonic, (trigger - timestamp).total_seconds() if trigger else inf)

    def lag_seconds(self, monotonic: float, timestamp: datetime) -> float:
        """How long a scan has been due, including the time that it has run; 0 if none is due."""
        if self.running:
            return monotonic - self.overdue_since
        return max(0.0, min(-self.seconds_until_due(monotonic, timestamp), monotonic - self.acquired_at))

    def next_scope(self, monotonic: float) -> ScanScope:
        """The scope of the scan that is due. It takes over the changes that the subscription has collected."""
        is_full_scan = self.full_scan_at <= monotonic or self.last_result is None
        if not self.subscription:
            return FULL_SCAN if is_full_scan else ScanScope(last_result=self.last_result)
        if not is_full_scan and not self.subscription.is_complete and monotonic < self.earliest_full_scan_at:
            return ScanScope(last_result=self.last_result)  # the changes wait for the full scan after the cooldown
        changes = self.subscription.drain()
        return ScanScope(changes, self.last_result) if changes.is_complete and not is_full_scan else FULL_SCAN

    def record_finish(self, scope: ScanScope, started: float, finished: float, config: PollingConfig) -> None:
        """Schedule the next scan after one that led to `last_result`."""
        self.running = False
        needs_full_scan_time = scope == FULL_SCAN or self.last_result is None
        if needs_full_scan_time:
            cooldown_end = finished + self._cooldown(finished - started, config)
            self.earliest_full_scan_at = max(self.earliest_full_scan_at, cooldown_end)
        if needs_full_scan_time or self.full_scan_at == inf:
            self.full_scan_at = max(self.earliest_full_scan_at, finished + self._full_scan_interval())
        self.earliest_incremental_at = finished + max(_DEBOUNCE_SECONDS, finished - started)
        self.definition_check_at = finished + config.poll_seconds if self.last_result and self._is_streaming else inf

    def _cooldown(self, duration: float, config: PollingConfig) -> float:
        """Seconds until the next full scan may start.

        The first scan has no cooldown, since the change stream missed the writes during it. It may have recorded all
        members instead of searching.
        """
        if self.earliest_full_scan_at == -inf:
            return 0.0 if self._is_streaming else config.poll_seconds
        search_seconds = self.last_result.search_seconds if self.last_result else duration
        return max(config.poll_seconds, _COOLDOWN_FACTOR * search_seconds)

    def _full_scan_interval(self) -> float:
        """Seconds between full scans, beyond the cooldown; inf if incremental scans find every change."""
        if not self.last_result or not self._is_streaming:
            return 0.0
        return _UNPREDICTABLE_POLL_SECONDS if self.last_result.time_unpredictable else inf

    def update_subscription(self, change_stream: ChangeStream) -> None:
        """Subscribe to the datatype that the last result names, and to no other."""
        datatype = self.last_result.change_stream_datatype if self.last_result else ""
        if self.subscription and self.subscription.datatype != datatype:
            self.unsubscribe()
        if datatype and not self.subscription:
            self.subscription = change_stream.subscribe(self.org, datatype)

    def unsubscribe(self) -> None:
        """Close the subscription, if there is one."""
        if self.subscription:
            self.subscription.close()
            self.subscription = None
