"""Well-signed tokens that are refused all the same: with the part that is wrong, and none of the content."""

import json
from pathlib import Path
from typing import Any

import pytest

from audience_service.domain.core.context import Scope
from audience_service.domain.core.errors import AudienceError
from audience_service.rpc.auth import Authenticator, TokenRules
from audience_service.rpc.key_ring import KeyRing
from audience_service.rpc.token_keys import KeySource
from tests.conftest import KEY
from tests.support.tokens import BASE_CLAIMS, sign_raw

ATTACKS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "token_attacks.json").read_text())
HEADER = '{"alg": "HS256", "typ": "JWT"}'
NOW = 1_800_000_000.0
AUTHENTICATOR = Authenticator(
    TokenRules("crm", "audience-service"),
    KeyRing([KeySource("key", KEY.encode, ["HS256"], is_fixed=True)]),
    now=lambda: NOW,
)


def payload(without: list[str], add: str) -> str:
    """The text of good claims, without some, and with more text at its end; 1@400@ is a number with 400 zeros."""
    claims = {**BASE_CLAIMS, "exp": int(NOW) + 3_600}
    kept = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in claims.items() if name not in without]
    for zeros in (400, 4_400):
        add = add.replace(f"1@{zeros}@", "1" + "0" * zeros)
    return "{" + ", ".join([*kept, *([add] if add else [])]) + "}"


def authenticate(token: str) -> str:
    metadata = [("authorization", f"Bearer {token}"), ("orgid", "acme")]
    return AUTHENTICATOR.authenticate(metadata, Scope.READ).subject


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row["attack"])
def test_an_attack_is_refused_with_its_reason(row: dict[str, Any]) -> None:
    text = payload(row.get("without", []), row.get("add", ""))
    token = sign_raw(row.get("header", HEADER), text, row.get("secret", KEY).encode())
    with pytest.raises(AudienceError) as caught:
        authenticate(token)
    expected = {"problem": row["problem"]} if "problem" in row else {}
    assert (caught.value.reason, caught.value.metadata) == (row.get("reason", "INVALID_TOKEN"), expected)
    assert not any(secret in str(caught.value) for secret in ("ann", "acme", "globex", "4102444"))


@pytest.mark.parametrize("typ", ["", ', "typ": "JWT"', ', "typ": "at+jwt"', ', "typ": "application/at+JWT"'])
def test_access_tokens_are_accepted(typ: str) -> None:
    assert authenticate(sign_raw('{"alg": "HS256"' + typ + "}", payload([], ""), KEY.encode())) == "ann"


@pytest.mark.parametrize(
    ("claim", "offset", "accepted"),
    [
        ("exp", -4, True), ("exp", -5, False), ("exp", -6, False),
        ("nbf", 5, True), ("nbf", 6, False), ("iat", 5, True), ("iat", 6, False),
    ],
)  # fmt: skip
def test_clocks_may_differ_by_the_leeway(claim: str, offset: int, accepted: bool) -> None:
    token = sign_raw(HEADER, payload([claim], f'"{claim}": {int(NOW) + offset}'), KEY.encode())
    if accepted:
        assert authenticate(token) == "ann"
    else:
        with pytest.raises(AudienceError):
            authenticate(token)
