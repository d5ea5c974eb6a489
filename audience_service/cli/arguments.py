"""Names of audiences, for commands that take the id of a segment, custom audience or snapshot."""

from audience_service.cli.client import Client
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as custom_audiences
from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import segment_service_pb2 as segments


def name_and_datatype(client: Client, audience_id: str) -> tuple[str, str]:
    """The audience's name, or its id if it has no name, and the datatype of its members. Raises grpc.RpcError."""
    if audience_id.startswith(CUSTOM_PREFIX):
        custom = client.call(
            client.custom_audiences.GetCustomAudience, custom_audiences.GetCustomAudienceRequest(id=audience_id)
        )
        return custom.name, custom.datatype
    if audience_id.startswith(SNAPSHOT_PREFIX):
        snapshot = client.call(client.membership.GetSnapshot, membership.GetSnapshotRequest(id=audience_id))
        return snapshot.name or audience_id, snapshot.datatype
    segment = client.call(client.segments.GetSegment, segments.GetSegmentRequest(id=audience_id))
    return segment.name, segment.filter.datatype
