"""The ad platforms with ids or options in the taxonomies."""

from audience_service.domain.core.errors import InvalidArgument

PLATFORMS = ("meta", "google", "tiktok", "linkedin")

SYNONYMS = {"facebook": "meta"}
"""Other names that callers use, and the platforms that they mean."""


def resolve_platform(name: str, field_path: str = "platform") -> str:
    """The platform of a name or synonym; empty for an empty name. Raises InvalidArgument for an unknown name."""
    known = SYNONYMS.get(name, name)
    if known and known not in PLATFORMS:
        raise InvalidArgument.at(field_path, f"is not a platform; give one of {', '.join(PLATFORMS)}")
    return known
