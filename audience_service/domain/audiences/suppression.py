"""Suppression: the records that a purpose must not reach. A new purpose is one more row of PURPOSES.

For `email`, a contact with `data.status` "bounced" is suppressed, and so is one whose address unsubscribed on the email
channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters.ast import Condition, Node, Or, Suppressed
from audience_service.domain.filters.compiler import CompiledFilter, compile_node
from audience_service.domain.filters.operators import OPERATORS


@dataclass(frozen=True, slots=True)
class MessagingPurpose:
    """The channel that members are to be reached by, and the statuses that forbid it.

    It suppresses a record if its own `status` is one of `statuses`. It also does if a subscriber record for its
    address, on one of `channels`, has one of `channel_statuses`.
    """

    name: str
    statuses: tuple[str, ...]
    channels: tuple[str, ...]
    channel_statuses: tuple[str, ...]


REASONS = ("complained", "bounced", "unsubscribed")
"""The statuses that suppress a record, the most serious first. The first that holds is the reason that counts."""

_STATUS = "data.status"

PURPOSES = {
    purpose.name: purpose
    for purpose in (
        MessagingPurpose("email", REASONS, ("email",), REASONS),
        # A record's own status "bounced" is about its email address.
        MessagingPurpose("sms", ("complained", "unsubscribed"), ("sms",), REASONS),
        # An ad platform does not send to the address. One that bounces is harmless there: it matches no user.
        MessagingPurpose("ads", ("complained", "unsubscribed"), ("email", "sms"), ("complained", "unsubscribed")),
    )
}


def spellings_of(status: str) -> tuple[str, ...]:
    """The stored forms of a status: in lower case, capitalised, and in upper case. An index serves them."""
    return status, status.capitalize(), status.upper()


def suppression_conditions(datatype: str, name: str, field_path: str = "purpose") -> Mapping[str, CompiledFilter]:
    """The condition of each reason that a purpose suppresses records for, in order; empty without a purpose.

    Raises InvalidArgument at `field_path` for an unknown purpose.
    """
    if not name:
        return {}
    if name not in PURPOSES:
        raise InvalidArgument.at(field_path, f"is not a purpose; set {', '.join(PURPOSES)} or leave it empty")
    purpose = PURPOSES[name]
    found = {reason: _conditions(purpose, reason) for reason in REASONS}
    return {reason: compile_node(datatype, Or(conditions)) for reason, conditions in found.items() if conditions}


def _conditions(purpose: MessagingPurpose, reason: str) -> tuple[Node, ...]:
    own = [Condition(_STATUS, OPERATORS["$in"], list(spellings_of(reason)))] if reason in purpose.statuses else []
    channels = purpose.channels if reason in purpose.channel_statuses else ()
    return (*own, *(Suppressed(channel, reason) for channel in channels))
