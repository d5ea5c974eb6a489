"""The gRPC server: the servicers with the interceptor, health checks and reflection."""

import threading
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from audience_service.domain.watch.errors import ServerStopping
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
from audience_service.pb.audience.v1.sync_service_pb2_grpc import (
    SyncServiceServicer,
    add_SyncServiceServicer_to_server,
)
from audience_service.pb.audience.v1.targeting_service_pb2_grpc import (
    TargetingServiceServicer,
    add_TargetingServiceServicer_to_server,
)
from audience_service.rpc.admission import MAX_REQUEST_BYTES, Admission, CallLimits
from audience_service.rpc.audit import AuditLog, AuditObserver
from audience_service.rpc.auth import Authenticator
from audience_service.rpc.call_observer import CallObserver
from audience_service.rpc.calls import OpenCalls
from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.interceptor import CallInterceptor, Timeouts
from audience_service.rpc.threads import ElasticExecutor
from audience_service.rpc.tls import TlsFiles, server_credentials

LIVENESS = "liveness"
"""The name under which health checks see whether the process answers, with or without its database."""
_MAX_OPEN_CALLS = 4_096
"""The most open calls. This is the last line: permits and slots refuse earlier, with an ErrorInfo."""

_MAX_METADATA_BYTES = 32 * 1024
"""The most metadata of a call. grpc refuses more, and by default refuses at random what is above 8 KiB."""

_OPTIONS = (
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # Beyond this limit grpc refuses messages itself, without an ErrorInfo.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES + 1024 * 1024),
    # Pings detect unreachable clients, and end their calls.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Clients may ping an idle connection this often; grpc closes the connections of those that ping more often.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_STATUS_SECONDS = 1.0
"""The time, at the end of the grace period, to send the status of the calls that outlast it."""


@dataclass(frozen=True, slots=True)
class Servicers:
    """The servicer of each service."""

    segment: SegmentServiceServicer
    filter: FilterServiceServicer
    audience: AudienceServiceServicer
    reach: ReachServiceServicer
    membership: MembershipServiceServicer
    sync: SyncServiceServicer
    targeting: TargetingServiceServicer
    custom_audience: CustomAudienceServiceServicer


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options of a server process."""

    listen: str
    limits: CallLimits
    timeouts: Timeouts
    max_connection_age_seconds: float
    reflection: bool
    share_port: bool
    tls: TlsFiles | None = None


class RpcServer:
    """A server that is bound to its port. `start` begins to serve."""

    def __init__(
        self,
        servicers: Servicers,
        authenticator: Authenticator,
        options: ServerOptions,
        observer: CallObserver,
        audit_log: AuditLog,
    ) -> None:
        """Bind the port. Raises RuntimeError if the port is not available."""
        self.admission = Admission(options.limits)
        self.open_calls = OpenCalls()
        self._health = health.HealthServicer(experimental_non_blocking=False)
        self._server = grpc.server(
            ElasticExecutor("rpc"),  # type: ignore[arg-type]  # grpcio calls `submit` alone
            interceptors=[
                CallInterceptor(
                    authenticator, SERVICES, self.admission, self.open_calls, options.timeouts, observer, audit_log
                ),
                AuditObserver(SERVICES),
            ],
            options=[
                ("grpc.so_reuseport", int(options.share_port)),
                ("grpc.max_connection_age_ms", int(options.max_connection_age_seconds * 1000)),
                *_OPTIONS,
            ],
            maximum_concurrent_rpcs=_MAX_OPEN_CALLS,
        )
        add_SegmentServiceServicer_to_server(servicers.segment, self._server)
        add_FilterServiceServicer_to_server(servicers.filter, self._server)
        add_AudienceServiceServicer_to_server(servicers.audience, self._server)
        add_ReachServiceServicer_to_server(servicers.reach, self._server)
        add_MembershipServiceServicer_to_server(servicers.membership, self._server)
        add_SyncServiceServicer_to_server(servicers.sync, self._server)
        add_TargetingServiceServicer_to_server(servicers.targeting, self._server)
        add_CustomAudienceServiceServicer_to_server(servicers.custom_audience, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            names = (*(service.full_name for service in SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.port = (
            self._server.add_secure_port(options.listen, server_credentials(options.tls))
            if options.tls
            else self._server.add_insecure_port(options.listen)
        )

    def start(self) -> None:
        """Begin to serve. Health is NOT_SERVING until `set_healthy` changes it."""
        self.set_healthy(healthy=False)
        self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        self.open_calls.start()
        self._server.start()

    def set_healthy(self, *, healthy: bool) -> None:
        """Set the health of the server and of each service, as health checks see it."""
        status = health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.full_name for service in SERVICES)):
            self._health.set(name, status)

    def drain(self, grace_seconds: float) -> threading.Event:
        """Refuse new calls, wait for running calls up to the grace period, then end them.

        Calls that outlast the grace period end with ServerStopping shortly before its end. Returns at once, with an
        event that is set once the server has stopped.
        """
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace_seconds)
        threading.Thread(target=self._end_calls, args=(stopped, grace_seconds), name="drain", daemon=True).start()
        return stopped

    def _end_calls(self, stopped: threading.Event, grace_seconds: float) -> None:
        if not stopped.wait(max(grace_seconds - _STATUS_SECONDS, grace_seconds / 2)):
            self.open_calls.end_all(ServerStopping("the server stops; call again, or resume the stream"))
        stopped.wait(grace_seconds)
        self.open_calls.stop()
