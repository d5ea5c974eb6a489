"""`audience-service token`: development tokens, signed with a secret of the service's settings, or with another key."""

import time
from pathlib import Path
from typing import Any

import click
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from audience_service.domain.core.context import SCOPES_OF_ROLE, Scope
from audience_service.rpc.token_keys import KeySourceError, suitable_algorithms
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.token_keys import local_key_sources


def mint(
    settings: Settings,
    *,
    org: str,
    subject: str,
    scopes: tuple[str, ...] = tuple(Scope),
    roles: tuple[str, ...] = (),
    ttl_seconds: int = 3600,
    key: bytes | None = None,
    kid: str | None = None,
) -> str:
    """A token that the service accepts. `key` is a private key as PEM or a secret, and `kid` its id.

    By default the settings' first secret signs, and `kid` is the id that the settings give the key. Raises
    SettingsError if no key can sign.
    """
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "iat": now,
        "exp": now + ttl_seconds,
        settings.jwt_claim_subject: subject,
        settings.jwt_claim_org: org,
    }
    if scopes:
        claims[settings.jwt_claim_scope] = " ".join(scopes)
    if roles:
        claims[settings.jwt_claim_roles] = list(roles)
    signing_key, algorithm, known_kid = _signing_key(settings, key)
    kid = kid or known_kid
    return jwt.encode(claims, signing_key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def _signing_key(settings: Settings, content: bytes | None) -> tuple[Any, str, str | None]:
    """The key that signs, its algorithm, and its id in the settings."""
    try:
        verifying = [key for source in local_key_sources(settings) for key in source.load()]
    except KeySourceError as error:
        raise SettingsError(str(error)) from None
    if content is None:
        key = next((key for key in verifying if isinstance(key.material, bytes)), None)
        if key is None:
            raise SettingsError(
                "the settings have no secret that can sign a token; give a key with --private-key, or a token"
            )
        return key.material, next(name for name in settings.jwt_algorithms if name in key.algorithms), key.kid
    try:
        signing_key: Any = content.strip()
        public = signing_key
        if b"-----BEGIN" in content:
            signing_key = serialization.load_pem_private_key(content, None)
            public = signing_key.public_key()
        algorithms = suitable_algorithms(public, settings.jwt_algorithms)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"--private-key: {error}") from None
    if not algorithms:
        raise SettingsError(f"--private-key: does not suit {', '.join(settings.jwt_algorithms)}")
    return signing_key, algorithms[0], next((key.kid for key in verifying if key.material == public), None)


@click.command()
@click.option("--org", required=True, help="The org that the caller acts for.")
@click.option("--subject", default="dev", show_default=True, help="The caller's subject.")
@click.option("--scopes", default="", help=f"Scopes, separated by spaces or commas: {' '.join(Scope)}.")
@click.option("--roles", default="", help=f"Comma-separated roles: {', '.join(SCOPES_OF_ROLE)}.")
@click.option(
    "--ttl", default=3600, show_default=True, help="Seconds until the token expires; negative for an expired one."
)
@click.option(
    "--private-key", type=click.Path(path_type=Path, exists=True), help="File to sign with: a private key as PEM."
)
@click.option("--kid", help="The id of the key, for the token's header.  [default: the id in the settings]")
def token(
    *, org: str, subject: str, scopes: str, roles: str, ttl: int, private_key: Path | None, kid: str | None
) -> None:
    """Print a token for development. Without --scopes and --roles it has every scope."""
    requested_scopes = tuple(scopes.replace(",", " ").split())
    if unknown := set(requested_scopes) - set(Scope):
        raise click.BadParameter(f"{sorted(unknown)[0]} is not a scope; use {', '.join(Scope)}", param_hint="--scopes")
    role_names = tuple(role.strip() for role in roles.split(",") if role.strip())
    if not requested_scopes and not role_names:
        requested_scopes = tuple(Scope)
    key = private_key.read_bytes() if private_key else None
    click.echo(
        mint(
            Settings.load(),
            org=org,
            subject=subject,
            scopes=requested_scopes,
            roles=role_names,
            ttl_seconds=ttl,
            key=key,
            kid=kid,
        )
    )
