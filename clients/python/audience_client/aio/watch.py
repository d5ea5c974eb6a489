"""What an automation stores about the audience that it follows."""

from collections.abc import Sequence
from typing import Protocol

from audience_client.pb.audience.v1.membership_service_pb2 import MembershipEvent


class AsyncWatchState(Protocol):
    """The stored state of a watch. Each method stores its arguments and its side effects in one transaction."""

    resume_token: str
    """The token that was stored last, empty at first."""

    async def begin(self, members: set[str], resume_token: str) -> None:
        """Replace the stored members by these, at the start and after a token has expired.

        Compare them with the members stored before: a contact may have entered or exited in between.
        """

    async def apply(self, events: Sequence[MembershipEvent], resume_token: str) -> None:
        """Apply events, in their order. There may be none. Raise StopWatch to end the watch."""
