"""Tokens signed by hand, and issuers with keys of their own."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

BASE_CLAIMS: dict[str, Any] = {
    "iss": "crm", "aud": "audience-service", "sub": "ann", "org": "acme", "scope": "audiences.read",
}  # fmt: skip


def sign_raw(header: str, payload: str, secret: bytes) -> str:
    """A token of any two texts, with the signature of HS256."""
    body = ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in (header, payload))
    signature = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), hashlib.sha256)).rstrip(b"=").decode()
    return f"{body}.{signature}"


@dataclass
class Issuer:
    """An issuer that signs with ES256 and publishes its keys as a JWKS. `fails` is raised instead, if it is set."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    published: set[str] = field(default_factory=set)
    fails: Exception | None = None
    reads: int = 0

    def publish(self, kid: str) -> None:
        """Add a key to the JWKS, without signing with it."""
        self.keys.setdefault(kid, ec.generate_private_key(ec.SECP256R1()))
        self.published.add(kid)

    def jwks(self) -> bytes:
        """The JWKS."""
        self.reads += 1
        if self.fails:
            raise self.fails
        algorithm = jwt.get_algorithm_by_name("ES256")
        keys = [algorithm.to_jwk(self.keys[kid].public_key(), as_dict=True) for kid in sorted(self.published)]
        named = [{**key, "kid": kid, "use": "sig"} for key, kid in zip(keys, sorted(self.published), strict=True)]
        return json.dumps({"keys": named}).encode()

    def sign(self, kid: str, now: float, **claims: Any) -> str:
        """A token for an hour, signed with a key whether it is published or not."""
        key = self.keys.setdefault(kid, ec.generate_private_key(ec.SECP256R1()))
        times = {"iat": int(now), "exp": int(now) + 3_600}
        return jwt.encode({**BASE_CLAIMS, **times, **claims}, key, "ES256", headers={"kid": kid})


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now
