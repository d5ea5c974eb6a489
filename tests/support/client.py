"""A client of a test server: the stubs, with the metadata of a caller on every call."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from audience_service.pb.audience.v1 import (
    audience_service_pb2,
    custom_audience_service_pb2,
    filter_service_pb2,
    membership_service_pb2,
    reach_service_pb2,
    resources_pb2,
    segment_service_pb2,
    sync_service_pb2,
    targeting_service_pb2,
)
from audience_service.pb.audience.v1.audience_service_pb2_grpc import AudienceServiceStub
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_service.pb.audience.v1.filter_service_pb2_grpc import FilterServiceStub
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.resources_pb2 import CreationState
from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub
from audience_service.pb.audience.v1.sync_service_pb2_grpc import SyncServiceStub
from audience_service.pb.audience.v1.targeting_service_pb2_grpc import TargetingServiceStub
from tests.support.waiting import eventually

Metadata = tuple[tuple[str, str], ...]
_MODULES = (
    segment_service_pb2,
    filter_service_pb2,
    audience_service_pb2,
    reach_service_pb2,
    membership_service_pb2,
    custom_audience_service_pb2,
    sync_service_pb2,
    targeting_service_pb2,
)
_STUBS = (
    SegmentServiceStub,
    FilterServiceStub,
    AudienceServiceStub,
    ReachServiceStub,
    MembershipServiceStub,
    CustomAudienceServiceStub,
    SyncServiceStub,
    TargetingServiceStub,
)


class Client:
    """Calls RPCs by name with requests written as JSON objects."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self.channel = channel
        self._stubs = [stub(channel) for stub in _STUBS]
        self.metadata = metadata

    def call(self, rpc: str, request: dict[str, Any] | None = None, *, timeout: float | None = 40) -> Any:
        """The answer of an RPC; for a stream, the call itself, which yields messages and can be cancelled."""
        stub = next(stub for stub in self._stubs if hasattr(stub, rpc))
        module = next(module for module in _MODULES if hasattr(module, f"{rpc}Request"))
        message = ParseDict(request or {}, getattr(module, f"{rpc}Request")())
        return getattr(stub, rpc)(message, metadata=self.metadata, timeout=timeout)

    def create(self, **segment: Any) -> resources_pb2.Segment:
        """A new segment, from its JSON fields."""
        made: resources_pb2.Segment = self.call("CreateSegment", {"segment": segment})
        return made

    def custom(self, **audience: Any) -> Any:
        """A new custom audience, from its JSON fields; a file upload by default."""
        return self.call("CreateCustomAudience", {"customAudience": {"type": "file_upload", **audience}})

    def settled(self, audience_id: str, seconds: float = 40) -> Any:
        """A custom audience once no creation or refresh of it is running."""
        until = time.monotonic() + seconds
        while True:
            found = self.call("GetCustomAudience", {"id": audience_id})
            if resources_pb2.CREATION_STATE_CREATING not in (found.creation_state, found.latest_refresh.state):
                return found
            assert time.monotonic() < until, found
            time.sleep(0.01)

    def refresh(self, audience_id: str) -> Any:
        """A custom audience after a refresh, which must succeed."""
        self.call("RefreshCustomAudience", {"id": audience_id})
        found = self.settled(audience_id)
        assert found.latest_refresh.state == resources_pb2.CREATION_STATE_READY, found
        return found

    def count(self, **population: Any) -> int:
        """The reach of a filter or an audienceId."""
        return int(self.call("EstimateReach", population).count)

    def snapshot(self, **request: Any) -> Any:
        """A new snapshot, once it is READY."""
        made = self.created(self.call("CreateSnapshot", request))
        assert made.creation_state == CreationState.CREATION_STATE_READY, made
        return made

    def created(self, snapshot: Any) -> Any:
        """The snapshot once its creation has ended, READY or FAILED."""
        found = [snapshot]

        def has_ended() -> bool:
            found.append(self.call("GetSnapshot", {"id": snapshot.id}))
            return bool(found[-1].creation_state != CreationState.CREATION_STATE_CREATING)

        eventually(has_ended, seconds=40)
        return found[-1]

    def members(self, **request: Any) -> list[str]:
        """The ids that a stream sends; the total that it states must agree."""
        ids: list[str] = []
        totals: list[int] = []
        for message in self.call("StreamMembers", request):
            assert not totals, "nothing follows the totals"
            ids += [member.id for member in message.members]
            if message.HasField("totals"):
                totals.append(message.totals.member_count)
        assert totals == [len(ids)]
        return ids


class Refusal:
    """The contents of an error that the client received."""

    def __init__(self, error: Any) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        status = rpc_status.from_call(error)
        self.details = list(_unpack(status.details)) if status else []

    @property
    def info(self) -> Any:
        """The ErrorInfo."""
        return next(detail for detail in self.details if isinstance(detail, error_details_pb2.ErrorInfo))

    @property
    def fields(self) -> list[str]:
        """The places that BadRequest names."""
        requests = [detail for detail in self.details if isinstance(detail, error_details_pb2.BadRequest)]
        return [violation.field for request in requests for violation in request.field_violations]

    @property
    def descriptions(self) -> list[str]:
        """What is wrong with each field."""
        requests = [detail for detail in self.details if isinstance(detail, error_details_pb2.BadRequest)]
        return [violation.description for request in requests for violation in request.field_violations]

    @property
    def retry_seconds(self) -> float | None:
        """The delay of RetryInfo."""
        retries = [detail for detail in self.details if isinstance(detail, error_details_pb2.RetryInfo)]
        return retries[0].retry_delay.ToMilliseconds() / 1000 if retries else None


def _unpack(details: Any) -> Iterator[Any]:
    for detail in details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                yield message
