"""A client of a running server for the commands. It adds a token, and turns error statuses into messages.

The commands use the server's settings. So a misspelt one is refused, and a token need not appear in the list of
processes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from audience_service.cli.token import mint
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub
from audience_service.settings import Settings, SettingsError

_WILDCARD_ADDRESSES = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not bound

Command = TypeVar("Command", bound=Callable[..., Any])
Response = TypeVar("Response", bound=Message)


def server_address(settings: Settings) -> str:
    """The address at which this machine reaches a server with these settings."""
    host, _, port = settings.listen.rpartition(":")
    return f"{_WILDCARD_ADDRESSES.get(host, host)}:{port}"


def open_channel(settings: Settings) -> grpc.Channel:
    """A channel to the server with these settings, with TLS if it has a certificate. Raises SettingsError."""
    address, credentials = server_address(settings), channel_credentials(settings)
    return grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """The credentials for a server with these settings, None if it has no certificate. Raises SettingsError."""
    if not (settings.tls_certificate_file or settings.cli_tls_ca_file):
        return None
    paths = (
        settings.cli_tls_ca_file or settings.tls_certificate_file,
        settings.cli_tls_key_file,
        settings.cli_tls_certificate_file,
    )
    try:
        return grpc.ssl_channel_credentials(*(path.read_bytes() if path else None for path in paths))
    except OSError as error:
        raise SettingsError(f"AUDIENCE_CLI_TLS_CA_FILE, AUDIENCE_CLI_TLS_CERTIFICATE_FILE: {error}") from None


def client_options(command: Command) -> Command:
    """The command with the options of a client: `org`, `token`, `timeout` and `as_json`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the response as JSON."),
        click.option(
            "--timeout", default=30.0, show_default=True, type=click.FloatRange(0.1), help="Timeout in seconds."
        ),
        click.option(
            "--token",
            default="",
            help="The caller's token. Default: AUDIENCE_CLI_TOKEN, or one signed with the server's key.",
        ),
        click.option("--org", required=True, help="The org to act for."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Client:
    """The stubs of a server, with the metadata and timeout of one caller."""

    segments: Any
    reach: Any
    membership: Any
    custom_audiences: Any
    metadata: tuple[tuple[str, str], ...]
    timeout: float

    def call(self, rpc: Callable[..., Response], request: Message) -> Response:
        """The response of an RPC of one of the stubs. Raises grpc.RpcError."""
        return rpc(request, metadata=self.metadata, timeout=self.timeout)


@contextmanager
def connect(org: str, token: str, timeout: float, scopes: tuple[Scope, ...] = (Scope.READ,)) -> Iterator[Client]:
    """A client of the server at AUDIENCE_LISTEN. Raises ClickException for an error status, with its field paths."""
    settings = Settings.load()
    address = server_address(settings)
    metadata = (("authorization", f"Bearer {token or _resolve_token(settings, org, scopes)}"), ("orgid", org))
    with open_channel(settings) as channel:
        stubs = (SegmentServiceStub, ReachServiceStub, MembershipServiceStub, CustomAudienceServiceStub)
        try:
            segments, reach, membership, custom_audiences = (stub(channel) for stub in stubs)
            yield Client(segments, reach, membership, custom_audiences, metadata, timeout)
        except grpc.RpcError as error:
            raise click.ClickException(_format_error(error, address)) from None


def reason_of(error: Any) -> str:
    """The reason in an error's ErrorInfo, empty if it has none."""
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    return next((info.reason for detail in (status.details if status else ()) if detail.Unpack(info)), "")


def as_dict(message: Message) -> dict[str, Any]:
    """The JSON object of a message, with its default values."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def _resolve_token(settings: Settings, org: str, scopes: tuple[Scope, ...]) -> str:
    if settings.cli_token:
        return settings.cli_token.get_secret_value()
    if not settings.has_key:
        raise SettingsError(
            "AUDIENCE_CLI_TOKEN: is missing; set it, give --token, or set the server's AUDIENCE_JWT_KEY"
        )
    return mint(settings, org=org, subject="cli", scopes=scopes)


def _format_error(error: Any, address: str) -> str:
    """The text of an error: reason, message and metadata, and a line for each invalid field if there are several."""
    status = rpc_status.from_call(error)
    if status is None:
        hint = "; no server responds at this address: start one, or set AUDIENCE_LISTEN to another"
        return f"{address}: {error.code().name}{hint if error.code() is grpc.StatusCode.UNAVAILABLE else ''}"
    lines = [status.message]
    for detail in status.details:
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            lines[0] = f"{info.reason}: {status.message}{_format_metadata(info.metadata)}"
        elif detail.Unpack(request) and len(request.field_violations) > 1:
            lines += [f"  {violation.field}: {violation.description}" for violation in request.field_violations]
    return "\n".join(lines)


def _format_metadata(metadata: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{name} {value}" for name, value in sorted(metadata.items()))
    return f" ({pairs})" if pairs else ""
