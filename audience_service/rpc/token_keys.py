"""The keys that verify tokens, from secrets, PEM and JWKS (RFC 7517), each bound to the algorithms that suit it.

A key takes no part in the choice of its algorithm (RFC 8725, section 3.1): a public key never verifies an HMAC, and an
elliptic curve has one algorithm. Weak keys are refused: RSA below 2,048 bits (RFC 7518, section 3.3) and secrets
shorter than the hash (section 3.2).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_HASH_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PUBLIC_TYPES = ("RSA", "EC", "OKP")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that verifies tokens. `kid` is its id, None if it has none; `fingerprint` is equal for equal keys."""

    kid: str | None
    algorithms: frozenset[str]
    material: Any
    """What PyJWT verifies with: bytes of a secret, or a public key."""
    fingerprint: bytes


class KeySet:
    """Keys by id. Raises ValueError if two keys have the same id."""

    def __init__(self, keys: Iterable[TokenKey]) -> None:
        self._named: dict[str, TokenKey] = {}
        unnamed: list[TokenKey] = []
        for key in keys:
            if key.kid is None:
                unnamed.append(key)
            elif self._named.setdefault(key.kid, key).fingerprint != key.fingerprint:
                raise ValueError(f"has two keys with the id {key.kid[:50]!r}; give each key an id of its own")
        self._unnamed = tuple(unnamed)
        self.fingerprint = frozenset((key.kid, key.fingerprint, key.algorithms) for key in self)

    def __iter__(self) -> Iterator[TokenKey]:
        """All keys."""
        yield from self._named.values()
        yield from self._unnamed

    def has(self, kid: str | None) -> bool:
        """Whether a key has this id."""
        return kid in self._named

    def candidates(self, kid: str | None) -> tuple[TokenKey, ...]:
        """The keys that may verify a token: the one with the id that its header names, else those without an id."""
        return (self._named[kid],) if kid in self._named else self._unnamed


class KeySourceError(Exception):
    """A source has no usable keys. The message begins with the name of its setting."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys come from. `name` is the setting, `read` returns the content, and can be called again."""

    name: str
    read: Callable[[], bytes]
    algorithms: Sequence[str]
    kid: str | None = None
    is_published: bool = False
    is_fixed: bool = False
    """Whether the content cannot change, so that nothing is read again."""

    def load(self) -> tuple[TokenKey, ...]:
        """The keys that the source has now. Raises KeySourceError."""
        try:
            return parse_keys(self.read(), self.algorithms, self.kid, is_published=self.is_published)
        except (OSError, ValueError) as error:
            raise KeySourceError(f"{self.name}: {error}") from None


def parse_keys(
    content: bytes, algorithms: Sequence[str], kid: str | None = None, *, is_published: bool = False
) -> tuple[TokenKey, ...]:
    """The keys in a JWKS, or the one key in a PEM or a secret, which gets the id `kid`.

    `is_published` says that others can read the content, so that it must not have a secret. Raises ValueError, which
    says what is wrong, if there is no usable key, or one that is private or weak.
    """
    content = content.strip()
    if content.startswith(b"{"):
        return _parse_jwks(content, algorithms, is_published=is_published)
    if is_published:
        raise ValueError("is not a JWKS: a JSON object with `keys`")
    return (_key(_parse_one(content), algorithms, kid),)


def suitable_algorithms(material: Any, algorithms: Sequence[str]) -> tuple[str, ...]:
    """The algorithms that suit a secret or a public key, in order. Raises ValueError for a weak key."""
    if isinstance(material, bytes):
        found = tuple(name for name in algorithms if name in _HASH_BYTES)
        for name in found:
            if len(material) < _HASH_BYTES[name]:
                raise ValueError(f"is shorter than {_HASH_BYTES[name]} bytes, which {name} needs; set a longer one")
        return found
    if isinstance(material, rsa.RSAPublicKey):
        found = tuple(name for name in algorithms if name[:2] in ("RS", "PS"))
        if found and material.key_size < _MIN_RSA_BITS:
            raise ValueError(f"has {material.key_size} bits; use an RSA key of {_MIN_RSA_BITS} bits or more")
        return found
    if isinstance(material, ec.EllipticCurvePublicKey):
        return tuple(name for name in algorithms if name == _CURVES.get(material.curve.name))
    if isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return tuple(name for name in algorithms if name == "EdDSA")
    return ()


def read_strict_json(content: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for a name that an object has twice, NaN and Infinity too."""

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise DuplicateNameError("an object has one name twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(content.decode(), object_pairs_hook=read_object, parse_constant=refuse)


class DuplicateNameError(ValueError):
    """A JSON object has one name twice. Readers disagree on which of the values counts."""


def _parse_jwks(content: bytes, algorithms: Sequence[str], *, is_published: bool) -> tuple[TokenKey, ...]:
    try:
        parsed = read_strict_json(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not a JWKS: {error}") from None
    entries = parsed.get("keys")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("is not a JWKS: `keys` is not a list of objects")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"has more than {MAX_KEYS} keys; remove those that sign no more tokens")
    keys = []
    for number, entry in enumerate(entries, 1):
        try:
            keys += _parse_jwk(entry, algorithms, is_published=is_published)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
            raise ValueError(f"key {number} of the JWKS {error}") from None
    if not keys:
        raise ValueError(f"has no key for {', '.join(algorithms)}")
    return tuple(keys)


def _parse_jwk(entry: Mapping[str, Any], algorithms: Sequence[str], *, is_published: bool) -> list[TokenKey]:
    """The key of an entry; none for a key of another purpose or algorithm, which a set may contain."""
    kid, named = entry.get("kid"), entry.get("alg")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("has a `kid` that is not text")
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return []
    chosen = [name for name in algorithms if named in (None, name)]
    if entry.get("kty") == "oct":
        if is_published:
            raise ValueError("is a secret, which everybody can read at that address; publish public keys only")
    elif entry.get("kty") not in _PUBLIC_TYPES:
        return []
    elif "d" in entry:
        raise ValueError("is a private key; set the public key, which is all that verification needs")
    for name in chosen:
        try:
            material = jwt.PyJWK.from_dict(dict(entry), name).key
        except (jwt.InvalidKeyError, jwt.PyJWKError):
            continue  # a key of another type than the algorithm's
        if name in suitable_algorithms(material, [name]):
            return [_key(material, chosen, kid)]
    return []


def _parse_one(content: bytes) -> Any:
    if b"-----BEGIN" not in content:
        try:
            jwt.get_algorithm_by_name("HS256").prepare_key(content)  # it refuses public keys in other forms
        except jwt.InvalidKeyError as error:
            raise ValueError(f"is not usable: {error}") from None
        return content
    if b"PRIVATE KEY" in content:
        raise ValueError("is a private key; set the public key, which is all that verification needs")
    try:
        return serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a public key as PEM (BEGIN PUBLIC KEY)") from None


def _key(material: Any, algorithms: Sequence[str], kid: str | None) -> TokenKey:
    suitable = frozenset(suitable_algorithms(material, algorithms))
    if not suitable:
        raise ValueError(f"does not suit {', '.join(algorithms)}")
    content = material
    if not isinstance(material, bytes):
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        content = material.public_bytes(serialization.Encoding.DER, form)
    return TokenKey(kid, suitable, material, hashlib.sha256(content).digest())
