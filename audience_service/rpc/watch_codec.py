"""Between the messages of WatchMembership and the domain's dataclasses."""

from audience_service.domain.watches.watch import Cause, Change, Event
from audience_service.domain.watches.watching import WatchBatch
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2
from audience_service.rpc.structs import encode_moment

_CHANGES = {change: pb.MembershipChange.Value(f"MEMBERSHIP_CHANGE_{change.name}") for change in Change}
_CAUSES = {cause: resources_pb2.ChangeCause.Value(f"CHANGE_CAUSE_{cause.name}") for cause in Cause}


def encode_watch(value: WatchBatch) -> pb.WatchMembershipResponse:
    """A batch of events, or a heartbeat."""
    return pb.WatchMembershipResponse(
        events=[_encode_event(event) for event in value.events],
        resume_token=value.resume_token,
        watermark=encode_moment(value.as_of),
    )


def _encode_event(value: Event) -> pb.MembershipEvent:
    return pb.MembershipEvent(
        contact_id=value.flip.pk,
        change=_CHANGES[value.flip.change],
        cause=_CAUSES[value.cause],
        event_time=encode_moment(value.at),
    )
