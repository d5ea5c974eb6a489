"""Match keys, by which rows of uploads find records: keyed hashes of a normalised email address or phone number.

For example, `contact.email.3.6f1e:` and 16 bytes of an HMAC of the SHA-256 are the key of a contact with this address.
The HMAC needs a secret, so a person who knows an address cannot search for its key.

1. A normalisation has its own name instead of its platform's. Most platforms share one for email addresses, and a new
   version of a platform's rules often keeps it.
2. The name is part of every key, so the meaning of a name never changes. A changed normalisation gets a new number.
3. A record has a key for each of its addresses or numbers.
"""

import dataclasses
import hashlib
import hmac
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from audience_service.domain.identifiers import emails, phones
from audience_service.domain.identifiers.emails import other_forms
from audience_service.domain.identifiers.readings import Reading
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.identifiers.rows import identifier_paths, paths_of, readings_of, region_context_of
from audience_service.domain.identifiers.rules import Normalise, PlatformRules

DIGEST_DIGITS = 64
"""Hexadecimal digits of a complete SHA-256."""

_KEPT_BYTES = 16
"""Bytes of a digest in a key. They are as good as all 32, because a collision helps no attacker."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """A named normalisation of a field."""

    name: str
    field: str
    normalise: Normalise
    secret: bytes = dataclasses.field(default=b"", repr=False)
    """The secret of the keyed hashes."""

    def with_secret(self, secret: bytes) -> "KeyRule":
        """The same rule with a secret. Its name contains a digest of it, so another secret gives another index."""
        secret_id = hashlib.sha256(b"match keys" + secret).hexdigest()[:8]
        return replace(self, name=f"{self.name}.{secret_id}", secret=secret)

    @property
    def record_paths(self) -> tuple[str, ...]:
        """The field paths of a record that decide its keys, with the prefix `data.`."""
        return paths_of(self.field)

    @property
    def identifier_paths(self) -> tuple[str, ...]:
        """Those of its values alone. A record without any has no key."""
        return identifier_paths(self.field)

    def key_from_digest(self, datatype: str, digest: bytes) -> bytes:
        """The key of a value with this SHA-256."""
        name = f"{datatype}.{self.name}:".encode()
        return name + hmac.digest(self.secret, name + digest, "sha256")[:_KEPT_BYTES]

    def key_from_value(self, datatype: str, value: str) -> bytes | None:
        """The key of a normalised value; None if UTF-8 cannot encode it (half of a surrogate pair)."""
        try:
            return self.key_from_digest(datatype, hashlib.sha256(value.encode()).digest())
        except UnicodeEncodeError:
            return None

    def keys_from_record(self, datatype: str, record: Mapping[str, Any]) -> list[bytes]:
        """The keys of all valid values of a record, at most 100."""
        context = region_context_of(record)
        readings = (reading for reading in readings_of(record, self.field) if not reading.problem)
        keys = (key for reading in readings for key in self.keys_from_reading(datatype, reading, context))
        return list(itertools.islice(dict.fromkeys(keys), MAX_KEYS_PER_RECORD))

    def keys_from_reading(self, datatype: str, reading: Reading, context: RegionContext) -> Iterator[bytes]:
        """The keys of one value; none if it is invalid.

        An address with a domain outside ASCII has two, because hashes are made of either form of its domain.
        """
        value = self.normalise(reading.value, context)
        if value:
            for form in (value, *(other_forms(value) if self.field == "email" else ())):
                if key := self.key_from_value(datatype, form):
                    yield key


MAX_KEYS_PER_RECORD = 100

EMAIL = KeyRule("email.3", "email", emails.trim)
PHONE = KeyRule("phone.3", "phone", phones.e164)

KEY_RULES = (
    EMAIL,
    KeyRule("email-unspaced.3", "email", emails.remove_spaces),
    KeyRule("email-gmail.3", "email", emails.normalise_gmail),
    KeyRule("email-bare.3", "email", emails.remove_alias),
    PHONE,
    KeyRule("phone-digits.3", "phone", phones.digits),
)


def hashed_rules(rules: PlatformRules) -> Mapping[str, KeyRule]:
    """The normalisation of each field (`email`, `phone`) that a platform accepts as a hash."""
    by_normalisation = {(rule.field, rule.normalise): rule for rule in KEY_RULES}
    hashed_fields = (rule for rule in rules.fields if rule.hashed and rule.field in ("email", "phone"))
    return {rule.field: by_normalisation[rule.field, rule.normalise] for rule in hashed_fields}
