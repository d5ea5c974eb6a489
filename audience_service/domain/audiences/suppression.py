"""What members are wanted for, and who must not be reached for it: a row each. A newcomer is one more row."""

from collections.abc import Mapping
from dataclasses import dataclass

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters.ast import Condition, Node, Or, Suppressed
from audience_service.domain.filters.compiler import CompiledFilter, compile_node
from audience_service.domain.filters.operators import OPERATORS


@dataclass(frozen=True, slots=True)
class MessagingPurpose:
    """One row.

    A record is left out where its own `status` is one of `statuses`, or where a subscriber record of its address on one
    of `channels` has one of `channel_statuses`.
    """

    name: str
    statuses: tuple[str, ...]
    channels: tuple[str, ...]
    channel_statuses: tuple[str, ...]


REASONS = ("complained", "bounced", "unsubscribed")
"""The statuses for which records are left out, the gravest first: each is counted by the first that holds."""

_STATUS = "data.status"

PURPOSES = {
    purpose.name: purpose
    for purpose in (
        MessagingPurpose("email", REASONS, ("email",), REASONS),
        # What bounces on a record itself is its email.
        MessagingPurpose("sms", ("complained", "unsubscribed"), ("sms",), REASONS),
        # A platform is not reached through the address: what bounces there is harmless, and matches nobody.
        MessagingPurpose("ads", ("complained", "unsubscribed"), ("email", "sms"), ("complained", "unsubscribed")),
    )
}


def suppression_conditions(datatype: str, name: str, field_path: str = "purpose") -> Mapping[str, CompiledFilter]:
    """Who is left out for a purpose, by reason in the order in which reasons count; nobody for no purpose.

    Raises InvalidArgument at `place` for a purpose that is none.
    """
    if not name:
        return {}
    if name not in PURPOSES:
        raise InvalidArgument.at(field_path, f"is none of {', '.join(PURPOSES)}")
    purpose = PURPOSES[name]
    found = {reason: _conditions(purpose, reason) for reason in REASONS}
    return {reason: compile_node(datatype, Or(conditions)) for reason, conditions in found.items() if conditions}


def _conditions(purpose: MessagingPurpose, reason: str) -> tuple[Node, ...]:
    own = [Condition(_STATUS, OPERATORS["$eq"], reason)] if reason in purpose.statuses else []
    channels = purpose.channels if reason in purpose.channel_statuses else ()
    return (*own, *(Suppressed(channel, reason) for channel in channels))
