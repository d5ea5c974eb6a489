"""How often the database is asked who is in what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.pages import AudiencePages
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.explanations.membership_explanation import MembershipExplanations
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.membership.checks import Checks
from audience_service.domain.reach.overlap import Overlaps
from audience_service.domain.tokens import TokenSealer
from audience_service.mongo import checks
from audience_service.mongo.checks import MongoChecks
from audience_service.mongo.custom import MongoCustomAudiences
from audience_service.mongo.members import MongoMembers
from audience_service.mongo.segments import MongoSegments
from tests.conftest import URI, Service

DATATYPES = ("contact", "lead", "customer")


class Commands(CommandListener):
    """The commands that are sent, as name and collection."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate", "getMore", "count"):
            self.sent.append((event.command_name, str(event.command[event.command_name])))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Of no interest."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Of no interest."""

    def of(self, ask: Any) -> list[tuple[str, str]]:
        """What is sent for an answer."""
        self.sent.clear()
        ask()
        return list(self.sent)


class UseCases:
    """The use cases on a database whose commands are listened to."""

    def __init__(self, database: Any, org: str) -> None:
        segments, judges, sealer = MongoSegments(database), MongoChecks(database), TokenSealer(b"key")
        self.judge = judges.judge
        audiences = Audiences(segments, FilterCompiler(DATATYPES))
        self.checks = Checks(
            judges, AudiencePages(segments, MongoCustomAudiences(database)), audiences, sealer, DATATYPES
        )
        self.explanations = MembershipExplanations(judges, audiences)
        self.overlaps = Overlaps(MongoMembers(database), audiences)
        self.call = Call(Caller("tester", org, frozenset()), Deadline.after(30))


@pytest.fixture
def listened(real_service: Service) -> Iterator[tuple[Commands, UseCases, list[str], list[str]]]:
    """The commands, the use cases, ids of contacts, and of a list, a filter, one over both and one over that."""
    org = f"listened{next(real_service.names)}"
    client = real_service.client(org)
    yesterday = {0: {"at": datetime.now(UTC) - timedelta(days=1)}}
    ids = real_service.insert(org, [{"data": {"n": number, **yesterday.get(number, {})}} for number in range(1_000)])
    made = [client.create(name="list", type="static", contactIds=ids[:900]).id]

    def save(name: str, where: dict[str, Any]) -> str:
        return str(client.create(name=name, filter={"datatype": "contact", "where": where}).id)

    made.append(save("filter", {"n": {"$gte": 5}}))
    made.append(save("inner", {"$or": [{"$inAudience": made[0]}, {"n": 3}]}))
    made.append(save("outer", {"$inAudience": made[2]}))
    commands = Commands()
    with MongoClient[dict[str, Any]](URI, event_listeners=[commands], tz_aware=True) as connection:
        yield commands, UseCases(connection[real_service.store.database.name], org), ids, made


SEGMENTS, JUDGED = ("find", "segment"), ("aggregate", "contact")


def test_a_check_of_many_contacts_is_two_commands(listened: Any) -> None:
    commands, cases, ids, made = listened
    assert commands.of(lambda: cases.checks.check(cases.call, made[:2], ids)) == [SEGMENTS, JUDGED]


def test_each_level_of_audiences_in_filters_is_one_command_more(listened: Any) -> None:
    commands, cases, ids, made = listened
    assert commands.of(lambda: cases.checks.check(cases.call, made[3:], ids)) == [SEGMENTS, SEGMENTS, SEGMENTS, JUDGED]
    assert commands.of(lambda: cases.checks.check(cases.call, made, ids)) == [SEGMENTS, JUDGED]


def test_ids_that_are_not_found_are_looked_for_in_each_other_datatype(listened: Any) -> None:
    commands, cases, ids, made = listened
    sent = commands.of(lambda: cases.checks.check(cases.call, made[:1], [*ids[:3], "contact-nobody"]))
    assert sent == [SEGMENTS, JUDGED, ("find", "lead"), ("find", "customer")]


def test_a_page_of_a_contacts_audiences_is_judged_by_one_command(listened: Any) -> None:
    commands, cases, ids, _ = listened
    sent = commands.of(lambda: cases.checks.audiences_of(cases.call, ids[0], 200, ""))
    page = [("aggregate", "segment"), ("aggregate", "segment"), ("aggregate", "custom"), ("find", "custom")]
    assert sent == [("find", "contact"), *page, JUDGED]


def test_an_explanation_is_one_command_and_one_for_the_moments_to_come(listened: Any) -> None:
    commands, cases, ids, made = listened
    sent = commands.of(lambda: cases.explanations.explain(cases.call, Selection(made[1]), ids[0]))
    assert sent == [SEGMENTS, JUDGED]
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
    timed = Selection(filter=Filter("contact", {"$or": [{"at": recent}, {"at": {"$not": recent}}]}))
    assert commands.of(lambda: cases.explanations.explain(cases.call, timed, ids[0])) == [JUDGED, JUDGED]
    assert commands.of(lambda: cases.explanations.explain(cases.call, timed, ids[1])) == [JUDGED]


def test_of_many_moments_twice_as_many_are_judged_by_each_further_command(listened: Any, real_service: Service) -> None:
    commands, cases, _, _ = listened
    visits = [datetime.now(UTC) + timedelta(days=day) for day in range(100)]
    [often] = real_service.insert(cases.call.org, [{"data": {"visits": visits}}])
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
    timed = Selection(filter=Filter("contact", {"visits": recent}))
    sent = commands.of(lambda: cases.explanations.explain(cases.call, timed, often))
    assert sent == [JUDGED] * 6
    flip = cases.explanations.explain(cases.call, timed, often).truth.flip_time
    assert timedelta(0) < flip - (visits[-1] + timedelta(days=30)) <= timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("limit", "value", "commands"),
    [("_COMMAND_BYTES", 10, 3), ("_COMMAND_BYTES", 45_000, 2), ("_COMMAND_BYTES", 70_000, 1), ("_MOST_FACETS", 2, 2)],
)
def test_as_many_audiences_are_judged_by_one_command_as_fit_it(
    listened: Any, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, commands: int
) -> None:
    listener, cases, ids, _ = listened
    large = Filter("contact", {"n": {"$nin": ["x" * 1_000] * 20}})
    populations = [FilterCompiler(DATATYPES).compile(large)] * 3
    monkeypatch.setattr(checks, limit, value)

    def judge() -> None:
        judged = cases.judge(cases.call.org, "contact", populations, ids, (), cases.call.deadline)
        assert [len(members) for members in judged.members if isinstance(members, frozenset)] == [1_000] * 3

    assert listener.of(judge) == [JUDGED] * commands


def test_an_overlap_reads_all_its_audiences_by_one_command(listened: Any) -> None:
    commands, cases, _, made = listened
    sent = commands.of(lambda: cases.overlaps.among(cases.call, made[:2]))
    assert sent.count(SEGMENTS) == 1
