"""Between the messages of WatchMembership and the domain's dataclasses."""

from audience_service.domain.watches.watch import Event
from audience_service.domain.watches.watching import WatchBatch
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.structs import encode_moment


def encode_watch(value: WatchBatch) -> pb.WatchMembershipResponse:
    """The events, or a checkpoint."""
    return pb.WatchMembershipResponse(
        events=[_encode_event(event) for event in value.events],
        resume_token=value.resume_token,
        as_of=encode_moment(value.as_of),
    )


def _encode_event(value: Event) -> pb.MembershipEvent:
    return pb.MembershipEvent(
        id=value.flip.pk, change=value.flip.change, cause=value.cause, time=encode_moment(value.at)
    )
