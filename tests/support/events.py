"""Events of a watch, in the words of the domain."""

from typing import Any

from audience_service.pb.audience.v1.membership_service_pb2 import ChangeKind
from audience_service.pb.audience.v1.resources_pb2 import ChangeCause


def described(event: Any) -> tuple[str, str, str]:
    """The change, the contact and the cause of a MembershipEvent: `("entered", "contact-a", "data")`."""
    change = ChangeKind.Name(event.change).removeprefix("CHANGE_KIND_").lower()
    return change, event.contact_id, ChangeCause.Name(event.cause).removeprefix("CHANGE_CAUSE_").lower()
