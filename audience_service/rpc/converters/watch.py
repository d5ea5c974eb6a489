"""Converters of watch streams."""

from audience_service.domain.history.model import Cause, ChangeKind, Event
from audience_service.domain.watch.stream import WatchBatch
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2
from audience_service.rpc.converters.structs import encode_timestamp

CHANGE_CAUSES = {
    Cause.DATA: resources_pb2.CHANGE_CAUSE_DATA,
    Cause.TIME: resources_pb2.CHANGE_CAUSE_TIME,
    Cause.DEFINITION: resources_pb2.CHANGE_CAUSE_DEFINITION,
    Cause.SNAPSHOT: resources_pb2.CHANGE_CAUSE_SNAPSHOT,
}
"""The ChangeCause of every cause, in the order of the proto's enum."""

_CHANGES = {change: pb.ChangeKind.Value(f"CHANGE_KIND_{change.name}") for change in ChangeKind}


def encode_watch_batch(value: WatchBatch) -> pb.WatchMembershipResponse:
    """The message of a batch of events; a heartbeat has none."""
    return pb.WatchMembershipResponse(
        events=[_encode_event(event) for event in value.events],
        resume_token=value.resume_token,
        watermark=encode_timestamp(value.watermark),
    )


def _encode_event(value: Event) -> pb.MembershipEvent:
    return pb.MembershipEvent(
        contact_id=value.change.pk,
        change=_CHANGES[value.change.kind],
        cause=CHANGE_CAUSES[value.cause],
        event_time=encode_timestamp(value.occurred_at),
    )
