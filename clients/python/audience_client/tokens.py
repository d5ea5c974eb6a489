"""The expiry of JWTs. The client reads it to refresh a token in time; only the service verifies tokens."""

import base64
import json

REFRESH_SECONDS = 60.0
"""How long before its expiry a token is replaced."""


def expiry(token: str) -> float:
    """The time at which a JWT expires, in seconds since 1970; 0 if the token has no readable `exp`."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return 0.0
