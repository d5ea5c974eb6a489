"""How ListCustomAudienceTypes describes a type of custom audience; each feature describes its own types."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from audience_service.domain.custom_audiences.model import CustomType


@dataclass(frozen=True, slots=True)
class TypeField:
    """A column of an upload, or a field of a spec."""

    name: str
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """One type: the columns of its uploads or the fields of its spec, its rules, and its limits by name."""

    type: CustomType
    title: str
    description: str
    fields: tuple[TypeField, ...]
    rules: tuple[str, ...]
    limits: Mapping[str, str] = field(default_factory=dict)
    platform_rules: tuple[str, ...] = ()
