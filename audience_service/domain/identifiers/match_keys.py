"""Match keys, by which rows of uploads find records: digests of a normalised email address or phone number.

For example, `contact.email:` and 16 bytes of a SHA-256 are the key of a contact with this address.

1. A normalisation has its own name instead of its platform's. Most platforms share one for email addresses, and a new
   version of a platform's rules often keeps it.
2. The name is part of every key, so the meaning of a name never changes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audience_service.domain.identifiers import emails, phones
from audience_service.domain.identifiers.rows import paths_of, region_context_of, value_of
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

    @property
    def record_paths(self) -> tuple[str, ...]:
        """The field paths of a record that decide its key, with the prefix `data.`."""
        return paths_of(self.field)

    def key_from_digest(self, datatype: str, digest: bytes) -> bytes:
        """The key of a value with this SHA-256."""
        return f"{datatype}.{self.name}:".encode() + digest[:_KEPT_BYTES]

    def key_from_value(self, datatype: str, value: str) -> bytes | None:
        """The key of a normalised value; None if UTF-8 cannot encode it (half of a surrogate pair)."""
        try:
            return self.key_from_digest(datatype, hashlib.sha256(value.encode()).digest())
        except UnicodeEncodeError:
            return None

    def key_from_record(self, datatype: str, record: Mapping[str, Any]) -> bytes | None:
        """The key of a record; None if it has no valid value."""
        found = value_of(record, self.field)
        value = None if found is None else self.normalise(found, region_context_of(record))
        return self.key_from_value(datatype, value) if value else None


EMAIL = KeyRule("email", "email", emails.trim)
PHONE = KeyRule("phone", "phone", phones.e164)

KEY_RULES = (
    EMAIL,
    KeyRule("email-unspaced", "email", emails.remove_spaces),
    KeyRule("email-gmail", "email", emails.normalise_gmail),
    KeyRule("email-bare", "email", emails.remove_alias),
    PHONE,
    KeyRule("phone-digits", "phone", phones.digits),
)


def hashed_rules(rules: PlatformRules) -> Mapping[str, KeyRule]:
    """The normalisation of each field (`email`, `phone`) that a platform accepts as a hash."""
    by_normalisation = {(rule.field, rule.normalise): rule for rule in KEY_RULES}
    hashed_fields = (rule for rule in rules.fields if rule.hashed and rule.field in ("email", "phone"))
    return {rule.field: by_normalisation[rule.field, rule.normalise] for rule in hashed_fields}
