"""A client of a running server for the commands. It adds a token, and turns error statuses into messages.

Without AUDIENCE_ADDRESS and a token of its own, a command uses the settings of the server on the same machine. So a
misspelt one is refused, and a token need not appear in the list of processes.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from audience_service.cli import EX_TEMPFAIL
from audience_service.domain.core.context import Scope
from audience_service.settings_error import SettingsError

if TYPE_CHECKING:
    from audience_service.settings import ConnectionSettings, Settings

_WILDCARD_ADDRESSES = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not bound
_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before each attempt to resume a stream. A message between attempts starts the list again."""

MAX_INT32 = 2**31 - 1
"""The largest number of most fields of requests."""
_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "; no server responds at this address: start one, or set AUDIENCE_ADDRESS to another",
    grpc.StatusCode.DEADLINE_EXCEEDED: "; the server took longer than --timeout: give it more seconds",
}

Command = TypeVar("Command", bound=Callable[..., Any])
Response = TypeVar("Response", bound=Message)


class TemporaryError(click.ClickException):
    """A call failed, and the same call can succeed later."""

    exit_code = EX_TEMPFAIL


def server_address(settings: "ConnectionSettings") -> str:
    """The address of the server that these settings name, or that this machine serves with these settings."""
    if settings.address:
        return settings.address
    host, _, port = _as_server(settings).listen.rpartition(":")
    return f"{_WILDCARD_ADDRESSES.get(host, host)}:{port}"


def open_channel(settings: "ConnectionSettings") -> grpc.Channel:
    """A channel to that server, with TLS if the settings ask for it or serve it. Raises SettingsError."""
    address, credentials = server_address(settings), channel_credentials(settings)
    return grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)


def channel_credentials(settings: "ConnectionSettings") -> grpc.ChannelCredentials | None:
    """The credentials for a channel to that server, None for one without TLS. Raises SettingsError."""
    authorities = settings.cli_tls_ca_file
    if not settings.address:
        authorities = authorities or _as_server(settings).tls_certificate_file
    if not (authorities or settings.cli_tls or settings.cli_tls_certificate_file):
        return None
    paths = (authorities, settings.cli_tls_key_file, settings.cli_tls_certificate_file)
    try:
        return grpc.ssl_channel_credentials(*(path.read_bytes() if path else None for path in paths))
    except OSError as error:
        raise SettingsError(f"AUDIENCE_CLI_TLS_CA_FILE, AUDIENCE_CLI_TLS_CERTIFICATE_FILE: {error}") from None


def _as_server(settings: "ConnectionSettings") -> "Settings":
    """All settings: the given ones if they are, or those of the environment."""
    from audience_service.settings import Settings

    return settings if isinstance(settings, Settings) else Settings.load()


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The options that every command of a client has. `org` and `token` are empty by default."""

    org: str
    token: str
    timeout: float
    as_json: bool
    quiet: bool


def client_options(command: Command) -> Command:
    """The command with the options of a client, which it gets as `options`."""

    @functools.wraps(command)
    def run(**parameters: Any) -> Any:
        options = ClientOptions(*(parameters.pop(name) for name in ClientOptions.__dataclass_fields__))
        try:
            return command(options=options, **parameters)
        except UnicodeEncodeError as error:
            if error.encoding != "utf-8":
                problem = f"the output's encoding {error.encoding} has no {error.object[error.start]!a}"
                raise click.ClickException(f"{problem}; set PYTHONIOENCODING=utf-8") from None
            raise click.UsageError(f"{error.object[error.start : error.end]!a} is not UTF-8") from None
        except OSError as error:
            if isinstance(error, BrokenPipeError) or not error.strerror:
                raise  # a program such as `head` has read enough
            raise click.ClickException(f"{error.filename or 'the output'}: {error.strerror}") from None

    decorated: Any = run
    for option in (
        click.option("--quiet", is_flag=True, help="Print ids or counts alone, and no progress."),
        click.option("--json", "as_json", is_flag=True, help="Print the response as JSON."),
        click.option(
            "--timeout", default=30.0, show_default=True, type=click.FloatRange(0.1, 86_400), help="Timeout in seconds."
        ),
        click.option(
            "--token",
            default="",
            help="The caller's token. Default: AUDIENCE_CLI_TOKEN, or one signed with the server's key.",
        ),
        click.option("--org", default="", help="The org to act for. Default: AUDIENCE_ORG."),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def request_id_option(command: Command) -> Command:
    """The command with the option `--request-id`, which makes a creation safe to repeat."""
    decorated: Command = click.option(
        "--request-id",
        default=lambda: f"cli-{os.urandom(16).hex()}",
        show_default="a random one",
        help="Makes the command safe to repeat: the same id creates nothing twice.",
    )(command)
    return decorated


def _stub(module: str, name: str) -> Any:
    """An attribute: a stub, whose module is imported when a command uses it first."""

    def build(client: "Client") -> Any:
        return getattr(import_module(f"audience_service.pb.audience.v1.{module}"), name)(client.channel)

    return functools.cached_property(build)


@dataclass(frozen=True)
class Client:
    """The stubs of a server, with the metadata and timeout of one caller."""

    channel: grpc.Channel
    org: str
    metadata: tuple[tuple[str, str], ...]
    timeout: float

    segments = _stub("segment_service_pb2_grpc", "SegmentServiceStub")
    filters = _stub("filter_service_pb2_grpc", "FilterServiceStub")
    reach = _stub("reach_service_pb2_grpc", "ReachServiceStub")
    membership = _stub("membership_service_pb2_grpc", "MembershipServiceStub")
    custom_audiences = _stub("custom_audience_service_pb2_grpc", "CustomAudienceServiceStub")
    uses = _stub("audience_service_pb2_grpc", "AudienceServiceStub")
    syncs = _stub("sync_service_pb2_grpc", "SyncServiceStub")

    def call(self, rpc: Callable[..., Response], request: Message) -> Response:
        """The response of an RPC of one of the stubs. Raises grpc.RpcError."""
        return rpc(request, metadata=self.metadata, timeout=self.timeout)

    def pages(self, rpc: Callable[..., Response], request: Any) -> Iterator[Response]:
        """Each page of a list RPC, read when it is needed. Raises grpc.RpcError."""
        while True:
            response: Any = self.call(rpc, request)
            yield response
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    def items(self, rpc: Callable[..., Response], request: Any, field: str) -> Iterator[Any]:
        """Each item of all pages of a list RPC, which are in this field. Raises grpc.RpcError."""
        for page in self.pages(rpc, request):
            yield from getattr(page, field)

    def stream(
        self, rpc: Callable[..., Any], request: Any, is_last: Callable[[Any], bool], position: str = "cursor"
    ) -> Iterator[Any]:
        """The messages of a stream up to the last one. A broken stream is resumed after the last message received.

        `position` is the field of request and response with the position. Raises grpc.RpcError if resuming does not
        help.
        """
        attempts = 0
        while True:
            call = rpc(request, metadata=self.metadata)
            try:
                for message in call:
                    setattr(request, position, getattr(message, position))
                    yield message
                    attempts = 0
                    if is_last(message):
                        return
                raise click.ClickException("the stream ended before its last message; run the command again")
            except grpc.RpcError as error:
                if not is_temporary(error) or attempts == len(_RETRY_DELAYS):
                    raise
                time.sleep(_RETRY_DELAYS[attempts])
                attempts += 1
            finally:
                call.cancel()


@contextmanager
def connect(options: ClientOptions, *scopes: Scope, request_id: str = "") -> Iterator[Client]:
    """A client of the server. A token signed here has these scopes, by default to read.

    A failure that may pass by itself names the request id, with which the command can be repeated. Raises UsageError
    if no org is named, and ClickException for an error status, with its field paths.
    """
    from audience_service.settings import ConnectionSettings  # with pydantic, a third of a command's start-up

    settings = ConnectionSettings.load()
    org = options.org or settings.org
    if not org:
        raise click.UsageError("no org is named; give --org, or set AUDIENCE_ORG")
    token = options.token or _resolve_token(settings, org, scopes or (Scope.READ,))
    metadata = (("authorization", f"Bearer {token}"), ("orgid", org))
    with open_channel(settings) as channel:
        try:
            yield Client(channel, org, metadata, options.timeout)
        except grpc.RpcError as error:
            text = _format_error(error, server_address(settings))
            if not is_temporary(error):
                raise click.ClickException(text) from None
            repeat = f"\n  to repeat it safely, give --request-id {request_id}" if request_id else ""
            raise TemporaryError(text + repeat) from None


def reason_of(error: Any) -> str:
    """The reason in an error's ErrorInfo, empty if it has none."""
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    return next((info.reason for detail in (status.details if status else ()) if detail.Unpack(info)), "")


def is_temporary(error: Any) -> bool:
    """Whether the same call can succeed later: the server is unreachable or busy, or the time was too short."""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return True
    status, info = rpc_status.from_call(error), error_details_pb2.RetryInfo()
    return any(detail.Unpack(info) for detail in (status.details if status else ()))


def as_dict(message: Message) -> dict[str, Any]:
    """The JSON object of a message, with its default values."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def _resolve_token(settings: "ConnectionSettings", org: str, scopes: tuple[Scope, ...]) -> str:
    if settings.cli_token:
        return settings.cli_token.get_secret_value()
    server = _as_server(settings)
    if not server.has_key:
        raise SettingsError(
            "AUDIENCE_CLI_TOKEN: is missing; set it, give --token, or set the server's AUDIENCE_JWT_KEY"
        )
    from audience_service.cli.token import mint  # 40 ms, and only this case needs it

    return mint(server, org=org, subject="cli", scopes=scopes)


def _format_error(error: Any, address: str) -> str:
    """The text of an error: reason, message and metadata, and a line for each invalid field if there are several."""
    status = rpc_status.from_call(error)
    if status is None:
        return f"{address}: {error.code().name}{_HINTS.get(error.code(), '')}"
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
