"""Validates the drafts of segments and fills in their defaults."""

import dataclasses
from collections.abc import Set

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter
from audience_service.domain.segments.model import (
    ListSource,
    Segment,
    SegmentDraft,
    SegmentType,
    check_contact_ids,
    check_description,
    check_name,
    check_type,
)

_DEFAULT_DATATYPE = "contact"
_SETTABLE = frozenset(("name", "description", "filter"))


@dataclasses.dataclass(frozen=True, slots=True)
class ValidatedSegment:
    """A valid draft: the fields to store, and the source of a static segment's list.

    At most one of `contact_ids` and `list_source` is set, and only for a static segment. If `list_source` is an
    audience, the segment takes the audience's filter. Then `filter` has only the datatype that the caller expects,
    empty for any.
    """

    name: str
    description: str
    type: SegmentType
    filter: Filter
    contact_ids: tuple[str, ...] = ()
    list_source: AudienceSelector | None = None


class SegmentValidator:
    """Validates drafts by the rules of CreateSegment and UpdateSegment."""

    def __init__(self, audiences: AudienceResolver) -> None:
        self._audiences = audiences

    def validate(self, ctx: RequestContext, draft: SegmentDraft, source: ListSource | None) -> ValidatedSegment:
        """The fields of a new segment. Raises InvalidArgument, InvalidFilter, AudienceNotFound."""
        validated = ValidatedSegment(
            name=check_name(draft.name),
            description=check_description(draft.description),
            type=check_type(draft.type, "segment.type"),
            filter=draft.filter or Filter("", None),
        )
        if validated.type is SegmentType.STATIC:
            return self._validate_static(ctx, validated, draft, source)
        if draft.contact_ids:
            raise InvalidArgument.at(
                "segment.contact_ids", "are for static segments; set segment.filter for a dynamic one"
            )
        if source:
            raise InvalidArgument.at("source", "is for static segments; set segment.filter for a dynamic one")
        self._check_filter(ctx, draft.filter)
        return validated

    def apply_update(self, ctx: RequestContext, current: Segment, draft: SegmentDraft, mask: Set[str]) -> Segment:
        """The segment with the draft's values in the masked fields; without a mask, in all settable fields.

        Raises InvalidArgument, InvalidFilter, AudienceNotFound.
        """
        mask = _SETTABLE if not mask or mask == {"*"} else mask
        if unknown := sorted(mask - _SETTABLE):
            raise InvalidArgument.at(
                "update_mask", f"has {unknown[0][:50]!r}; it may have name, description and filter"
            )
        if draft.contact_ids:
            raise InvalidArgument.at("segment.contact_ids", "can be set on create only; use AddSegmentContacts")
        if draft.type and draft.type != current.type:
            raise InvalidArgument.at("segment.type", f"is {current.type} and cannot be changed")
        return dataclasses.replace(
            current,
            name=check_name(draft.name) if "name" in mask else current.name,
            description=check_description(draft.description) if "description" in mask else current.description,
            filter=self._new_filter(ctx, current, draft) if "filter" in mask else current.filter,
        )

    def restore(self, ctx: RequestContext, current: Segment, old: Segment) -> Segment:
        """The segment with the fields of an older version. Raises InvalidFilter if its filter does not compile now.

        A static segment keeps its filter, which records the source of its list; no version changes it.
        """
        is_dynamic = current.type is SegmentType.DYNAMIC
        if is_dynamic:
            with prefix_error_path("segment.filter"):
                self._audiences.compile(ctx, old.filter, current.id)
        return dataclasses.replace(
            current,
            name=old.name,
            description=old.description,
            filter=old.filter if is_dynamic else current.filter,
        )

    def _validate_static(
        self, ctx: RequestContext, validated: ValidatedSegment, draft: SegmentDraft, source: ListSource | None
    ) -> ValidatedSegment:
        written = draft.filter if draft.filter and draft.filter.where is not None else None
        sources_given = {
            "segment.contact_ids": bool(draft.contact_ids),
            "segment.filter": written is not None,
            "source": source is not None,
        }
        if sum(sources_given.values()) > 1:
            source_paths = " and ".join(source_path for source_path, used in sources_given.items() if used)
            raise InvalidArgument.at("segment", f"has more than one source: {source_paths}; set one")
        if source and source.audience_id:
            return dataclasses.replace(
                validated,
                list_source=AudienceSelector(audience_id=source.audience_id, audience_id_path="source.audience_id"),
            )
        if source and source.filter is None:
            raise InvalidArgument.at("source", "is empty; set source.filter or source.audience_id")
        if source or written:
            field_path = "source.filter" if source else "segment.filter"
            source_filter = self._check_filter(ctx, source.filter if source else written, field_path)
            return dataclasses.replace(
                validated,
                filter=source_filter,
                list_source=AudienceSelector(filter=source_filter, filter_path=field_path),
            )
        with prefix_error_path("segment.filter"):
            datatype = self._audiences.check_datatype(validated.filter.datatype or _DEFAULT_DATATYPE)
        ids = check_contact_ids(draft.contact_ids, "segment.contact_ids")
        return dataclasses.replace(validated, filter=Filter(datatype, None), contact_ids=ids)

    def _new_filter(self, ctx: RequestContext, current: Segment, draft: SegmentDraft) -> Filter:
        if current.type is SegmentType.DYNAMIC:
            return self._check_filter(ctx, draft.filter, parent_id=current.id)
        given = draft.filter
        if (
            given is not None
            and given.where is not None
            and given != dataclasses.replace(current.filter, exact=given.exact)
        ):
            raise InvalidArgument.at("segment.filter", "cannot be changed on a static segment; edit its list instead")
        return current.filter

    def _check_filter(
        self, ctx: RequestContext, written: Filter | None, field_path: str | None = None, parent_id: str = ""
    ) -> Filter:
        """The filter, if it compiles. `parent_id` is its segment, which its references must not lead back to."""
        field_path = field_path or "segment.filter"
        if written is None:
            raise InvalidArgument.at(field_path, "is missing; give a filter")
        with prefix_error_path(field_path):
            self._audiences.compile_new(ctx, written, parent_id)
        return written
