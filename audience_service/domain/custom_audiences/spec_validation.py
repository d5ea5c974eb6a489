"""Validates the specs of custom audiences and fills in their defaults."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import InvalidArgument, InvalidFilter, Violation
from audience_service.domain.custom_audiences.model import FIELD_PATH, CustomAudience, CustomerMatchSpec, PixelSpec
from audience_service.domain.custom_audiences.pixel import MAX_DAYS, MAX_EVENTS, SPEC_FIELDS, pixel_filter
from audience_service.domain.filters.references import REFERENCE, audience_references
from audience_service.domain.identifiers.platforms import choose_rules

_DEFAULT_DATATYPE = "contact"


class SpecValidator:
    """Validates every type whose spec refers to no audience; Lookalikes validates the spec of a lookalike."""

    def __init__(self, audiences: AudienceResolver) -> None:
        self._audiences = audiences

    def validate(self, ctx: RequestContext, draft: CustomAudience) -> CustomAudience:
        """The audience with all defaults filled in. Raises InvalidArgument, InvalidFilter, DatatypeNotAllowed."""
        with prefix_error_path(FIELD_PATH):
            datatype = self._audiences.check_datatype(draft.datatype or _DEFAULT_DATATYPE)
        validated = dataclasses.replace(draft, datatype=datatype)
        match draft.spec:
            case CustomerMatchSpec() as spec:
                return dataclasses.replace(validated, spec=_resolve_rules(spec))
            case PixelSpec() as spec:
                return dataclasses.replace(validated, spec=self._validate_pixel(ctx, datatype, spec))
        return validated

    def _validate_pixel(self, ctx: RequestContext, datatype: str, spec: PixelSpec) -> PixelSpec:
        field_path = f"{FIELD_PATH}.retargeting_pixel"
        if spec.where is None:
            raise InvalidArgument.at(f"{field_path}.where", "is missing; use {} for any event")
        if audience_references(spec.where):
            # A use of an audience by a pixel is not registered, so the audience could be deleted.
            raise InvalidFilter.at(f"{field_path}.where.{REFERENCE}", "is not supported in a pixel; remove it")
        if not 1 <= spec.within_days <= MAX_DAYS:
            raise InvalidArgument.at(f"{field_path}.within_days", f"is out of range; use 1 to {MAX_DAYS} days")
        if not 0 <= spec.min_events <= MAX_EVENTS:
            raise InvalidArgument.at(
                f"{field_path}.min_events", f"is out of range; use 1 to {MAX_EVENTS:,}, or 0 for the default 1"
            )
        complete_spec = dataclasses.replace(
            spec,
            event_datatype=spec.event_datatype or "event",
            date_field=spec.date_field or "createdate",
            contact_field=spec.contact_field or "contactId",
            min_events=spec.min_events or 1,
        )
        with _map_filter_paths(field_path):
            self._audiences.compile_new(ctx, pixel_filter(datatype, complete_spec))
        return complete_spec


def _resolve_rules(spec: CustomerMatchSpec) -> CustomerMatchSpec:
    """The spec with its rules version resolved and every option set."""
    with prefix_error_path(f"{FIELD_PATH}.customer_match"):
        rules = choose_rules(spec.platform, spec.rules_version, spec.options, ())
    return CustomerMatchSpec(spec.platform, rules.version, dict(rules.chosen))


@contextmanager
def _map_filter_paths(spec_path: str) -> Iterator[None]:
    """Replace field paths of the pixel's filter in errors by the fields of its spec."""
    try:
        yield
    except InvalidFilter as error:
        error.violations = tuple(
            Violation(_spec_field_path(each.field, spec_path), _without_advice(each.description))
            for each in error.violations
        )
        raise


def _without_advice(description: str) -> str:
    """The description without the advice to use where_json, which a pixel does not have."""
    first, advice, rest = description.partition(" write the filter in where_json")
    return f"{first}{rest.removeprefix(', or')}".removesuffix(";") if advice else description


def _spec_field_path(field: str, spec_path: str) -> str:
    for prefix, name in SPEC_FIELDS.items():
        if field.startswith(prefix):
            return f"{spec_path}.{name}{field.removeprefix(prefix)}" if name == "where" else f"{spec_path}.{name}"
    return f"{spec_path}.where"
