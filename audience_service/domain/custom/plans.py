"""Specs as callers write them, checked and made definite: by what an audience is made, defaults included."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.custom.audience import PLACE, CustomAudience, CustomerMatchSpec, PixelSpec
from audience_service.domain.custom.pixel import MOST_DAYS, MOST_EVENTS, PLACES, pixel_filter
from audience_service.domain.errors import InvalidArgument, InvalidFilter, Violation
from audience_service.domain.identifiers.platforms import choose_rules
from audience_service.domain.located import located

_DEFAULT_DATATYPE = "contact"


class SpecPlans:
    """The Plan of every type whose spec stands for itself; a lookalike's has to look at its source."""

    def __init__(self, audiences: Audiences) -> None:
        self._audiences = audiences

    def plan(self, call: Call, drafted: CustomAudience) -> CustomAudience:
        """The audience with all defaults filled in. Raises InvalidArgument, InvalidFilter, DatatypeNotAllowed."""
        with located(PLACE):
            datatype = self._audiences.check_datatype(drafted.datatype or _DEFAULT_DATATYPE)
        planned = dataclasses.replace(drafted, datatype=datatype)
        match drafted.spec:
            case CustomerMatchSpec() as spec:
                return dataclasses.replace(planned, spec=_with_rules(spec))
            case PixelSpec() as spec:
                return dataclasses.replace(planned, spec=self._with_events(call, datatype, spec))
        return planned

    def _with_events(self, call: Call, datatype: str, spec: PixelSpec) -> PixelSpec:
        place = f"{PLACE}.retargeting_pixel"
        if spec.where is None:
            raise InvalidArgument.at(f"{place}.where", "is missing; {} means any event")
        if not 1 <= spec.within_days <= MOST_DAYS:
            raise InvalidArgument.at(f"{place}.within_days", f"is a number of days from 1 to {MOST_DAYS}")
        if not 0 <= spec.min_events <= MOST_EVENTS:
            raise InvalidArgument.at(f"{place}.min_events", f"is a number from 1 to {MOST_EVENTS:,}, or 0 for 1")
        definite = dataclasses.replace(
            spec,
            event_datatype=spec.event_datatype or "event",
            date_field=spec.date_field or "createdate",
            contact_field=spec.contact_field or "contactId",
            min_events=spec.min_events or 1,
        )
        with _placed(place):
            self._audiences.compile(call, pixel_filter(datatype, definite))
        return definite


def _with_rules(spec: CustomerMatchSpec) -> CustomerMatchSpec:
    """The spec with the version of rules that it means, and every option of theirs chosen."""
    with located(f"{PLACE}.customer_match"):
        rules = choose_rules(spec.platform, spec.rules, spec.options, (), version_place="rules_version")
    return CustomerMatchSpec(spec.platform, rules.version, dict(rules.chosen))


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Name the fields of the spec for the places in the filter that they stand at."""
    try:
        yield
    except InvalidFilter as error:
        error.violations = tuple(
            Violation(_moved(each.field, place), _without_advice(each.description)) for each in error.violations
        )
        raise


def _without_advice(description: str) -> str:
    """A pixel has no where_json."""
    first, advice, rest = description.partition(" write the filter in where_json")
    return f"{first}{rest.removeprefix(', or')}".removesuffix(";") if advice else description


def _moved(field: str, place: str) -> str:
    for prefix, name in PLACES.items():
        if field.startswith(prefix):
            return f"{place}.{name}{field.removeprefix(prefix)}" if name == "where" else f"{place}.{name}"
    return f"{place}.where"
