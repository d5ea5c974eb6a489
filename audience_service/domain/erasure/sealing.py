"""Encrypts the person in a tombstone, so that the database alone does not reveal who was erased."""

import base64
import dataclasses
import hmac
import json

from cryptography.fernet import Fernet, InvalidToken

from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.erasure.model import Person


class PersonSealer:
    """Encrypts and decrypts with a key that is derived from the secret of the service's hashes."""

    def __init__(self, secret: bytes) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(hmac.digest(secret, b"tombstones", "sha256")))

    def seal(self, person: Person) -> bytes:
        """The encrypted person."""
        return self._fernet.encrypt(json.dumps(dataclasses.asdict(person)).encode())

    def unseal(self, sealed: bytes) -> Person:
        """The person. Raises StoreUnavailable for a tombstone of another secret: nobody knows whom it excludes."""
        try:
            fields = json.loads(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise StoreUnavailable(
                "people were erased with another AUDIENCE_HASH_KEY, and only that key can exclude them; set it again"
            ) from None
        return Person(**{name: tuple(values) for name, values in fields.items()})
