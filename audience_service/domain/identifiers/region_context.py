"""The country of a contact, on which the rules for phone numbers, postal codes and states depend."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegionContext:
    """A contact's country, and the region of its phone numbers without a country code.

    Both are ISO 3166 codes of two letters, or None. `has_country_codes` means that phone numbers without a plus begin
    with their country code, unless they begin with 0.
    """

    country: str | None = None
    region: str | None = None
    has_country_codes: bool = False


UNKNOWN_REGION = RegionContext()
