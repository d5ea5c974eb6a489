"""From a call's metadata to the caller: the JWT says who, `orgid` for which org.

Source of the rules: RFC 7519 (JWT), RFC 8725 (JWT best practices: pin the algorithm, require the claims), and the
platform's own: a staff user may belong to several orgs, RootAdmin may act for any, Customer tokens never come in.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

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
_OUTSIDER_ROLE = "Customer"

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """What the issuer calls the claims."""

    subject: str = "sub"
    org: str = "org"
    orgs: str = "orgs"
    roles: str = "roles"
    scope: str = "scope"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must meet. `key` is the HS secret or the PEM of a public key; `audience` is the token audience."""

    key: bytes
    algorithm: str
    issuer: str
    audience: str
    claims: ClaimNames = ClaimNames()


class Authenticator:
    """Verifies calls by one set of rules."""

    def __init__(self, rules: TokenRules) -> None:
        """Read the key once, not at every call. Raises ValueError where it does not suit the algorithm."""
        self._rules = rules
        try:
            self._key = jwt.get_algorithm_by_name(rules.algorithm).prepare_key(rules.key)
        except (jwt.InvalidKeyError, TypeError, ValueError) as error:
            raise ValueError(f"does not suit {rules.algorithm}: {error}") from error
        if hasattr(self._key, "private_bytes"):
            raise ValueError("is a private key; the service needs the public one, and should hold no more")

    def authenticate(self, metadata: Metadata, required: Scope) -> Caller:
        """The caller of a method that requires a scope.

        Raises, in order: MissingToken, InvalidToken, ExpiredToken, MissingOrg, InvalidOrg, ForeignOrg, MissingScope.
        """
        values = _values(metadata)
        claims = self._claims(_bearer(values.get("authorization", [])))
        names = self._rules.claims
        subject = claims.get(names.subject)
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise InvalidToken(f"the token's {names.subject} is no text of 1 to 255 printable characters")
        roles = _text_list(claims, names.roles, separator=None)
        org = _org(values.get("orgid", []))
        if _CROSS_ORG_ROLE not in roles and org not in self._orgs(claims):
            raise ForeignOrg("the token grants no access to this org")
        scopes = self._scopes(claims, roles)
        if required not in scopes:
            raise MissingScope(f"the method requires the scope {required}", metadata={"scope": required})
        return Caller(subject, org, scopes)

    def _claims(self, token: str) -> dict[str, Any]:
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
            raise InvalidToken("the token's exp is no number")  # the library takes "123" for one
        return claims

    def _orgs(self, claims: Mapping[str, Any]) -> set[str]:
        names = self._rules.claims
        org = claims.get(names.org)
        if org is not None and not isinstance(org, str):
            raise InvalidToken(f"the token's {names.org} is no text; several orgs go into {names.orgs}")
        return {*_text_list(claims, names.orgs, separator=None), *([org] if org else [])}

    def _scopes(self, claims: Mapping[str, Any], roles: list[str]) -> frozenset[Scope]:
        """The scope claim where there is one, else what the roles grant; nothing to the platform's end-buyers."""
        if _OUTSIDER_ROLE in roles:
            return frozenset()
        if claims.get(self._rules.claims.scope) is not None:
            granted = _text_list(claims, self._rules.claims.scope, separator=" ")
            return frozenset(scope for scope in Scope if scope in granted)
        return frozenset[Scope]().union(*(SCOPES_OF_ROLE.get(role, frozenset()) for role in roles))


def _values(metadata: Metadata) -> dict[str, list[str]]:
    """All values of each key: grpc lets a key come twice, and dict() would keep the last."""
    values: dict[str, list[str]] = {}
    for key, value in metadata:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        values.setdefault(key.lower(), []).append(text)
    return values


def _bearer(values: list[str]) -> str:
    if not values:
        raise MissingToken("the call carries no `authorization` metadata")
    if len(values) > 1:
        raise InvalidToken("the call carries `authorization` more than once")
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken("`authorization` is not of the form `Bearer <JWT>`")
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"the token is larger than {MAX_TOKEN_BYTES:,} bytes")
    return token


def _org(values: list[str]) -> str:
    if not values or values == [""]:
        raise MissingOrg("the call names no org in the metadata `orgid`")
    if len(values) > 1:
        raise InvalidOrg("the call carries `orgid` more than once")
    if not _ORG_PATTERN.fullmatch(values[0]):
        raise InvalidOrg("`orgid` is not 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return values[0]


def _text_list(claims: Mapping[str, Any], name: str, separator: str | None) -> list[str]:
    """A claim that lists texts: a JSON list, or one text, which `separator` may part."""
    value = claims.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return value.split(separator) if separator else [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidToken(f"the token's {name} is neither text nor a list of texts")
    return value
