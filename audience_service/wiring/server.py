"""Builds the gRPC server's authenticator and options."""

import functools
import logging
import sys
from logging.handlers import WatchedFileHandler

from audience_service.rpc.admission import CallLimits
from audience_service.rpc.audit import AuditLog
from audience_service.rpc.auth import Authenticator, ClaimNames, TokenRules
from audience_service.rpc.call_observer import CallLogOptions, CallObserver
from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.interceptor import Timeouts
from audience_service.rpc.key_ring import KeyRing, fetch_jwks, is_trustworthy_url
from audience_service.rpc.permits import Shares
from audience_service.rpc.server import ServerOptions
from audience_service.rpc.slow_calls import SlowCallLog
from audience_service.rpc.tls import TlsFiles
from audience_service.rpc.token_keys import KeySource, KeySourceError
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.token_keys import local_key_sources


def token_rules(settings: Settings) -> TokenRules:
    """The rules that tokens are verified by."""
    return TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        claims=ClaimNames(
            subject=settings.jwt_claim_subject,
            org=settings.jwt_claim_org,
            orgs=settings.jwt_claim_orgs,
            roles=settings.jwt_claim_roles,
            scope=settings.jwt_claim_scope,
        ),
        leeway_seconds=settings.jwt_leeway_seconds,
    )


def build_key_ring(settings: Settings) -> KeyRing:
    """The keys that verify tokens, read now. Raises SettingsError if there is none, or an unusable or weak one."""
    if not settings.has_key:
        raise SettingsError(
            "AUDIENCE_JWT_KEY: is missing; set it, AUDIENCE_JWT_KEY_FILE or AUDIENCE_JWT_JWKS_URL, or serve with --dev"
        )
    sources = local_key_sources(settings)
    if settings.jwt_jwks_url:
        if not is_trustworthy_url(settings.jwt_jwks_url):
            raise SettingsError("AUDIENCE_JWT_JWKS_URL: is not an HTTPS URL; HTTP is accepted from this machine only")
        read = functools.partial(fetch_jwks, settings.jwt_jwks_url)
        sources.append(KeySource("AUDIENCE_JWT_JWKS_URL", read, settings.jwt_algorithms, is_published=True))
    try:
        return KeyRing(sources, settings.jwt_refresh_seconds)
    except KeySourceError as error:
        raise SettingsError(str(error)) from None


def call_limits(settings: Settings) -> CallLimits:
    """The limits of concurrent calls."""
    return CallLimits(
        reads=settings.max_concurrent_reads,
        queries=settings.max_concurrent_queries,
        analyses=settings.max_concurrent_analyses,
        streams=settings.max_streams,
        watch_streams=settings.max_watch_streams,
        shares=Shares(settings.org_share, settings.caller_share),
        org_rate=settings.rate_limit_per_org,
        caller_rate=settings.rate_limit_per_caller,
    )


def timeouts(settings: Settings) -> Timeouts:
    """The timeouts of calls."""
    return Timeouts(
        unary=settings.unary_timeout_seconds,
        stream=settings.stream_timeout_seconds,
        request=settings.request_timeout_seconds,
        idle=settings.stream_send_timeout_seconds,
    )


def build_observer(settings: Settings, slow_calls: SlowCallLog) -> CallObserver:
    """The observer of all calls."""
    orgs = frozenset(settings.metrics_orgs)
    options = CallLogOptions(settings.access_log, settings.access_log_success_share, orgs)
    return CallObserver(SERVICES, options, slow_calls)


def server_options(settings: Settings) -> ServerOptions:
    """The options of the gRPC server."""
    return ServerOptions(
        listen=settings.listen,
        limits=call_limits(settings),
        timeouts=timeouts(settings),
        max_connection_age_seconds=settings.max_connection_age_seconds,
        reflection=settings.reflection,
        share_port=settings.workers > 1,
        tls=_tls_files(settings),
    )


def build_authenticator(settings: Settings, keys: KeyRing) -> Authenticator:
    """The authenticator."""
    return Authenticator(token_rules(settings), keys)


def _tls_files(settings: Settings) -> TlsFiles | None:
    """The files of the server's certificate; None without TLS. Raises SettingsError if one cannot be read."""
    if not (settings.tls_certificate_file and settings.tls_key_file):
        return None
    files = TlsFiles(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
    try:
        files.read()
    except OSError as error:
        raise SettingsError(f"AUDIENCE_TLS_CERTIFICATE_FILE, AUDIENCE_TLS_KEY_FILE: {error}") from None
    return files


def open_audit_log(settings: Settings) -> AuditLog:
    """The audit log at its destination. Raises SettingsError if its file cannot be written."""
    destination = settings.audit_log
    if destination == "off":
        return AuditLog()
    if destination in ("stdout", "stderr"):
        return AuditLog(logging.StreamHandler(getattr(sys, destination)))
    try:
        return AuditLog(WatchedFileHandler(destination, encoding="utf-8"))  # it follows a file that is rotated
    except OSError as error:
        raise SettingsError(f"AUDIENCE_AUDIT_LOG: cannot write {destination}: {error.strerror}") from None
