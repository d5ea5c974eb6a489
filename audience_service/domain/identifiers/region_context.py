"""Where a contact is at home, which the rules for phone numbers, postal codes and states depend on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegionContext:
    """The contact's country, and that of its phone numbers without a country code: ISO 3166 in two letters, or None."""

    country: str | None = None
    region: str | None = None


UNKNOWN_REGION = RegionContext()
