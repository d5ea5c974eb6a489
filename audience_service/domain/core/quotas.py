"""Quotas: how many records of a kind an org may have.

    check_free: below the quota? ──> write ──> confirm: not above it? ──> done
                   └── QuotaExceeded                 └── take the record back, QuotaExceeded

A creation writes first and counts after, so whichever of two concurrent ones counts second sees the other, and the
quota is not exceeded. Both may be refused. A separate counter would have to stay correct through every crash.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import QuotaExceeded

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""The timeout of the second count and the removal. They are independent of the caller's deadline."""

Count = Callable[[str, int, Deadline], int]
"""Counts the records of an org, up to a limit."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of one kind of record in each org. A limit of 0 is no limit, and costs no query."""

    name: str
    limit: int
    count: Count
    cure: str
    """What the caller can do: `delete segments`."""

    def check_free(self, ctx: RequestContext) -> None:
        """Raise QuotaExceeded if the org has as many records as it may."""
        self._refuse_beyond(ctx, self.limit - 1)

    def confirm(self, ctx: RequestContext, take_back: Callable[[RequestContext], object]) -> None:
        """Call `take_back` if the record that was just written is one too many, or if that cannot be found out.

        Raises QuotaExceeded or the error of the count then.
        """
        cleanup_ctx = replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
        try:
            self._refuse_beyond(cleanup_ctx, self.limit)
        except BaseException:
            take_back(cleanup_ctx)
            raise

    def _refuse_beyond(self, ctx: RequestContext, most: int) -> None:
        if self.limit and self.count(ctx.org, most + 1, ctx.deadline) > most:
            kind = self.name.replace("_", " ")
            raise QuotaExceeded(
                f"the org has {self.limit} {kind}, its quota; {self.cure}, or ask the operator for a higher quota",
                metadata={"quota": self.name, "limit": str(self.limit)},
            )


def _count_none(_org: str, _limit: int, _deadline: Deadline) -> int:
    return 0


UNLIMITED = Quota("", 0, _count_none, "")
