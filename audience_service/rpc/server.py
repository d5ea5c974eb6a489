"""The gRPC server: the servicers with the interceptor, health checks and reflection."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from audience_service.pb.audience.v1 import (
    audience_service_pb2,
    custom_audience_service_pb2,
    filter_service_pb2,
    membership_service_pb2,
    reach_service_pb2,
    segment_service_pb2,
    targeting_service_pb2,
)
from audience_service.pb.audience.v1.audience_service_pb2_grpc import (
    AudienceServiceServicer,
    add_AudienceServiceServicer_to_server,
)
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import (
    CustomAudienceServiceServicer,
    add_CustomAudienceServiceServicer_to_server,
)
from audience_service.pb.audience.v1.filter_service_pb2_grpc import (
    FilterServiceServicer,
    add_FilterServiceServicer_to_server,
)
from audience_service.pb.audience.v1.membership_service_pb2_grpc import (
    MembershipServiceServicer,
    add_MembershipServiceServicer_to_server,
)
from audience_service.pb.audience.v1.reach_service_pb2_grpc import (
    ReachServiceServicer,
    add_ReachServiceServicer_to_server,
)
from audience_service.pb.audience.v1.segment_service_pb2_grpc import (
    SegmentServiceServicer,
    add_SegmentServiceServicer_to_server,
)
from audience_service.pb.audience.v1.targeting_service_pb2_grpc import (
    TargetingServiceServicer,
    add_TargetingServiceServicer_to_server,
)
from audience_service.rpc.audit import AuditLog, AuditObserver
from audience_service.rpc.auth import Authenticator
from audience_service.rpc.interceptor import CallInterceptor, Timeouts
from audience_service.rpc.stream_limits import StreamLimiter

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for module in (
        segment_service_pb2,
        filter_service_pb2,
        audience_service_pb2,
        custom_audience_service_pb2,
        reach_service_pb2,
        membership_service_pb2,
        targeting_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)
"""The descriptors of all services of this package."""

_QUEUED_CALLS_PER_THREAD = 8
_MAX_OPEN_STREAMS = 4
"""The most concurrent streams of services that need no token (reflection)."""

_KEEPALIVE = (("grpc.keepalive_time_ms", 60_000), ("grpc.keepalive_timeout_ms", 20_000))
"""Keepalive pings detect unreachable clients, and end their streams."""


@dataclass(frozen=True, slots=True)
class Servicers:
    """The servicer of each service."""

    segment: SegmentServiceServicer
    filter: FilterServiceServicer
    audience: AudienceServiceServicer
    reach: ReachServiceServicer
    membership: MembershipServiceServicer
    targeting: TargetingServiceServicer
    custom_audience: CustomAudienceServiceServicer


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options of a server process.

    It refuses calls beyond its threads and a short queue with RESOURCE_EXHAUSTED.
    """

    listen: str
    threads: int
    max_streams: int
    stream_send_timeout_seconds: float
    timeouts: Timeouts
    reflection: bool
    share_port: bool


class RpcServer:
    """A server that is bound to its port. `start` begins to serve."""

    def __init__(
        self, servicers: Servicers, authenticator: Authenticator, options: ServerOptions, audit_log: AuditLog
    ) -> None:
        """Bind the port. Raises RuntimeError if the port is not available."""
        self.stream_limiter = StreamLimiter(options.max_streams, options.stream_send_timeout_seconds)
        self._open_stream_limiter = StreamLimiter(_MAX_OPEN_STREAMS, options.stream_send_timeout_seconds)
        self._health = health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(options.threads, thread_name_prefix="rpc"),
            interceptors=[
                CallInterceptor(
                    authenticator,
                    SERVICES,
                    self.stream_limiter,
                    self._open_stream_limiter,
                    options.timeouts,
                    audit_log,
                ),
                AuditObserver(SERVICES),
            ],
            options=[("grpc.so_reuseport", int(options.share_port)), *_KEEPALIVE],
            maximum_concurrent_rpcs=options.threads * _QUEUED_CALLS_PER_THREAD,
        )
        add_SegmentServiceServicer_to_server(servicers.segment, self._server)
        add_FilterServiceServicer_to_server(servicers.filter, self._server)
        add_AudienceServiceServicer_to_server(servicers.audience, self._server)
        add_ReachServiceServicer_to_server(servicers.reach, self._server)
        add_MembershipServiceServicer_to_server(servicers.membership, self._server)
        add_TargetingServiceServicer_to_server(servicers.targeting, self._server)
        add_CustomAudienceServiceServicer_to_server(servicers.custom_audience, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            names = (*(service.full_name for service in SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.port = self._server.add_insecure_port(options.listen)

    def start(self) -> None:
        """Begin to serve. Health is NOT_SERVING until `set_healthy` changes it."""
        self.set_healthy(healthy=False)
        self._server.start()

    def set_healthy(self, *, healthy: bool) -> None:
        """Set the health of the server and of each service, as health checks see it."""
        status = health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.full_name for service in SERVICES)):
            self._health.set(name, status)

    def cancel_idle_streams(self) -> None:
        """Cancel the streams whose clients exceeded the idle timeout. Call this periodically."""
        self.stream_limiter.cancel_idle()
        self._open_stream_limiter.cancel_idle()

    def drain(self, grace_seconds: float) -> threading.Event:
        """Refuse new calls, wait for running calls up to the grace period, then cancel them.

        Returns at once, with an event that is set once the server has stopped.
        """
        self._health.enter_graceful_shutdown()
        return self._server.stop(grace_seconds)
