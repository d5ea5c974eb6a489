"""What uploads need to know about erased people: the keyed hashes that they must not bring back."""

import hmac
from typing import Protocol


class ErasedKeys(Protocol):
    """The keyed hashes of an org's erased people."""

    def keys(self, org: str) -> frozenset[bytes]:
        """The match keys and id keys of all erased people, at most a second old. Raises StoreUnavailable."""


class NobodyErased:
    """ErasedKeys of a service without erasures."""

    def keys(self, org: str) -> frozenset[bytes]:  # noqa: ARG002
        """No keys."""
        return frozenset()


def id_key(secret: bytes, contact_id: str) -> bytes:
    """The keyed hash of a contact's id."""
    return hmac.digest(secret, b"id:" + contact_id.encode(errors="surrogatepass"), "sha256")
