"""The use case on why: which conditions of an audience hold for a contact, and when time alone will change that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.errors import InvalidFilter
from audience_service.domain.explanations.claims import Claim, ClaimReader
from audience_service.domain.explanations.flips import Horizon
from audience_service.domain.fields.fields import MISSING, dig
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import of_node
from audience_service.domain.filters.moments import as_of
from audience_service.domain.filters.nodes import Node
from audience_service.domain.filters.sets import as_filter
from audience_service.domain.membership.checks import contact_not_found
from audience_service.domain.membership.verdicts import CheckRepository
from audience_service.domain.ports import Record

_FIRST_MOMENTS = 8
"""At how many of its moments a condition is judged at first; then at twice as many each time."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A claim and whether it holds.

    `failure` says why it cannot be told by itself, `value` is what the record has, MISSING if nothing. `flip_time` is
    when time alone changes it, None where it does not within ten years, or that is not known.
    """

    claim: Claim
    holds: bool
    failure: str
    value: Any
    flip_time: datetime | None
    inner: tuple["Truth", ...]


@dataclass(frozen=True, slots=True)
class MembershipExplanation:
    """Why a contact is a member or is not. `time_unknown` says that no flip_time of the whole can be told."""

    truth: Truth
    time_unknown: bool
    read_at: datetime


class MembershipExplanations:
    """Explains memberships. The database judges every condition, now and at each moment that comes into question."""

    def __init__(self, checks: CheckRepository, audiences: Audiences) -> None:
        self._checks = checks
        self._audiences = audiences

    def explain(self, call: Call, selection: Selection, contact_id: str) -> MembershipExplanation:
        """Why a contact is a member of what a caller means, or is not.

        The database is asked once for the audience and for each level of audiences inside its filter, once to judge all
        conditions, and once more, in which it judges them at later moments, where they depend on time: more often where
        many moments come into question.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, ContactNotFound, ExpressionFailed, OutOfTime.
        """
        read_at = now()
        audiences = self._at_hand(call, selection).at(read_at)
        whole = as_filter(audiences.population(call, selection))
        reader = ClaimReader(audiences.parse, partial(audiences.source, call), audiences.names)
        if selection.filter is not None:
            claim = reader.whole(selection.filter, selection.filter_place)
        else:
            claim = reader.audience(selection.audience_id, selection.audience_place, "filter")
        return self._judge(call, whole, claim, contact_id, read_at)

    def _at_hand(self, call: Call, selection: Selection) -> Audiences:
        """The audiences, with what the selection is about read already."""
        if selection.filter is not None:
            return self._audiences.knowing(call, (), [selection.filter])
        if selection.audience_id:
            return self._audiences.knowing(call, [self._audiences.find(call, selection.audience_id)])
        return self._audiences

    def _judge(
        self, call: Call, whole: CompiledFilter, claim: Claim, contact_id: str, read_at: datetime
    ) -> MembershipExplanation:
        claims = list(claim.walk())
        populations = [whole, *(of_node(whole.datatype, inner.node) for inner in claims[1:])]
        paths = list(dict.fromkeys(inner.path for inner in claims if inner.path))
        judged = self._checks.judge(call.org, whole.datatype, populations, [contact_id], paths, call.deadline)
        record = judged.records.get(contact_id)
        if record is None:
            raise contact_not_found(f"{whole.datatype} of the org")
        if isinstance(judged.members[0], InvalidFilter):
            raise judged.members[0]
        horizon = Horizon(read_at, call.deadline)
        outlooks = [horizon.outlook(inner.node, record) for inner in claims]
        moments = {
            index: outlook.moments
            for index, outlook in enumerate(outlooks)
            if not outlook.unknown and not isinstance(judged.members[index], InvalidFilter)
        }
        holds = [not isinstance(found, InvalidFilter) and contact_id in found for found in judged.members]
        flips = self._flips(call, whole.datatype, contact_id, claims, holds, moments)
        failures = [_reason(found) if isinstance(found, InvalidFilter) else "" for found in judged.members]
        told = zip(holds, failures, (flips.get(index) for index in range(len(claims))), strict=True)
        return MembershipExplanation(_truth(claim, told, record), outlooks[0].unknown, read_at)

    def _flips(
        self,
        call: Call,
        datatype: str,
        contact_id: str,
        claims: Sequence[Claim],
        holds: Sequence[bool],
        moments: Mapping[int, Sequence[datetime]],
    ) -> Mapping[int, datetime]:
        """Of the claims with moments, by index, the first at which the database judges otherwise than now."""
        flips: dict[int, datetime] = {}
        waiting = {index: ahead for index, ahead in moments.items() if ahead}
        most = _FIRST_MOMENTS
        while waiting:
            asked = [(index, moment) for index, ahead in waiting.items() for moment in ahead[:most]]
            then = [(index, moment, node) for index, moment in asked if (node := _at(claims[index].node, moment))]
            populations = [of_node(datatype, node) for _, _, node in then]
            judged = self._checks.judge(call.org, datatype, populations, [contact_id], (), call.deadline)
            for (index, moment, _), found in zip(then, judged.members, strict=True):
                if not isinstance(found, InvalidFilter) and (contact_id in found) != holds[index]:
                    flips.setdefault(index, moment)
            waiting = {index: ahead[most:] for index, ahead in waiting.items() if index not in flips}
            waiting = {index: ahead for index, ahead in waiting.items() if ahead}
            most *= 2
        return flips


def _at(node: Node, moment: datetime) -> Node | None:
    """The node at a moment, None where a date of it leaves the calendar: it could not be used then."""
    try:
        return as_of(node, moment)
    except InvalidFilter:
        return None


def _truth(claim: Claim, told: Iterator[tuple[bool, str, datetime | None]], record: Record) -> Truth:
    """The truth of a claim, told of it and then of those inside it."""
    holds, failure, flip_time = next(told)
    value = dig(record, claim.path.split(".")) if claim.path else MISSING
    return Truth(claim, holds, failure, value, flip_time, tuple(_truth(inner, told, record) for inner in claim.inner))


def _reason(error: InvalidFilter) -> str:
    return error.violations[0].description
