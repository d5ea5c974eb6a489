"""Tokens with a forged position, sealed with the right key for the right request."""

import json
from typing import Any

from audience_service.domain.core.page_tokens import TokenCodec


def position_of(tokens: TokenCodec, token: str) -> list[Any]:
    """The position in a token."""
    position: list[Any] = _open(tokens, token)[1]
    return position


def forge(tokens: TokenCodec, token: str, position: Any) -> str:
    """A token for the same request with another position, which may be anything that JSON can contain."""
    key_id, fernet = next(iter(tokens._keys.items()))
    content = json.dumps([_open(tokens, token)[0], position])
    return f"{key_id}.{fernet.encrypt(content.encode()).decode()}"


def _open(tokens: TokenCodec, token: str) -> list[Any]:
    key_id, _, sealed = token.partition(".")
    content: list[Any] = json.loads(tokens._keys[key_id].decrypt(sealed))
    return content
