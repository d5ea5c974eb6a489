"""How often the database is asked who is in what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.explain.membership_explanation import MembershipExplainer
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.membership.audience_pages import AudiencePages
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.reach.overlap import Overlaps
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.membership import checks
from audience_service.mongo.membership.checks import MongoChecks
from audience_service.mongo.membership.repository import MongoMembers
from audience_service.mongo.segments.repository import MongoSegments
from tests.conftest import URI, Service
from tests.support.audiences import segment_resolver

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
        segments, judges, tokens = MongoSegments(database), MongoChecks(database), TokenCodec(b"key")
        self.judge = judges.evaluate
        audiences = segment_resolver(segments, FilterCompiler(DATATYPES))
        self.checks = MembershipChecker(
            judges, AudiencePages(segments, MongoCustomAudiences(database)), audiences, tokens, DATATYPES
        )
        self.explanations = MembershipExplainer(judges, audiences)
        self.overlaps = Overlaps(MongoMembers(database), audiences)
        self.ctx = RequestContext(Caller("tester", org, frozenset()), Deadline.after(30))


@pytest.fixture
def recorded(real_service: Service) -> Iterator[tuple[Commands, UseCases, list[str], list[str]]]:
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


SEGMENTS, EVALUATED = ("find", "segment"), ("aggregate", "contact")


def test_a_check_of_many_contacts_is_two_commands(recorded: Any) -> None:
    commands, cases, ids, made = recorded
    assert commands.of(lambda: cases.checks.check(cases.call, made[:2], ids)) == [SEGMENTS, EVALUATED]


def test_each_level_of_audiences_in_filters_is_one_command_more(recorded: Any) -> None:
    commands, cases, ids, made = recorded
    assert commands.of(lambda: cases.checks.check(cases.call, made[3:], ids)) == [
        SEGMENTS,
        SEGMENTS,
        SEGMENTS,
        EVALUATED,
    ]
    assert commands.of(lambda: cases.checks.check(cases.call, made, ids)) == [SEGMENTS, EVALUATED]


def test_missing_ids_are_searched_in_each_other_datatype(recorded: Any) -> None:
    commands, cases, ids, made = recorded
    sent = commands.of(lambda: cases.checks.check(cases.call, made[:1], [*ids[:3], "contact-nobody"]))
    assert sent == [SEGMENTS, EVALUATED, ("find", "lead"), ("find", "customer")]


def test_one_command_evaluates_a_page_of_a_contacts_audiences(recorded: Any) -> None:
    commands, cases, ids, _ = recorded
    sent = commands.of(lambda: cases.checks.audiences_of(cases.call, ids[0], 200, ""))
    page = [("aggregate", "segment"), ("aggregate", "segment"), ("aggregate", "custom"), ("find", "custom")]
    assert sent == [("find", "contact"), *page, EVALUATED]


def test_an_explanation_is_one_command_and_one_for_future_changes(recorded: Any) -> None:
    commands, cases, ids, made = recorded
    sent = commands.of(lambda: cases.explanations.explain(cases.call, AudienceSelector(made[1]), ids[0]))
    assert sent == [SEGMENTS, EVALUATED]
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
    timed = AudienceSelector(filter=Filter("contact", {"$or": [{"at": recent}, {"at": {"$not": recent}}]}))
    assert commands.of(lambda: cases.explanations.explain(cases.call, timed, ids[0])) == [EVALUATED, EVALUATED]
    assert commands.of(lambda: cases.explanations.explain(cases.call, timed, ids[1])) == [EVALUATED]


def test_each_further_command_evaluates_twice_as_many_times(recorded: Any, real_service: Service) -> None:
    commands, cases, _, _ = recorded
    visits = [datetime.now(UTC) + timedelta(days=day) for day in range(100)]
    [often] = real_service.insert(cases.call.org, [{"data": {"visits": visits}}])
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
    timed = AudienceSelector(filter=Filter("contact", {"visits": recent}))
    sent = commands.of(lambda: cases.explanations.explain(cases.call, timed, often))
    assert sent == [EVALUATED] * 6
    flip = cases.explanations.explain(cases.call, timed, often).truth.flip_time
    assert timedelta(0) < flip - (visits[-1] + timedelta(days=30)) <= timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("limit", "value", "commands"),
    [
        ("_MAX_COMMAND_BYTES", 10, 3),
        ("_MAX_COMMAND_BYTES", 45_000, 2),
        ("_MAX_COMMAND_BYTES", 70_000, 1),
        ("_MAX_FACETS", 2, 2),
    ],
)
def test_one_command_evaluates_as_many_audiences_as_fit(
    recorded: Any, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, commands: int
) -> None:
    listener, cases, ids, _ = recorded
    large = Filter("contact", {"n": {"$nin": ["x" * 1_000] * 20}})
    populations = [FilterCompiler(DATATYPES).compile(large)] * 3
    monkeypatch.setattr(checks, limit, value)

    def evaluate() -> None:
        results = cases.judge(cases.call.org, "contact", populations, ids, (), cases.call.deadline)
        assert [len(members) for members in results.members if isinstance(members, frozenset)] == [1_000] * 3

    assert listener.of(evaluate) == [EVALUATED] * commands


def test_one_command_reads_all_audiences_of_an_overlap(recorded: Any) -> None:
    commands, cases, _, made = recorded
    sent = commands.of(lambda: cases.overlaps.among(cases.call, made[:2]))
    assert sent.count(SEGMENTS) == 1
