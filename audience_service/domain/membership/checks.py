"""The use cases on single contacts: which of some audiences they are in, and which of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.pages import AudiencePages, TypedAudience
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.errors import ContactNotFound, InvalidArgument, InvalidFilter, UnusableAudience, Violation
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.sets import as_filter
from audience_service.domain.membership.verdicts import CheckRepository
from audience_service.domain.tokens import TokenSealer

MOST_AUDIENCES, MOST_CONTACTS = 100, 1_000


@dataclass(frozen=True, slots=True)
class ContactMemberships:
    """The audiences, of those asked about, that a contact is in; `found` is whether there is such a record."""

    contact_id: str
    audience_ids: Sequence[str]
    found: bool


@dataclass(frozen=True, slots=True)
class MembershipCheck:
    """What has been found of each contact, and when the database was asked."""

    memberships: Sequence[ContactMemberships]
    read_at: datetime


@dataclass(frozen=True, slots=True)
class ContactAudiences:
    """The audiences of a page that a contact is in, and those that cannot be told of; no token on the last page."""

    audiences: Sequence[TypedAudience]
    unusable_ids: Sequence[str]
    next_page_token: str
    read_at: datetime


class Checks:
    """Says who is in what. Whatever the audiences are, the database judges them as it does for counts and streams."""

    def __init__(
        self,
        checks: CheckRepository,
        pages: AudiencePages,
        audiences: Audiences,
        sealer: TokenSealer,
        datatypes: Sequence[str],
    ) -> None:
        self._checks = checks
        self._pages = pages
        self._audiences = audiences
        self._sealer = sealer
        self._datatypes = datatypes

    def check(self, call: Call, audience_ids: Sequence[str], contact_ids: Sequence[str]) -> MembershipCheck:
        """Which of the contacts are in which of the audiences, each told once, in their order.

        The database is asked once for the audiences, once for each level of audiences inside their filters, and once
        for each datatype among them: the command that judges all audiences of it, which becomes several only where
        they do not fit one. Where it has not found an id, it is asked once for each served datatype that remains.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, ExpressionFailed at `audience_ids[i]`, OutOfTime.
        """
        named = _distinct(audience_ids, "audience_ids", MOST_AUDIENCES)
        contacts = list(_distinct(contact_ids, "contact_ids", MOST_CONTACTS).values())
        wanted = self._audiences.get_many(call, named)
        read_at = now()
        audiences = self._audiences.knowing(call, wanted).at(read_at)
        by_datatype: dict[str, dict[str, CompiledFilter]] = {}
        for place, audience in zip(named, wanted, strict=True):
            population = replace(as_filter(audiences.members_of(call, audience)), place=place)
            by_datatype.setdefault(population.datatype, {})[audience.id] = population
        found: set[str] = set()
        members: dict[str, frozenset[str]] = {}
        for datatype, populations in by_datatype.items():
            judged = self._checks.judge(call.org, datatype, list(populations.values()), contacts, (), call.deadline)
            found.update(judged.records)
            members |= dict(zip(populations, map(_told, judged.members), strict=True))
        found |= self._elsewhere(call, by_datatype, [name for name in contacts if name not in found])
        return MembershipCheck(
            [
                ContactMemberships(
                    name, [audience.id for audience in wanted if name in members[audience.id]], name in found
                )
                for name in contacts
            ],
            read_at,
        )

    def audiences_of(self, call: Call, contact_id: str, page_size: int, page_token: str) -> ContactAudiences:
        """The audiences that a contact is in, of a page of the org's audiences of all datatypes.

        The database is asked for the contact (in the datatype that its id begins with, then in others), twice for the
        page's segments and twice for its custom audiences, once for each level of audiences inside its filters, and
        once to judge them all. Where one of them fails on the record, those are asked about by halves until what fails
        is told from the others.

        Raises InvalidArgument, ContactNotFound, InvalidPageToken, OutOfTime.
        """
        binding = ("audiences of", call.org, contact_id)
        after = self._sealer.open(page_token, binding, "page_token") if page_token else None
        datatype = self._datatype_of(call, contact_id)
        page, last = self._pages.page(call, page_size, after)
        typed = {found.audience.id: found for found in page if found.audience.filter.datatype == datatype}
        read_at = now()
        audiences = self._audiences.knowing(call, [found.audience for found in typed.values()]).at(read_at)
        usable: dict[str, CompiledFilter] = {}
        for found in typed.values():
            try:
                usable[found.audience.id] = as_filter(audiences.members_of(call, found.audience))
            except UnusableAudience:
                continue
        judged = self._checks.judge(call.org, datatype, list(usable.values()), [contact_id], (), call.deadline)
        verdicts = dict(zip(usable, judged.members, strict=True))
        told = {name: members for name, members in verdicts.items() if not isinstance(members, InvalidFilter)}
        return ContactAudiences(
            [found for name, found in typed.items() if contact_id in told.get(name, ())],
            [name for name in typed if name not in told],
            self._sealer.seal(binding, list(last)) if last else "",
            read_at,
        )

    def _elsewhere(self, call: Call, seen: Mapping[str, object], ids: Sequence[str]) -> frozenset[str]:
        """Those of the ids that are records of a served datatype in which they have not been looked for."""
        found: frozenset[str] = frozenset()
        for datatype in self._datatypes:
            wanted = [name for name in ids if name not in found]
            if wanted and datatype not in seen:
                found |= self._checks.find(call.org, datatype, wanted, call.deadline)
        return found

    def _datatype_of(self, call: Call, contact_id: str) -> str:
        """The datatype of a record. Raises ContactNotFound."""
        for datatype in sorted(self._datatypes, key=lambda name: not contact_id.startswith(f"{name}-")):
            if self._checks.find(call.org, datatype, [contact_id], call.deadline):
                return datatype
        raise contact_not_found("record of the org")


def contact_not_found(what: str) -> ContactNotFound:
    """The error of a contact_id that is no such thing."""
    return ContactNotFound(f"the contact_id is no {what}", violations=(Violation("contact_id", f"is no {what}"),))


def _told(verdict: frozenset[str] | InvalidFilter) -> frozenset[str]:
    if isinstance(verdict, InvalidFilter):
        raise verdict
    return verdict


def _distinct(ids: Sequence[str], place: str, most: int) -> dict[str, str]:
    """The ids, each once, by the places in the request that name them first. Raises InvalidArgument."""
    if not ids:
        raise InvalidArgument.at(place, f"is missing; give 1 to {most:,} ids")
    if len(ids) > most:
        raise InvalidArgument.at(place, f"holds {len(ids):,} ids, more than {most:,}")
    first: dict[str, int] = {}
    for index, name in enumerate(ids):
        if not name:
            raise InvalidArgument.at(f"{place}[{index}]", "is empty")
        first.setdefault(name, index)
    return {f"{place}[{index}]": name for name, index in first.items()}
