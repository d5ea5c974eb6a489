"""The client of an org: segments, reach, members, snapshots, campaigns, ad lists and watches."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from audience_client.aio.connection import AsyncConnection
from audience_client.aio.members import AsyncMembers
from audience_client.aio.watch import AsyncWatchState
from audience_client.errors import NotFound, SnapshotFailed
from audience_client.methods import with_request_id
from audience_client.mirrors import IdentifierBatch, Mirror
from audience_client.pb.audience.v1 import audience_service_pb2 as audiences_pb
from audience_client.pb.audience.v1 import custom_audience_service_pb2 as custom_pb
from audience_client.pb.audience.v1 import membership_service_pb2 as membership_pb
from audience_client.pb.audience.v1 import reach_service_pb2 as reach_pb
from audience_client.pb.audience.v1 import segment_service_pb2 as segments_pb
from audience_client.pb.audience.v1.audience_service_pb2_grpc import AudienceServiceStub
from audience_client.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_client.pb.audience.v1.filter_service_pb2_grpc import FilterServiceStub
from audience_client.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_client.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_client.pb.audience.v1.resources_pb2 import CreationState, Filter, Segment
from audience_client.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub
from audience_client.pb.audience.v1.sync_service_pb2_grpc import SyncServiceStub
from audience_client.pb.audience.v1.targeting_service_pb2_grpc import TargetingServiceStub
from audience_client.reasons import UnknownSealingKey, WatchTokenExpired
from audience_client.selection import Audience, make_filter, select
from audience_client.watches import StopWatch

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
Item = TypeVar("Item")

_MAX_ATTEMPTS = 3
_MIN_POLL_SECONDS, _MAX_POLL_SECONDS, _RESTART_SECONDS = 0.1, 5.0, 30.0


class AsyncAudienceClient:
    """A client of one org. Use it as a context manager, or close it.

    `token` is a JWT, or a function that returns one and is called again before the JWT expires. `credentials` are
    those of TLS; without them the connection is not encrypted. `timeout` is the deadline of a call in seconds,
    including its retries. `resume_timeout` is how long a stream is resumed without a message. Every method raises
    AudienceError.

    The attributes `segment_stub`, `filter_stub`, `audience_stub`, `custom_audience_stub`, `reach_stub`,
    `membership_stub`, `sync_stub` and `targeting_stub` have every RPC; `call`, `items` and `stream` call them.
    """

    def __init__(
        self,
        address: str,
        *,
        org: str,
        token: str | Callable[[], Awaitable[str]],
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = 30.0,
        resume_timeout: float = 300.0,
    ) -> None:
        self._connection = AsyncConnection(address, org, token, credentials, timeout, resume_timeout)
        channel = self._connection.channel
        self.segment_stub = SegmentServiceStub(channel)
        self.filter_stub = FilterServiceStub(channel)
        self.audience_stub = AudienceServiceStub(channel)
        self.custom_audience_stub = CustomAudienceServiceStub(channel)
        self.reach_stub = ReachServiceStub(channel)
        self.membership_stub = MembershipServiceStub(channel)
        self.sync_stub = SyncServiceStub(channel)
        self.targeting_stub = TargetingServiceStub(channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Running calls are cancelled."""
        await self._connection.close()

    # --- every RPC ----------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        """The response of an RPC of one of the stubs, with metadata, deadline and retries."""
        return await self._connection.call(method, request, timeout)

    async def items(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        items_of: Callable[[Response], Iterable[Item]],
    ) -> AsyncIterator[Item]:
        """The items of all pages of a list RPC. `items_of` returns those of one response."""
        message: Any = type(request)()
        message.CopyFrom(request)
        while True:
            response: Any = await self.call(method, message)
            for item in items_of(response):
                yield item
            message.page_token = response.next_page_token
            if not message.page_token:
                return

    def stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        is_last: Callable[[Response], bool],
    ) -> AsyncIterator[Response]:
        """The messages of a stream with cursors, up to the one for which `is_last`. A broken stream is resumed."""
        return self._connection.stream(method, request, is_last)

    # --- segments and custom audiences --------------------------------------------------------------------------------

    async def create_segment(
        self,
        name: str,
        filter: Mapping[str, Any] | Filter,  # noqa: A002 - the service's word
        *,
        description: str = "",
    ) -> Segment:
        """A new dynamic segment: the contacts that match the filter. Its `warnings` are worth showing to its author."""
        segment = Segment(name=name, description=description, filter=make_filter(filter), type="dynamic")
        return await self.call(self.segment_stub.CreateSegment, segments_pb.CreateSegmentRequest(segment=segment))

    async def create_static_segment(self, name: str, source: str | Mapping[str, Any] | Filter | list[str]) -> Segment:
        """A new fixed list: of the members of an audience (its id), of a filter, or of these contact ids."""
        request = segments_pb.CreateSegmentRequest(segment=Segment(name=name, type="static"))
        if isinstance(source, str):
            request.source.audience_id = source
        elif isinstance(source, list):
            request.segment.contact_ids.extend(source)
        else:
            request.source.filter.CopyFrom(make_filter(source))
        return await self.call(self.segment_stub.CreateSegment, request)

    def segments(self, *, name: str = "", type: str = "", order_by: str = "") -> AsyncIterator[Segment]:  # noqa: A002 - the service's word
        """The segments whose names contain a text, of a type: `dynamic` or `static`."""
        request = segments_pb.ListSegmentsRequest(name=name, type=type, order_by=order_by, page_size=100)
        return self.items(self.segment_stub.ListSegments, request, lambda page: page.segments)

    async def segment(self, id_or_name: str) -> Segment:
        """The segment with an id, or with exactly a name. Raises NotFound."""
        if id_or_name.startswith("segment-"):
            return await self.call(self.segment_stub.GetSegment, segments_pb.GetSegmentRequest(id=id_or_name))
        async for segment in self.segments(name=id_or_name):
            if segment.name == id_or_name:
                return segment
        raise NotFound(f"no segment has the name {id_or_name!r}", grpc.StatusCode.NOT_FOUND)

    def custom_audiences(self, *, name: str = "", type: str = "") -> AsyncIterator[custom_pb.CustomAudience]:  # noqa: A002 - the service's word
        """The custom audiences whose names contain a text, of a type such as `file_upload` or `lookalike`."""
        request = custom_pb.ListCustomAudiencesRequest(name=name, type=type, page_size=100)
        stub = self.custom_audience_stub
        return self.items(stub.ListCustomAudiences, request, lambda page: page.custom_audiences)

    async def register_use(self, audience_id: str, kind: str, consumer_id: str) -> audiences_pb.AudienceUse:
        """Protect an audience from deletion as long as a consumer, such as a `campaign`, uses it. Safe to repeat."""
        use = audiences_pb.AudienceUse(audience_id=audience_id, consumer_kind=kind, consumer_id=consumer_id)
        return await self.call(self.audience_stub.RegisterUse, audiences_pb.RegisterUseRequest(use=use))

    async def release_use(self, audience_id: str, kind: str, consumer_id: str) -> None:
        """End a use. Safe to repeat."""
        request = audiences_pb.ReleaseUseRequest(audience_id=audience_id, consumer_kind=kind, consumer_id=consumer_id)
        await self.call(self.audience_stub.ReleaseUse, request)

    # --- numbers ------------------------------------------------------------------------------------------------------

    async def reach(
        self, audience: Audience, *, exclude: Sequence[str] = (), purpose: str = ""
    ) -> reach_pb.EstimateReachResponse:
        """The number of members, exact or estimated with an interval, and one member with personal data masked."""
        request = reach_pb.EstimateReachRequest()
        select(request, audience, exclude, purpose)
        return await self.call(self.reach_stub.EstimateReach, request)

    async def insights(self, audience_id: str, *dimensions: str) -> reach_pb.GetInsightsResponse:
        """An audience by dimensions or fields, compared with its org. Default: the service's usual dimensions."""
        request = reach_pb.GetInsightsRequest(audience_id=audience_id, dimensions=dimensions)
        return await self.call(self.reach_stub.GetInsights, request)

    async def overlap(self, audience_ids: Sequence[str]) -> reach_pb.GetOverlapRegionsResponse:
        """The number of members of each combination of up to eight audiences."""
        request = reach_pb.GetOverlapRegionsRequest(audience_ids=audience_ids)
        return await self.call(self.reach_stub.GetOverlapRegions, request)

    async def memberships(self, contact_ids: Sequence[str], audience_ids: Sequence[str]) -> dict[str, list[str]]:
        """For each contact the audiences, out of these, that it is a member of."""
        request = membership_pb.CheckMembershipRequest(contact_ids=contact_ids, audience_ids=audience_ids)
        response = await self.call(self.membership_stub.CheckMembership, request)
        return {found.contact_id: list(found.audience_ids) for found in response.memberships}

    # --- members ------------------------------------------------------------------------------------------------------

    def members(
        self,
        audience: Audience,
        *,
        fields: Sequence[str] = (),
        exclude: Sequence[str] = (),
        purpose: str = "",
        partition: tuple[int, int] | None = None,
        as_of: datetime | None = None,
        batch_size: int = 0,
    ) -> AsyncMembers:
        """The members of an audience with the values of `fields`, read when iterated.

        `purpose` (`email`, `sms`, `ads`) leaves out contacts who must not be reached for it. `partition` is (index,
        count), for parallel readers. `as_of` reads the history of a watched audience.
        """
        request = membership_pb.StreamMembersRequest(fields=fields, batch_size=batch_size)
        select(request, audience, exclude, purpose)
        if partition is not None:
            index, count = partition
            request.partition.CopyFrom(membership_pb.Partition(index=index, count=count))
        if as_of is not None:
            request.as_of.FromDatetime(as_of)
        return AsyncMembers(self._connection, request)

    async def snapshot(
        self,
        audience: Audience,
        *,
        exclude: Sequence[str] = (),
        purpose: str = "",
        name: str = "",
        request_id: str = "",
        timeout: float = 3600.0,
    ) -> membership_pb.Snapshot:
        """A copy of the current members, once it is READY. It waits through restarts of the service.

        With the same `request_id` it is the same snapshot, created once. Raises SnapshotFailed after three attempts,
        and if the snapshot is not READY after `timeout` seconds. A later call with its `request_id` then continues.
        """
        request = membership_pb.CreateSnapshotRequest(name=name, request_id=request_id)
        select(request, audience, exclude, purpose)
        request = with_request_id(request)
        snapshot = await self.call(self.membership_stub.CreateSnapshot, request)
        started_at = restarted_at = time.monotonic()
        attempts, delay = 1, _MIN_POLL_SECONDS
        while snapshot.creation_state != CreationState.CREATION_STATE_READY:
            failed = snapshot.creation_state == CreationState.CREATION_STATE_FAILED
            if (failed and attempts >= _MAX_ATTEMPTS) or time.monotonic() > started_at + timeout:
                problem = snapshot.error or f"is not READY after {timeout:g} s"
                raise SnapshotFailed(f"{snapshot.id}: {problem}", grpc.StatusCode.FAILED_PRECONDITION)
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, _MAX_POLL_SECONDS)
            if failed or time.monotonic() > restarted_at + _RESTART_SECONDS:  # the worker's process may have died
                attempts, restarted_at = attempts + failed, time.monotonic()
                snapshot = await self.call(self.membership_stub.CreateSnapshot, request)
            else:
                found = membership_pb.GetSnapshotRequest(id=snapshot.id)
                snapshot = await self.call(self.membership_stub.GetSnapshot, found)
        return snapshot

    def snapshots(self, *, audience_id: str = "") -> AsyncIterator[membership_pb.Snapshot]:
        """The snapshots, newest first; only those of an audience if it is given."""
        request = membership_pb.ListSnapshotsRequest(audience_id=audience_id, page_size=100)
        return self.items(self.membership_stub.ListSnapshots, request, lambda page: page.snapshots)

    # --- campaigns, ad lists, automations -----------------------------------------------------------------------------

    async def launch(
        self,
        launch_id: str,
        audience: Audience,
        *,
        purpose: str,
        exclude: Sequence[str] = (),
        fields: Sequence[str] = (),
        partition: tuple[int, int] | None = None,
    ) -> AsyncMembers:
        """The recipients of a campaign: a snapshot of the audience, without contacts who must not be reached.

        The same `launch_id` gives the same snapshot, also in another process or after a crash. Contacts who
        unsubscribed since the launch are left out.
        """
        snapshot = await self.snapshot(audience, exclude=exclude, purpose=purpose, name=launch_id, request_id=launch_id)
        return self.members(snapshot.id, purpose=purpose, fields=fields, partition=partition)

    async def mirror(
        self,
        audience: Audience,
        platform: str,
        send: Callable[[IdentifierBatch], Awaitable[None]],
        *,
        since: str = "",
        fields: Sequence[str] = (),
        default_region: str = "",
        consent_fields: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        rules_version: str = "",
    ) -> Mirror:
        """Make the list of an ad platform equal to an audience: `send` gets each request to the platform.

        `since` is the `snapshot_id` of the previous result: `send` then gets the differences only, first those to add.
        Store the new `snapshot_id` after the call. If the call fails, repeat it with the previous one: `send` may get
        a row again, which changes nothing on the platform. Use the same fields and options each time.

        Raises SnapshotNotFound if the previous snapshot has expired; replace the platform's list then.
        """
        snapshot = await self.snapshot(audience, purpose="ads", name=f"mirror {platform}")
        request = membership_pb.ExportIdentifiersRequest(
            snapshot_id=snapshot.id,
            since_snapshot_id=since,
            purpose="ads",
            platform=platform,
            fields=fields,
            default_region=default_region,
            consent_fields=consent_fields,
            options=options or {},
            rules_version=rules_version,
        )
        readiness = membership_pb.ExportReadiness()
        rows: list[list[str]] = []
        is_last: Callable[[membership_pb.ExportIdentifiersResponse], bool] = lambda part: part.HasField("readiness")  # noqa: E731
        async for part in self.stream(self.membership_stub.ExportIdentifiers, request, is_last):
            rows += [list(row.values) for row in part.rows]
            if part.last_in_batch and rows:
                await send(IdentifierBatch.read(part, rows))
                rows = []
            readiness = part.readiness  # the last message has it
        return Mirror(snapshot.id, readiness)

    async def watch(self, audience_id: str, state: AsyncWatchState) -> None:
        """Follow an audience: `state` gets its members, then every contact that enters or exits, each event once.

        It resumes after interruptions, and begins again when the stored token has expired. It ends when `state` raises
        StopWatch.
        """
        try:
            while True:
                try:
                    await self._watch(audience_id, state)
                except (WatchTokenExpired, UnknownSealingKey):
                    state.resume_token = ""
        except StopWatch:
            return

    async def _watch(self, audience_id: str, state: AsyncWatchState) -> None:
        """Give `state` one watch, from its token on."""
        request = membership_pb.WatchMembershipRequest(audience_id=audience_id, resume_token=state.resume_token)
        stub, is_new = self.membership_stub, not state.resume_token
        never: Callable[[membership_pb.WatchMembershipResponse], bool] = lambda _: False  # noqa: E731
        async for batch in self._connection.stream(stub.WatchMembership, request, never, "resume_token"):
            if is_new:  # contacts that entered before the first message produce no event, so read the members
                await state.begin(await self.members(audience_id).ids(), batch.resume_token)
                is_new = False
            else:
                await state.apply(batch.events, batch.resume_token)
            state.resume_token = batch.resume_token
