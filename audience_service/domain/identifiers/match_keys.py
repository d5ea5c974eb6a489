"""The keys by which rows of uploads and records meet: digests of a normalised email address or phone number.

A normalisation has a name of its own, and not its platform's: most platforms take an email address in the same form,
and a later version of a platform's rules often only changes something else. The name is part of every key and never
comes to mean another normalisation.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audience_service.domain.identifiers import emails, phones
from audience_service.domain.identifiers.rows import paths_of, region_context_of, value_of
from audience_service.domain.identifiers.rules import Normalise, PlatformRules

DIGEST_DIGITS = 64
"""Of a whole SHA-256, in hexadecimal digits."""

_KEPT_BYTES = 16
"""Of a digest in a key: as good as all 32 where nobody gains by two that are the same."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """One normalisation of one field."""

    name: str
    field: str
    normalise: Normalise

    @property
    def record_paths(self) -> tuple[str, ...]:
        """What of a record its key depends on, as the database names places."""
        return paths_of(self.field)

    def key(self, datatype: str, digest: bytes) -> bytes:
        """The key of what has this SHA-256."""
        return f"{datatype}.{self.name}:".encode() + digest[:_KEPT_BYTES]

    def key_of(self, datatype: str, value: str) -> bytes | None:
        """The key of a normalised value; None of text that has no bytes (half of a surrogate pair)."""
        try:
            return self.key(datatype, hashlib.sha256(value.encode()).digest())
        except UnicodeEncodeError:
            return None

    def key_in(self, datatype: str, record: Mapping[str, Any]) -> bytes | None:
        """The key of a record; None where it has no valid value."""
        found = value_of(record, self.field)
        value = None if found is None else self.normalise(found, region_context_of(record))
        return self.key_of(datatype, value) if value else None


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
    """By the field (`email`, `phone`), what a platform's hashes of it are made by, if it takes any."""
    by_normalisation = {(rule.field, rule.normalise): rule for rule in KEY_RULES}
    hashed_fields = (rule for rule in rules.fields if rule.hashed and rule.field in ("email", "phone"))
    return {rule.field: by_normalisation[rule.field, rule.normalise] for rule in hashed_fields}
