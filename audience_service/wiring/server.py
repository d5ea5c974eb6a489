"""Builds the gRPC server's authenticator and options."""

from audience_service.rpc.admission import CallLimits
from audience_service.rpc.auth import Authenticator, ClaimNames, TokenRules
from audience_service.rpc.interceptor import Timeouts
from audience_service.rpc.permits import Shares
from audience_service.rpc.server import ServerOptions
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


def call_limits(settings: Settings) -> CallLimits:
    """The limits of concurrent calls."""
    return CallLimits(
        reads=settings.max_concurrent_reads,
        queries=settings.max_concurrent_queries,
        analyses=settings.max_concurrent_analyses,
        streams=settings.max_streams,
        watch_streams=settings.max_watch_streams,
        shares=Shares(settings.org_share, settings.caller_share),
    )


def timeouts(settings: Settings) -> Timeouts:
    """The timeouts of calls."""
    return Timeouts(
        unary=settings.unary_timeout_seconds,
        stream=settings.stream_timeout_seconds,
        request=settings.request_timeout_seconds,
        idle=settings.stream_send_timeout_seconds,
    )


def server_options(settings: Settings) -> ServerOptions:
    """The options of the gRPC server."""
    return ServerOptions(
        listen=settings.listen,
        limits=call_limits(settings),
        timeouts=timeouts(settings),
        max_connection_age_seconds=settings.max_connection_age_seconds,
        reflection=settings.reflection,
        share_port=settings.workers > 1,
    )
