"""Builds the gRPC server's authenticator and options."""

import logging
import sys
from logging.handlers import WatchedFileHandler

from audience_service.rpc.audit import AuditLog
from audience_service.rpc.auth import Authenticator, ClaimNames, TokenRules
from audience_service.rpc.interceptor import Timeouts
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
