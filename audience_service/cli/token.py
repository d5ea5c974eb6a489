"""`audience-service token`: development tokens, signed with the key in the service's settings."""

import time
from pathlib import Path
from typing import Any

import click
import jwt

from audience_service.domain.core.context import SCOPES_OF_ROLE, Scope
from audience_service.settings import Settings, SettingsError


def mint(
    settings: Settings,
    *,
    org: str,
    subject: str,
    scopes: tuple[str, ...] = tuple(Scope),
    roles: tuple[str, ...] = (),
    ttl_seconds: int = 3600,
    key: bytes | None = None,
) -> str:
    """A token that the service accepts. `key` is the private key if the settings have a public one.

    Raises SettingsError if the key cannot sign.
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
    try:
        return jwt.encode(claims, key or settings.key(), algorithm=settings.jwt_algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"the key cannot sign {settings.jwt_algorithm} tokens ({error}); give the private one with --private-key"
        ) from None


@click.command()
@click.option("--org", required=True, help="The org that the caller acts for.")
@click.option("--subject", default="dev", show_default=True, help="The caller's subject.")
@click.option("--scopes", default="", help=f"Scopes, separated by spaces or commas: {' '.join(Scope)}.")
@click.option("--roles", default="", help=f"Comma-separated roles: {', '.join(SCOPES_OF_ROLE)}.")
@click.option(
    "--ttl", default=3600, show_default=True, help="Seconds until the token expires; negative for an expired one."
)
@click.option(
    "--private-key", type=click.Path(path_type=Path, exists=True), help="PEM file to sign with (RS, PS, ES, EdDSA)."
)
def token(*, org: str, subject: str, scopes: str, roles: str, ttl: int, private_key: Path | None) -> None:
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
        )
    )
