"""The use cases on single contacts: check their memberships, and list their audiences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import (
    ContactNotFound,
    InvalidArgument,
    InvalidFilter,
    UnusableAudience,
    Violation,
)
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import PageRequest
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.set_operations import to_filter
from audience_service.domain.membership.audience_pages import KEY_SHAPES, AudiencePages, TypedAudience
from audience_service.domain.membership.repository import MembershipCheckRepository

MAX_AUDIENCES, MAX_CONTACTS = 100, 1_000


@dataclass(frozen=True, slots=True)
class ContactMemberships:
    """The requested audiences that contain a contact; `found` is whether the record exists."""

    contact_id: str
    audience_ids: Sequence[str]
    found: bool


@dataclass(frozen=True, slots=True)
class MembershipCheck:
    """The memberships of each contact, and when they were read."""

    memberships: Sequence[ContactMemberships]
    read_at: datetime


@dataclass(frozen=True, slots=True)
class ContactAudiences:
    """The audiences of a page that contain a contact.

    `unusable_ids` are those that cannot be evaluated. `next_page_token` is empty on the last page.
    """

    audiences: Sequence[TypedAudience]
    unusable_ids: Sequence[str]
    next_page_token: str
    read_at: datetime


class MembershipChecker:
    """Checks memberships. The database evaluates audiences of every kind as it does for counts and streams."""

    def __init__(
        self,
        checks: MembershipCheckRepository,
        pages: AudiencePages,
        audiences: AudienceResolver,
        tokens: TokenCodec,
        datatypes: Sequence[str],
    ) -> None:
        self._checks = checks
        self._pages = pages
        self._audiences = audiences
        self._tokens = tokens
        self._datatypes = datatypes

    def check(self, ctx: RequestContext, audience_ids: Sequence[str], contact_ids: Sequence[str]) -> MembershipCheck:
        """Which contacts are members of which audiences; each appears once, in the order of the request.

        Queries:
        1. One for the audiences, and one for each level of audiences inside their filters.
        2. One for each datatype of the audiences. It evaluates all of them, in more commands if one is too small.
        3. If ids are still missing, one for each other served datatype.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, ExpressionFailed at `audience_ids[i]`, OutOfTime.
        """
        ids_by_path = _distinct(audience_ids, "audience_ids", MAX_AUDIENCES)
        contacts = list(_distinct(contact_ids, "contact_ids", MAX_CONTACTS).values())
        requested = self._audiences.get_many(ctx, ids_by_path)
        read_at = now()
        audiences = self._audiences.with_preloaded(ctx, requested).at(read_at)
        by_datatype: dict[str, dict[str, CompiledFilter]] = {}
        for field_path, audience in zip(ids_by_path, requested, strict=True):
            population = replace(to_filter(audiences.population_of(ctx, audience)), field_path=field_path)
            by_datatype.setdefault(population.datatype, {})[audience.id] = population
        found: set[str] = set()
        members: dict[str, frozenset[str]] = {}
        for datatype, populations in by_datatype.items():
            results = self._checks.evaluate(ctx.org, datatype, list(populations.values()), contacts, (), ctx.deadline)
            found.update(results.records)
            members |= dict(zip(populations, map(_members_or_raise, results.members), strict=True))
        found |= self._find_in_other_datatypes(ctx, by_datatype, [name for name in contacts if name not in found])
        return MembershipCheck(
            [
                ContactMemberships(
                    name, [audience.id for audience in requested if name in members[audience.id]], name in found
                )
                for name in contacts
            ],
            read_at,
        )

    def list_audiences(self, ctx: RequestContext, contact_id: str, request: PageRequest) -> ContactAudiences:
        """The audiences that contain a contact, on one page of the org's audiences of all datatypes.

        Queries:
        1. One for the contact, in the datatype that its id starts with, then in the others.
        2. Two for the page's segments, and two for its custom audiences.
        3. One for each level of audiences inside the filters.
        4. One that evaluates all of them. If it fails on the record, halves of it run until the failing audiences
           are isolated.

        Raises InvalidArgument, ContactNotFound, InvalidPageToken, OutOfTime.
        """
        datatype = self._datatype_of(ctx, contact_id)
        page = self._tokens.page(
            request,
            ("contact audiences", ctx.org, contact_id),
            lambda after: self._pages.page(ctx, request.size, after),
            *KEY_SHAPES,
        )
        typed = {found.audience.id: found for found in page.items if found.audience.filter.datatype == datatype}
        read_at = now()
        audiences = self._audiences.with_preloaded(ctx, [found.audience for found in typed.values()]).at(read_at)
        usable: dict[str, CompiledFilter] = {}
        for found in typed.values():
            try:
                usable[found.audience.id] = to_filter(audiences.population_of(ctx, found.audience))
            except UnusableAudience:
                continue
        results = self._checks.evaluate(ctx.org, datatype, list(usable.values()), [contact_id], (), ctx.deadline)
        outcomes = dict(zip(usable, results.members, strict=True))
        evaluated = {name: members for name, members in outcomes.items() if not isinstance(members, InvalidFilter)}
        return ContactAudiences(
            [found for name, found in typed.items() if contact_id in evaluated.get(name, ())],
            [name for name in typed if name not in evaluated],
            page.next_page_token,
            read_at,
        )

    def _find_in_other_datatypes(
        self, ctx: RequestContext, searched: Mapping[str, object], ids: Sequence[str]
    ) -> frozenset[str]:
        """The ids that belong to records of a served datatype that is not in `searched`."""
        found: frozenset[str] = frozenset()
        for datatype in self._datatypes:
            missing_ids = [name for name in ids if name not in found]
            if missing_ids and datatype not in searched:
                found |= self._checks.find(ctx.org, datatype, missing_ids, ctx.deadline)
        return found

    def _datatype_of(self, ctx: RequestContext, contact_id: str) -> str:
        """The datatype of a record. Raises ContactNotFound."""
        for datatype in sorted(self._datatypes, key=lambda name: not contact_id.startswith(f"{name}-")):
            if self._checks.find(ctx.org, datatype, [contact_id], ctx.deadline):
                return datatype
        raise contact_not_found("record of the org")


def contact_not_found(expected: str) -> ContactNotFound:
    """The error of a contact_id without the expected record."""
    return ContactNotFound(
        f"no {expected} has this contact_id", violations=(Violation("contact_id", f"is the id of no {expected}"),)
    )


def _members_or_raise(outcome: frozenset[str] | InvalidFilter) -> frozenset[str]:
    if isinstance(outcome, InvalidFilter):
        raise outcome
    return outcome


def _distinct(ids: Sequence[str], field_path: str, max_count: int) -> dict[str, str]:
    """The ids without duplicates, by the field path of their first use. Raises InvalidArgument."""
    if not ids:
        raise InvalidArgument.at(field_path, f"is missing; give 1 to {max_count:,} ids")
    if len(ids) > max_count:
        raise InvalidArgument.at(field_path, f"has {len(ids):,} ids; give at most {max_count:,}")
    first: dict[str, int] = {}
    for index, name in enumerate(ids):
        if not name:
            raise InvalidArgument.at(f"{field_path}[{index}]", "is empty; give an id")
        first.setdefault(name, index)
    return {f"{field_path}[{index}]": name for name, index in first.items()}
