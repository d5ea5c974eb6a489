"""Keys are bound to the algorithms that suit them, and weak or private ones are refused."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from audience_service.rpc.token_keys import KeySet, parse_keys

ALL = ["HS256", "HS384", "HS512", "RS256", "PS512", "ES256", "ES384", "EdDSA"]
RSA_1024 = rsa.generate_private_key(65537, 1024)  # noqa: S505
P256, SECP256K1 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256K1())


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    content: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return content


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def jwk(key: Any = P256, **fields: Any) -> dict[str, Any]:
    algorithm = {"rsa": "RS256", "ec": "ES256"}[
        "rsa" if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey) else "ec"
    ]
    return {**jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True), **fields}


PUBLIC = jwk(P256.public_key())


@pytest.mark.parametrize(
    ("content", "algorithms", "expected"),
    [
        (pem(P256), ALL, {"ES256"}),
        (pem(ec.generate_private_key(ec.SECP384R1())), ALL, {"ES384"}),
        (pem(ed25519.Ed25519PrivateKey.generate()), ALL, {"EdDSA"}),
        (pem(rsa.generate_private_key(65537, 2048)), ALL, {"RS256", "PS512"}),
        (b"s" * 64, ALL, {"HS256", "HS384", "HS512"}),
        (b"s" * 32, ["HS256", "RS256"], {"HS256"}),
        (jwks(PUBLIC), ALL, {"ES256"}),
        (jwks({**PUBLIC, "alg": "ES256"}), ALL, {"ES256"}),
    ],
)
def test_a_key_verifies_only_algorithms_of_its_type(content: bytes, algorithms: list[str], expected: set[str]) -> None:
    [key] = parse_keys(content, algorithms)
    assert key.algorithms == expected


@pytest.mark.parametrize(
    ("content", "algorithms", "message"),
    [
        (b"s" * 31, ["HS256"], "is shorter than 32 bytes, which HS256 needs"),
        (b"s" * 32, ["HS512"], "is shorter than 64 bytes, which HS512 needs"),
        (b"s" * 63, ["HS256", "HS512"], "is shorter than 64 bytes"),
        (pem(RSA_1024), ["RS256"], "has 1024 bits; use an RSA key of 2048 bits or more"),
        (pem(P256), ["HS256"], "does not suit HS256"),
        (pem(P256), ["ES384"], "does not suit ES384"),
        (pem(SECP256K1), ["ES256"], "does not suit ES256"),
        (b"s" * 64, ["RS256"], "does not suit RS256"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", ["RS256"], "is not a public key as PEM"),
        (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB", ["HS256"], "is not usable"),
        (b"{not json", ALL, "is not a JWKS"),
        (b'{"keys": 1}', ALL, "`keys` is not a list"),
        (b'{"keys": [], "keys": []}', ALL, "is not a JWKS"),
        (jwks(), ALL, "has no key for"),
        (jwks(*[PUBLIC] * 101), ALL, "more than 100 keys"),
        (jwks({**PUBLIC, "use": "enc"}), ALL, "has no key for"),
        (jwks({**PUBLIC, "alg": "RS256"}), ALL, "has no key for"),
        (jwks({**PUBLIC, "kid": 7}), ALL, "key 1 of the JWKS has a `kid` that is not text"),
        (jwks(PUBLIC, jwk()), ALL, "key 2 of the JWKS is a private key"),
        (jwks(jwk(RSA_1024.public_key())), ALL, "key 1 of the JWKS has 1024 bits"),
        (jwks({"kty": "oct", "k": "c2VjcmV0"}), ["HS256"], "key 1 of the JWKS is shorter than 32 bytes"),
    ],
)
def test_a_key_that_cannot_be_trusted_is_refused_in_one_line(
    content: bytes, algorithms: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as caught:
        parse_keys(content, algorithms)
    assert "\n" not in str(caught.value)


def test_a_secret_is_never_read_from_a_published_set() -> None:
    secret = {"kty": "oct", "k": "c" * 64}
    assert len(parse_keys(jwks(secret), ["HS256"])) == 1
    with pytest.raises(ValueError, match="is a secret"):
        parse_keys(jwks(secret), ["HS256"], is_published=True)
    with pytest.raises(ValueError, match="is not a JWKS"):
        parse_keys(b"s" * 64, ["HS256"], is_published=True)


def test_two_keys_with_one_id_are_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ValueError, match="two keys with the id 'a'"):
        KeySet([*parse_keys(pem(P256), ALL, "a"), *parse_keys(pem(other), ALL, "a")])
