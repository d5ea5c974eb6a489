"""Authenticates calls: the JWT in `authorization` identifies the caller, `orgid` names the org.

Sources of the rules: RFC 7519 (JWT) and RFC 8725 (JWT best practices: pin the algorithm, require the claims).
The platform adds three rules. A staff user may belong to several orgs. RootAdmin may act for any org. Customer tokens
get no access.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import structlog

from audience_service.domain.core.context import SCOPES_OF_ROLE, Caller, Scope
from audience_service.domain.core.errors import (
    ExpiredToken,
    ForeignOrg,
    InvalidOrg,
    InvalidToken,
    MissingOrg,
    MissingScope,
    MissingToken,
)

MAX_TOKEN_BYTES = 8 * 1024
_ORG_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_CROSS_ORG_ROLE = "RootAdmin"
_NO_ACCESS_ROLE = "Customer"

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """The names of the claims in the issuer's tokens."""

    subject: str = "sub"
    org: str = "org"
    orgs: str = "orgs"
    roles: str = "roles"
    scope: str = "scope"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The requirements of a token. `key` is the HS secret or a public key as PEM; `audience` is the token's `aud`."""

    key: bytes
    algorithm: str
    issuer: str
    audience: str
    claims: ClaimNames = ClaimNames()


class Authenticator:
    """Verifies calls by one set of token rules."""

    def __init__(self, rules: TokenRules) -> None:
        """Parse the key once, not for every call. Raises ValueError if it does not suit the algorithm."""
        self._rules = rules
        try:
            self._key = jwt.get_algorithm_by_name(rules.algorithm).prepare_key(rules.key)
        except (jwt.InvalidKeyError, TypeError, ValueError) as error:
            raise ValueError(f"does not suit {rules.algorithm}: {error}") from error
        if hasattr(self._key, "private_bytes"):
            raise ValueError("is a private key; set the public key, which is all that verification needs")

    def authenticate(self, metadata: Metadata, required: Scope) -> Caller:
        """The verified caller of a method that requires the scope.

        Raises, checked in this order: MissingToken, InvalidToken, ExpiredToken, MissingOrg, InvalidOrg, ForeignOrg,
        MissingScope.
        """
        values = _group_values(metadata)
        claims = self._verify_claims(_read_bearer_token(values.get("authorization", [])))
        names = self._rules.claims
        subject = claims.get(names.subject)
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise InvalidToken(f"the token's {names.subject} is invalid; use text of 1 to 255 printable characters")
        structlog.contextvars.bind_contextvars(subject=subject)  # refusals below are logged with it
        roles = _read_texts(claims, names.roles, separator=None)
        org = _read_org(values.get("orgid", []))
        if _CROSS_ORG_ROLE not in roles and org not in self._read_orgs(claims):
            raise ForeignOrg("the token grants no access to this org")
        scopes = self._read_scopes(claims, roles)
        if required not in scopes:
            raise MissingScope(f"the method requires the scope {required}", metadata={"scope": required})
        return Caller(subject, org, scopes)

    def _verify_claims(self, token: str) -> dict[str, Any]:
        rules = self._rules
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[rules.algorithm],
                issuer=rules.issuer,
                audience=rules.audience,
                options={"require": ["exp", "iss", "aud", rules.claims.subject], "verify_sub": False},
            )
        except jwt.ExpiredSignatureError:
            raise ExpiredToken("the token has expired") from None
        except jwt.InvalidTokenError as error:
            raise InvalidToken(f"the token cannot be trusted: {error}") from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken("the token cannot be read") from None
        if not isinstance(claims["exp"], int | float) or isinstance(claims["exp"], bool):
            raise InvalidToken("the token's exp is not a number")  # PyJWT accepts the text "123"
        return claims

    def _read_orgs(self, claims: Mapping[str, Any]) -> set[str]:
        names = self._rules.claims
        org = claims.get(names.org)
        if org is not None and not isinstance(org, str):
            raise InvalidToken(f"the token's {names.org} is not text; put a list of orgs into {names.orgs}")
        return {*_read_texts(claims, names.orgs, separator=None), *([org] if org else [])}

    def _read_scopes(self, claims: Mapping[str, Any], roles: list[str]) -> frozenset[Scope]:
        """The scopes in the scope claim, else those of the roles. Empty for the platform's end-buyers."""
        if _NO_ACCESS_ROLE in roles:
            return frozenset()
        if claims.get(self._rules.claims.scope) is not None:
            granted = _read_texts(claims, self._rules.claims.scope, separator=" ")
            return frozenset(scope for scope in Scope if scope in granted)
        return frozenset[Scope]().union(*(SCOPES_OF_ROLE.get(role, frozenset()) for role in roles))


def _group_values(metadata: Metadata) -> dict[str, list[str]]:
    """All values of each key. grpc allows duplicate keys, of which dict() would keep only the last."""
    values: dict[str, list[str]] = {}
    for key, value in metadata:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        values.setdefault(key.lower(), []).append(text)
    return values


def _read_bearer_token(values: list[str]) -> str:
    if not values:
        raise MissingToken("the metadata `authorization` is missing; set it to `Bearer <JWT>`")
    if len(values) > 1:
        raise InvalidToken("the metadata `authorization` is set more than once; set it once")
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken("the metadata `authorization` is not of the form `Bearer <JWT>`")
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"the token is larger than {MAX_TOKEN_BYTES:,} bytes")
    return token


def _read_org(values: list[str]) -> str:
    if not values or values == [""]:
        raise MissingOrg("the metadata `orgid` is missing; set it to the org's id")
    if len(values) > 1:
        raise InvalidOrg("the metadata `orgid` is set more than once; set it once")
    if not _ORG_PATTERN.fullmatch(values[0]):
        raise InvalidOrg("the metadata `orgid` is invalid; use 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return values[0]


def _read_texts(claims: Mapping[str, Any], name: str, separator: str | None) -> list[str]:
    """The values of a claim: those of a JSON list, or a text, split at `separator` if that is given."""
    value = claims.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return value.split(separator) if separator else [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidToken(f"the token's {name} is neither text nor a list of texts; use one of them")
    return value
