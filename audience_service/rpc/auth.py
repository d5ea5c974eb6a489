"""Authenticates calls: the JWT in `authorization` identifies the caller, `orgid` names the org.

Sources of the rules: RFC 7519 (JWT), RFC 8725 (JWT best practices: the key decides the algorithm, claims are required,
types are explicit) and RFC 9068 (the type of access tokens). The platform adds three rules. A staff user may belong to
several orgs. RootAdmin may act for any org. Customer tokens get no access.

A verified token is remembered until it expires or the keys change, so its signature is checked once. Its org and scope
are checked in every call.
"""

import base64
import binascii
import hashlib
import re
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
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
    TokenKeysOutdated,
    UnknownTokenKey,
)
from audience_service.rpc.key_ring import KeyRing
from audience_service.rpc.token_keys import DuplicateNameError, KeySet, TokenKey, read_strict_json

MAX_TOKEN_BYTES = 8 * 1024
MAX_CACHED_TOKENS = 4_096
_TOKEN_FORM = re.compile(r"([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII)
_ORG_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_TYPES = ("jwt", "at+jwt", "application/at+jwt", "application/jwt")
_MAX_TIME = 253_402_300_799
"""The end of the year 9999, in seconds since 1970."""
_CROSS_ORG_ROLE = "RootAdmin"
_NO_ACCESS_ROLE = "Customer"
_SIGNATURES = jwt.PyJWS()

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
    """The requirements of a token. `audience` is its `aud`; clocks may differ by `leeway_seconds`."""

    issuer: str
    audience: str
    claims: ClaimNames = ClaimNames()
    leeway_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The content of a token that a key has signed. `expires_at` is in seconds since 1970, with the leeway."""

    subject: str
    orgs: frozenset[str]
    is_cross_org: bool
    scopes: frozenset[Scope]
    expires_at: float


class TokenCache:
    """The verified tokens that were used last, by digest. It contains no token."""

    def __init__(self, size: int = MAX_CACHED_TOKENS) -> None:
        self._size = size
        self._tokens: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> VerifiedToken | None:
        """The token with this digest, or None."""
        with self._lock:
            found = self._tokens.get(digest)
            if found:
                self._tokens.move_to_end(digest)
            return found

    def add(self, digest: bytes, token: VerifiedToken) -> None:
        """Remember a token, and forget the one that was not used for the longest time if there are too many."""
        with self._lock:
            self._tokens[digest] = token
            if len(self._tokens) > self._size:
                self._tokens.popitem(last=False)


class Authenticator:
    """Verifies calls by the rules, with the current keys."""

    def __init__(self, rules: TokenRules, keys: KeyRing, now: Callable[[], float] = time.time) -> None:
        """`now` returns the seconds since 1970."""
        self._rules = rules
        self._key_ring = keys
        self._now = now
        self._cached: tuple[KeySet, TokenCache] = keys.keys, TokenCache()

    def authenticate(self, metadata: Metadata, required: Scope) -> Caller:
        """The verified caller of a method that requires the scope.

        Raises, checked in this order: MissingToken, InvalidToken, UnknownTokenKey, TokenKeysOutdated, ExpiredToken,
        MissingOrg, InvalidOrg, ForeignOrg, MissingScope.
        """
        values = _group_values(metadata)
        verified = self._verified(_read_bearer_token(values.get("authorization", [])))
        structlog.contextvars.bind_contextvars(subject=verified.subject)  # refusals below are logged with it
        org = _read_org(values.get("orgid", []))
        if not verified.is_cross_org and org not in verified.orgs:
            raise ForeignOrg("the token grants no access to this org")
        if required not in verified.scopes:
            raise MissingScope(f"the method requires the scope {required}", metadata={"scope": required})
        return Caller(verified.subject, org, verified.scopes)

    def _verified(self, token: str) -> VerifiedToken:
        keys = self._key_ring.keys
        cached_keys, cache = self._cached
        if cached_keys is not keys:
            cache = TokenCache()
            self._cached = keys, cache
        digest = hashlib.sha256(token.encode()).digest()
        if found := cache.get(digest):
            if found.expires_at <= self._now():
                raise ExpiredToken("the token has expired")
            return found
        verified = self._verify(token, keys)
        cache.add(digest, verified)
        return verified

    def _verify(self, token: str, keys: KeySet) -> VerifiedToken:
        header, payload = self._check_signature(token, keys)
        if str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise _invalid("typ", "the token's typ is not JWT or at+jwt; send an access token")
        names = self._rules.claims
        claims = _read_object(payload, "payload")
        expires_at = self._check_times(claims)
        audiences = _read_texts(claims, "aud", separator=None)
        if claims.get("iss") != self._rules.issuer:
            raise _invalid("iss", f"the token's iss is not {self._rules.issuer}")
        if self._rules.audience not in audiences:
            raise _invalid("aud", f"the token's aud does not name {self._rules.audience}")
        subject = claims.get(names.subject)
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise _invalid(names.subject, f"the token's {names.subject} is not text of 1 to 255 printable characters")
        roles = _read_texts(claims, names.roles, separator=None)
        return VerifiedToken(
            subject, self._read_orgs(claims), _CROSS_ORG_ROLE in roles, self._read_scopes(claims, roles), expires_at
        )

    def _check_signature(self, token: str, keys: KeySet) -> tuple[Mapping[str, Any], bytes]:
        """The header and the payload of a token that one of the keys has signed."""
        form = _TOKEN_FORM.fullmatch(token)
        if not form:
            raise _invalid("form", "the token is not a signed JWT: three parts of base64url with dots between them")
        header = _read_object(_decode_base64(form[1], "header"), "header")
        kid, algorithm = header.get("kid"), header.get("alg")
        if kid is not None and not isinstance(kid, str):
            raise _invalid("kid", "the token's kid is not text")
        if "crit" in header:
            raise _invalid("crit", "the token's crit names extensions, none of which this service knows")
        candidates = keys.candidates(kid)
        if not isinstance(algorithm, str):
            raise _invalid("alg", "the token names no alg")
        suitable = [key for key in candidates if algorithm in key.algorithms]
        if any(_signs(key, token, algorithm) for key in suitable):
            return header, _decode_base64(form[2], "payload")
        if kid is not None and not keys.has(kid):
            self._refuse_unknown_key(has_candidates=bool(candidates))
        if not candidates:
            raise _invalid("kid", "the token names no key; let the issuer set kid in its header")
        if not suitable:
            raise _invalid("alg", "the token's alg does not suit its key or is not accepted")
        raise _invalid("signature", "the token's signature is wrong")

    def _refuse_unknown_key(self, *, has_candidates: bool) -> None:
        """Raise, unless the keys are recent and one without an id could have signed the token."""
        if not self._key_ring.is_recent:
            self._key_ring.request_refresh()
            raise TokenKeysOutdated("the token is signed with a key that may be new; the keys are being read again")
        if not has_candidates:
            raise UnknownTokenKey("the token is signed with a key that its issuer does not publish")

    def _check_times(self, claims: Mapping[str, Any]) -> float:
        """The time until which the token is valid, with the leeway."""
        now, leeway = self._now(), self._rules.leeway_seconds
        times = {name: _read_time(claims, name) for name in ("exp", "nbf", "iat")}
        expires_at = times["exp"]
        if expires_at is None:
            raise _invalid("exp", "the token has no exp")
        if expires_at + leeway <= now:
            raise ExpiredToken("the token has expired")
        for name in ("nbf", "iat"):
            if (times[name] or 0) > now + leeway:
                raise _invalid(name, f"the token's {name} is in the future; check the clocks of issuer and service")
        return expires_at + leeway

    def _read_orgs(self, claims: Mapping[str, Any]) -> frozenset[str]:
        names = self._rules.claims
        org = claims.get(names.org)
        if org is not None and not isinstance(org, str):
            raise _invalid(names.org, f"the token's {names.org} is not text; put a list of orgs into {names.orgs}")
        return frozenset((*_read_texts(claims, names.orgs, separator=None), *([org] if org else [])))

    def _read_scopes(self, claims: Mapping[str, Any], roles: list[str]) -> frozenset[Scope]:
        """The scopes in the scope claim, else those of the roles. Empty for the platform's end-buyers.

        Roles are compared exactly, except the one that takes access away: no spelling of it may miss.
        """
        if any(_fold_role(role) == _fold_role(_NO_ACCESS_ROLE) for role in roles):
            return frozenset()
        if claims.get(self._rules.claims.scope) is not None:
            granted = _read_texts(claims, self._rules.claims.scope, separator=" ")
            return frozenset(scope for scope in Scope if scope in granted)
        return frozenset[Scope]().union(*(SCOPES_OF_ROLE.get(role, frozenset()) for role in roles))


def _signs(key: TokenKey, token: str, algorithm: str) -> bool:
    try:
        _SIGNATURES.decode_complete(token, key.material, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return False
    return True


def _fold_role(role: str) -> str:
    """A role without case, width, spaces and signs: `Customer`, `customer ` and `CUSTOMER\u200b` are equal."""
    folded = unicodedata.normalize("NFKC", role).casefold()
    return "".join(character for character in folded if character.isalnum())


def _read_object(content: bytes, part: str) -> dict[str, Any]:
    try:
        found = read_strict_json(content)
    except DuplicateNameError:
        raise _invalid("duplicate_name", f"the token's {part} has one name twice, with two meanings") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _invalid(part, f"the token's {part} is not a JSON object")
    return found


def _decode_base64(text: str, part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise _invalid(part, f"the token's {part} is not base64url") from None


def _read_time(claims: Mapping[str, Any], name: str) -> int | None:
    """A claim in whole seconds since 1970, until the year 9999; None without the claim."""
    value = claims.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MAX_TIME:
        raise _invalid(name, f"the token's {name} is not a time in whole seconds since 1970")
    return value


def _invalid(problem: str, message: str) -> InvalidToken:
    """The error; `problem` names the part of the token, and nothing of the token's content is shown."""
    return InvalidToken(message, metadata={"problem": problem})


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
        raise _invalid("authorization", "the metadata `authorization` is set more than once; set it once")
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken("the metadata `authorization` is not of the form `Bearer <JWT>`")
    if len(token) > MAX_TOKEN_BYTES:
        raise _invalid("size", f"the token is larger than {MAX_TOKEN_BYTES:,} bytes")
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
        raise _invalid(name, f"the token's {name} is neither text nor a list of texts; use one of them")
    return value
