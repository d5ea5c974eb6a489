"""The custom audience (an uploaded list, a lookalike or a retargeting pixel), and the checks on its drafts."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from audience_service.domain.audiences.model import MAX_DESCRIPTION_LENGTH, MAX_NAME_LENGTH
from audience_service.domain.core.errors import InvalidArgument, StaleVersion
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.identifiers.platforms import PLATFORMS

CUSTOM_PREFIX = "custom-"
_MAX_EXTERNAL_ID_LENGTH = 200
FIELD_PATH = "custom_audience"
"""The field path of the custom audience in a request."""


class CustomType(StrEnum):
    """How a custom audience's members are decided. It never changes."""

    FILE_UPLOAD = "file_upload"
    CUSTOMER_MATCH = "customer_match"
    LOOKALIKE = "lookalike"
    RETARGETING_PIXEL = "retargeting_pixel"


@dataclass(frozen=True, slots=True)
class CustomerMatchSpec:
    """The version of a platform's rules that uploaded rows are hashed by. Once validated, every option is set."""

    platform: str
    rules_version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LookalikeSpec:
    """The source that a lookalike's members resemble, and their number: one of `share` and `count`."""

    source_audience_id: str
    share: float | None = None
    count: int | None = None
    countries: tuple[str, ...] = ()
    include_source: bool = False
    fields: tuple[str, ...] = ()
    exclude_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """The events that make a contact a member, and for how many days.

    `where` is in the filter language, None if it is missing. Before validation, 0 and "" mean the defaults.
    """

    where: Mapping[str, Any] | None
    within_days: int
    event_datatype: str = ""
    date_field: str = ""
    contact_field: str = ""
    min_events: int = 0


Spec = CustomerMatchSpec | LookalikeSpec | PixelSpec

_SPECS: Mapping[CustomType, type[Spec] | None] = {
    CustomType.FILE_UPLOAD: None,
    CustomType.CUSTOMER_MATCH: CustomerMatchSpec,
    CustomType.LOOKALIKE: LookalikeSpec,
    CustomType.RETARGETING_PIXEL: PixelSpec,
}


@dataclass(frozen=True, slots=True)
class ExternalAudience:
    """An audience of an ad platform, as a caller last read it there. `size` is None if the platform reports none."""

    platform: str
    id: str
    size: int | None = None
    synced_at: datetime | None = None


_SETTABLE = frozenset(("name", "description", "external"))
"""The fields that an update can change."""


@dataclass(frozen=True, slots=True)
class CustomAudienceDraft:
    """A custom audience as a caller writes it."""

    name: str
    type: str
    description: str = ""
    datatype: str = ""
    spec: Spec | None = None
    external: ExternalAudience | None = None


class WorkKind(StrEnum):
    """The kind of background work: the first list of an audience, or a new list for one that has a list."""

    CREATION = "creation"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class Work:
    """The latest creation or refresh of a custom audience.

    `attempt` counts creations and refreshes; a write of an earlier attempt is refused. `progress` is in per cent.
    `error` is why it FAILED. `ended_at` is None while it is CREATING.
    """

    kind: WorkKind
    attempt: int
    started_at: datetime
    state: CreationState = CreationState.CREATING
    progress: int = 0
    error: str = ""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CustomAudience:
    """A custom audience as it is stored. The service sets id, times, version and author.

    `list_version_id` identifies the rows of its list; it is empty before the first list is published. `publication` has
    the publisher's metadata for that list. `contact_count` is the list's length, if counted. `work` is the latest
    background work, None if there was none.
    """

    id: str
    name: str
    description: str
    type: CustomType
    datatype: str
    spec: Spec | None = None
    state: str = "active"
    version: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    refreshed_at: datetime | None = None
    author: str = ""
    list_version_id: str = ""
    publication: Mapping[str, Any] = field(default_factory=dict)
    contact_count: int | None = None
    work: Work | None = None
    external: ExternalAudience | None = None

    @property
    def creation(self) -> Work | None:
        """The creation in the background. None if it needed none, or if the audience was refreshed since."""
        return self.work if self.work and self.work.kind is WorkKind.CREATION else None

    @property
    def refresh(self) -> Work | None:
        """The latest refresh, None if there was none."""
        return self.work if self.work and self.work.kind is WorkKind.REFRESH else None

    @property
    def creation_state(self) -> CreationState:
        """READY once the audience has its first list, or immediately if its creation needs no work."""
        return self.creation.state if self.creation else CreationState.READY

    @property
    def is_working(self) -> bool:
        """Whether a creation or a refresh is running."""
        return self.work is not None and self.work.state is CreationState.CREATING

    @property
    def has_list(self) -> bool:
        """Whether its members are a list; a pixel's are found by a filter."""
        return self.type is not CustomType.RETARGETING_PIXEL

    @property
    def contacts(self) -> MemberList:
        """Its list, which is empty before the first publication."""
        return MemberList(self.list_version_id or self.id, self.datatype)


@dataclass(frozen=True, slots=True)
class CustomAudienceQuery:
    """Which custom audiences to list; empty strings do not restrict."""

    name: str = ""
    type: str = ""


def check_custom_type(written: str, field_path: str) -> CustomType:
    """The type. Raises InvalidArgument at `field_path`."""
    try:
        return CustomType(written)
    except ValueError:
        problem = f"{written[:50]!r} is not a type" if written else "is missing"
        raise InvalidArgument.at(field_path, f"{problem}; set one of {', '.join(CustomType)}") from None


def check_draft(draft: CustomAudienceDraft) -> CustomAudience:
    """The audience of a draft, without id and times. Its spec fits the type, but is not validated further.

    Raises InvalidArgument at `custom_audience.<field>`.
    """
    name, description = _check_name(draft.name), _check_description(draft.description)
    external = _check_external(draft.external)
    kind = check_custom_type(draft.type, f"{FIELD_PATH}.type")
    expected, given = _SPECS[kind], draft.spec
    if expected is None and given is not None:
        raise InvalidArgument.at(f"{FIELD_PATH}.{_field_of(type(given))}", f"does not apply to a {kind}; omit it")
    if expected is not None and not isinstance(given, expected):
        raise InvalidArgument.at(
            f"{FIELD_PATH}.{_field_of(expected)}", f"is missing; a {kind} needs it, and no other spec"
        )
    return CustomAudience("", name, description, kind, draft.datatype, given, external=external)


def check_version(current: CustomAudience, version: int | None) -> None:
    """Raise StaleVersion unless the audience has this version; None accepts any."""
    if version is not None and version != current.version:
        raise StaleVersion(
            f"the custom audience is at version {current.version}, not {version}",
            metadata={"current_version": str(current.version)},
        )


def apply_draft(current: CustomAudience, draft: CustomAudienceDraft, mask: Set[str]) -> CustomAudience:
    """The audience with the draft's values in the masked fields; without a mask, in all that can be changed.

    Raises InvalidArgument, also if the draft has another type, datatype or spec.
    """
    mask = _SETTABLE if not mask or mask == {"*"} else mask
    if foreign := sorted(mask - _SETTABLE):
        raise InvalidArgument.at(
            "update_mask", f"contains {foreign[0][:50]!r}; only name, description and external can be changed"
        )
    for name in ("type", "datatype"):
        if getattr(draft, name) not in ("", getattr(current, name)):
            raise InvalidArgument.at(f"{FIELD_PATH}.{name}", f"is {getattr(current, name)} and cannot be changed")
    if draft.spec not in (None, current.spec):
        raise InvalidArgument.at(
            f"{FIELD_PATH}.{_field_of(type(draft.spec))}", "cannot be changed; send it unchanged or omit it"
        )
    return replace(
        current,
        name=_check_name(draft.name) if "name" in mask else current.name,
        description=_check_description(draft.description) if "description" in mask else current.description,
        external=_check_external(draft.external) if "external" in mask else current.external,
    )


def _check_name(written: str) -> str:
    name = written.strip()
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidArgument.at(
            f"{FIELD_PATH}.name",
            f"is empty, too long or not printable; use 1 to {MAX_NAME_LENGTH} printable characters",
        )
    return name


def _check_description(written: str) -> str:
    if len(written) > MAX_DESCRIPTION_LENGTH:
        raise InvalidArgument.at(
            f"{FIELD_PATH}.description", f"has {len(written)} characters, more than {MAX_DESCRIPTION_LENGTH:,}"
        )
    return written


def _check_external(written: ExternalAudience | None) -> ExternalAudience | None:
    if written is None:
        return None
    path = f"{FIELD_PATH}.external"
    if written.platform not in PLATFORMS:
        raise InvalidArgument.at(
            f"{path}.platform", f"{written.platform[:50]!r} is unknown; give one of {', '.join(PLATFORMS)}"
        )
    if not 0 < len(written.id) <= _MAX_EXTERNAL_ID_LENGTH or not written.id.isprintable():
        raise InvalidArgument.at(
            f"{path}.id",
            f"is empty, too long or not printable; use 1 to {_MAX_EXTERNAL_ID_LENGTH} printable characters",
        )
    if written.size is not None and written.size < 0:
        raise InvalidArgument.at(f"{path}.size", "is negative; omit it if the platform reports none")
    return written


def _field_of(spec: type[Spec]) -> str:
    return next(kind.value for kind, takes in _SPECS.items() if takes is spec)
