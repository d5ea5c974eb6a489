"""Builds the gRPC server's authenticator and options."""

from audience_service.rpc.auth import Authenticator, ClaimNames, TokenRules
from audience_service.rpc.calls import CallLogOptions, CallObserver
from audience_service.rpc.interceptor import Timeouts
from audience_service.rpc.server import SERVICES, ServerOptions
from audience_service.rpc.slow_calls import SlowCallLog
from audience_service.settings import Settings, SettingsError


def token_rules(settings: Settings) -> TokenRules:
    """The rules that tokens are verified by. Raises SettingsError."""
    return TokenRules(
        key=settings.key(),
        algorithm=settings.jwt_algorithm,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        claims=ClaimNames(
            subject=settings.jwt_claim_subject,
            org=settings.jwt_claim_org,
            orgs=settings.jwt_claim_orgs,
            roles=settings.jwt_claim_roles,
            scope=settings.jwt_claim_scope,
        ),
    )


def build_authenticator(settings: Settings) -> Authenticator:
    """The authenticator. Raises SettingsError if the key does not fit its algorithm."""
    try:
        return Authenticator(token_rules(settings))
    except ValueError as error:
        raise SettingsError(f"AUDIENCE_JWT_KEY: {error}") from None


def build_observer(settings: Settings, slow_calls: SlowCallLog) -> CallObserver:
    """The observer of all calls."""
    orgs = frozenset(settings.metrics_orgs)
    options = CallLogOptions(settings.access_log, settings.access_log_success_share, orgs)
    return CallObserver(SERVICES, options, slow_calls)


def server_options(settings: Settings) -> ServerOptions:
    """The options of the gRPC server."""
    return ServerOptions(
        listen=settings.listen,
        threads=settings.threads,
        max_streams=settings.max_streams,
        stream_send_timeout_seconds=settings.stream_send_timeout_seconds,
        timeouts=Timeouts(settings.unary_timeout_seconds, settings.stream_timeout_seconds),
        reflection=settings.reflection,
        share_port=settings.workers > 1,
    )
