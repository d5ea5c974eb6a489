"""The ad platforms whose ids and options taxonomies carry."""

from audience_service.domain.core.errors import InvalidArgument

PLATFORMS = ("meta", "google", "tiktok", "linkedin")

WITHOUT_OPTIONS = {
    "linkedin": "LinkedIn's official packages enumerate no targeting options, so there are none to list; "
    "of meta, google and tiktok there are",
}
"""The platforms that have no options here, and why."""

SYNONYMS = {"facebook": "meta"}
"""Other names of platforms, as callers use them."""


def resolve_platform(name: str, field_path: str = "platform") -> str:
    """The platform that a caller names; empty for an empty name. Raises InvalidArgument for any that there is not."""
    known = SYNONYMS.get(name, name)
    if known and known not in PLATFORMS:
        raise InvalidArgument.at(field_path, f"is none of {', '.join(PLATFORMS)}")
    return known
