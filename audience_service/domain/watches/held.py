"""A watch that this process tracks, and when it is to be looked at again."""

from dataclasses import dataclass
from datetime import datetime
from math import inf

from audience_service.domain.watches.ports import ChangeFeed, Subscription
from audience_service.domain.watches.watch import EVERYTHING, Look, Outlook

_REST = 9
"""Comparing takes a tenth of the time at most."""
_GATHER_SECONDS = 0.1
"""Changes are gathered for so long, to be looked at together."""
_UNFORESEEN_SECONDS = 60.0
"""How often everything is looked at where changes are told of, but time moves people at moments nobody can foresee."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often everything is looked at, where changes are not told of, and what defines a watch, where they are.

    And for how long a watch is leased, which is how long it stands still when its process has died.
    """

    poll_seconds: float
    lease_seconds: float = 15.0


@dataclass(slots=True, eq=False)
class Held:
    """A leased watch. `due` is when everything is to be looked at, `check_at` when anything is, both monotonic.

    Everything may not be looked at before `rested_at`, nor what has changed before `gathered_at`. `outlook` is None
    where nothing is known that a look could go on from: then everything is looked at.
    """

    org: str
    audience_id: str
    lease: str
    due: float = 0.0
    check_at: float = inf
    gathered_at: float = 0.0
    rested_at: float = 0.0
    took: float = 0.0
    looked: bool = False
    outlook: Outlook | None = None
    subscription: Subscription | None = None
    busy: bool = False

    def seconds(self, monotonic: float, moment: datetime) -> float:
        """Seconds until the next look; none or less where it is due."""
        at = min(self.due, self.check_at)
        if self.outlook and self.subscription and self.subscription.has_news:
            at = min(at, self.gathered_at if self.subscription.is_complete else self.rested_at)
        passage = self.outlook and self.outlook.next_passage
        return min(at - monotonic, (passage - moment).total_seconds() if passage else inf)

    def look(self, monotonic: float) -> Look:
        """What the look that is due is at. What has changed until now is taken to be looked at by it."""
        everything = self.due <= monotonic or self.outlook is None
        if not self.subscription:
            return EVERYTHING if everything else Look(last=self.outlook)
        if not everything and not self.subscription.is_complete and monotonic < self.rested_at:
            return Look(last=self.outlook)
        changes = self.subscription.take()
        return Look(changes, self.outlook) if changes.complete and not everything else EVERYTHING

    def ended(self, look: Look, begun: float, ended: float, pace: Pace) -> None:
        """Note that a look has ended, with the outlook that it came to."""
        self.busy = False
        if look == EVERYTHING or self.outlook is None:
            self.took = ended - begun if look == EVERYTHING else self.took
            self.rested_at, self.looked = ended + self._rest(pace), True
        self.gathered_at = ended + max(_GATHER_SECONDS, ended - begun)
        self.check_at = inf
        if self.outlook and self.subscription and self.subscription.follows:
            self.check_at = ended + pace.poll_seconds
            # Also where an edit has made it so, which a look at changes has found.
            if look == EVERYTHING or (self.outlook.unforeseen and self.due == inf):
                self.due = max(self.rested_at, ended + _UNFORESEEN_SECONDS) if self.outlook.unforeseen else inf
        elif look == EVERYTHING or self.outlook is None or self.due == inf:
            self.due = self.rested_at

    def _rest(self, pace: Pace) -> float:
        """Seconds until everything may be looked at again.

        The first look may have recorded a whole audience, and was too early to be told of what has changed since.
        """
        if self.looked:
            return max(pace.poll_seconds, _REST * (self.outlook.searched_seconds if self.outlook else self.took))
        return 0.0 if self.subscription and self.subscription.follows else pace.poll_seconds

    def follow(self, feed: ChangeFeed) -> None:
        """Be told of the changes that the outlook says to follow, and of no others."""
        datatype = self.outlook.follows if self.outlook else ""
        if self.subscription and self.subscription.datatype != datatype:
            self.unsubscribe()
        if datatype and not self.subscription:
            self.subscription = feed.subscribe(self.org, datatype)

    def unsubscribe(self) -> None:
        """Be told of no changes any more."""
        if self.subscription:
            self.subscription.close()
            self.subscription = None
