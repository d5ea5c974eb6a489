"""Between the messages of WatchMembership and the domain's dataclasses."""

from audience_service.domain.history.model import Cause, ChangeKind, Event
from audience_service.domain.watch.stream import WatchBatch
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2
from audience_service.rpc.converters.structs import encode_timestamp

_CHANGES = {change: pb.MembershipChange.Value(f"MEMBERSHIP_CHANGE_{change.name}") for change in ChangeKind}
_CAUSES = {cause: resources_pb2.ChangeCause.Value(f"CHANGE_CAUSE_{cause.name}") for cause in Cause}


def encode_watch_batch(value: WatchBatch) -> pb.WatchMembershipResponse:
    """A batch of events, or a heartbeat."""
    return pb.WatchMembershipResponse(
        events=[_encode_event(event) for event in value.events],
        resume_token=value.resume_token,
        watermark=encode_timestamp(value.watermark),
    )


def _encode_event(value: Event) -> pb.MembershipEvent:
    return pb.MembershipEvent(
        contact_id=value.change.pk,
        change=_CHANGES[value.change.kind],
        cause=_CAUSES[value.cause],
        event_time=encode_timestamp(value.at),
    )
