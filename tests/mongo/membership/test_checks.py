"""The commands of membership checks, explanations, overlaps and reach."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import PageRequest
from audience_service.domain.explain.membership_explanation import MembershipExplainer
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.membership.audience_pages import AudiencePages
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.reach.overlap import Overlaps
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.membership import checks
from audience_service.mongo.membership.checks import MongoMembershipChecks
from audience_service.mongo.membership.repository import MongoMembers
from audience_service.mongo.segments.repository import MongoSegments
from tests.conftest import URI, Service
from tests.support.audiences import segment_resolver

DATATYPES = ("contact", "lead", "customer")


class Commands(CommandListener):
    """Records the commands that the client sends, each as name and collection."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate", "getMore", "count"):
            self.sent.append((event.command_name, str(event.command[event.command_name])))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Successful and failed commands are not recorded."""

    def failed(self, event: CommandFailedEvent) -> None:
        """See `succeeded`."""

    def of(self, operation: Callable[[], object]) -> list[tuple[str, str]]:
        """The commands that the operation sends."""
        self.sent.clear()
        operation()
        return list(self.sent)


class UseCases:
    """The use cases on a database whose commands are recorded."""

    def __init__(self, database: Any, org: str) -> None:
        segments, repository, tokens = (
            MongoSegments(database, TenantScope()),
            MongoMembershipChecks(database, TenantScope()),
            TokenCodec(b"key"),
        )
        self.evaluate = repository.evaluate
        audiences = segment_resolver(segments, FilterCompiler(DATATYPES))
        self.checks = MembershipChecker(
            repository,
            AudiencePages(segments, MongoCustomAudiences(database, TenantScope())),
            audiences,
            tokens,
            DATATYPES,
        )
        self.explanations = MembershipExplainer(repository, audiences)
        self.members = MongoMembers(database, TenantScope())
        self.overlaps = Overlaps(self.members, audiences)
        self.ctx = RequestContext(Caller("tester", org, frozenset()), Deadline.after(30))


Recorded = tuple[Commands, UseCases, list[str], list[str]]


@pytest.fixture
def recorded(real_service: Service) -> Iterator[Recorded]:
    """The commands, the use cases, ids of contacts, and ids of four audiences.

    The audiences are a list, a filter, a filter that refers to the list, and a filter that refers to that one.
    """
    org = f"recorded{next(real_service.names)}"
    client = real_service.client(org)
    yesterday = {0: {"at": datetime.now(UTC) - timedelta(days=1)}}
    ids = real_service.insert(org, [{"data": {"n": number, **yesterday.get(number, {})}} for number in range(1_000)])
    audience_ids = [client.create(name="list", type="static", contactIds=ids[:900]).id]

    def save(name: str, where: dict[str, Any]) -> str:
        return str(client.create(name=name, filter={"datatype": "contact", "where": where}).id)

    audience_ids.append(save("filter", {"n": {"$gte": 5}}))
    audience_ids.append(save("inner", {"$or": [{"$inAudience": audience_ids[0]}, {"n": 3}]}))
    audience_ids.append(save("outer", {"$inAudience": audience_ids[2]}))
    commands = Commands()
    with MongoClient[dict[str, Any]](URI, event_listeners=[commands], tz_aware=True) as connection:
        yield commands, UseCases(connection[real_service.store.database.name], org), ids, audience_ids


SEGMENTS, EVALUATED = ("find", "segment"), ("aggregate", "contact")


def test_a_check_of_many_contacts_is_two_commands(recorded: Recorded) -> None:
    commands, use_cases, ids, audience_ids = recorded
    assert commands.of(lambda: use_cases.checks.check(use_cases.ctx, audience_ids[:2], ids)) == [SEGMENTS, EVALUATED]


def test_each_level_of_audiences_in_filters_is_one_command_more(recorded: Recorded) -> None:
    commands, use_cases, ids, audience_ids = recorded
    assert commands.of(lambda: use_cases.checks.check(use_cases.ctx, audience_ids[3:], ids)) == [
        SEGMENTS,
        SEGMENTS,
        SEGMENTS,
        EVALUATED,
    ]
    assert commands.of(lambda: use_cases.checks.check(use_cases.ctx, audience_ids, ids)) == [SEGMENTS, EVALUATED]


@pytest.mark.parametrize(("count", "commands_sent"), [(0, 1), (1, 1), (2, 2), (3, 2)])
def test_the_reach_of_few_members_is_one_command(recorded: Recorded, count: int, commands_sent: int) -> None:
    commands, use_cases, _, _ = recorded
    population = FilterCompiler(DATATYPES).compile(Filter("contact", {"n": {"$lt": count}}))
    found: list[Any] = []
    sent = commands.of(lambda: found.extend(use_cases.members.reach(use_cases.ctx.org, population, Deadline.after(30))))
    assert sent == [EVALUATED] * commands_sent
    assert found[0] == count
    assert (found[1] is not None) == (count > 0)


def test_missing_ids_are_searched_in_each_other_datatype(recorded: Recorded) -> None:
    commands, use_cases, ids, audience_ids = recorded
    sent = commands.of(lambda: use_cases.checks.check(use_cases.ctx, audience_ids[:1], [*ids[:3], "contact-nobody"]))
    assert sent == [SEGMENTS, EVALUATED, ("find", "lead"), ("find", "customer")]


def test_one_command_evaluates_a_page_of_a_contacts_audiences(recorded: Recorded) -> None:
    commands, use_cases, ids, _ = recorded
    sent = commands.of(lambda: use_cases.checks.list_audiences(use_cases.ctx, ids[0], PageRequest(200)))
    page = [("aggregate", "segment"), ("aggregate", "segment"), ("aggregate", "custom"), ("find", "custom")]
    assert sent == [("find", "contact"), *page, EVALUATED]


def test_an_explanation_is_one_command_and_one_for_future_changes(recorded: Recorded) -> None:
    commands, use_cases, ids, audience_ids = recorded
    sent = commands.of(lambda: use_cases.explanations.explain(use_cases.ctx, AudienceSelector(audience_ids[1]), ids[0]))
    assert sent == [SEGMENTS, EVALUATED]
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
    timed = AudienceSelector(filter=Filter("contact", {"$or": [{"at": recent}, {"at": {"$not": recent}}]}))
    assert commands.of(lambda: use_cases.explanations.explain(use_cases.ctx, timed, ids[0])) == [EVALUATED, EVALUATED]
    assert commands.of(lambda: use_cases.explanations.explain(use_cases.ctx, timed, ids[1])) == [EVALUATED]


def test_each_further_command_evaluates_twice_as_many_times(recorded: Recorded, real_service: Service) -> None:
    commands, use_cases, _, _ = recorded
    visits = [datetime.now(UTC) + timedelta(days=day) for day in range(100)]
    [often] = real_service.insert(use_cases.ctx.org, [{"data": {"visits": visits}}])
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}
    timed = AudienceSelector(filter=Filter("contact", {"visits": recent}))
    sent = commands.of(lambda: use_cases.explanations.explain(use_cases.ctx, timed, often))
    assert sent == [EVALUATED] * 6
    next_change_time = use_cases.explanations.explain(use_cases.ctx, timed, often).condition.next_change_time
    assert next_change_time is not None
    assert timedelta(0) < next_change_time - (visits[-1] + timedelta(days=30)) <= timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("limit", "value", "commands"),
    [
        ("MAX_COMMAND_BYTES", 10, 3),
        ("MAX_COMMAND_BYTES", 45_000, 2),
        ("MAX_COMMAND_BYTES", 70_000, 1),
        ("MAX_FACETS", 2, 2),
    ],
)
def test_one_command_evaluates_as_many_audiences_as_fit(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, commands: int
) -> None:
    listener, use_cases, ids, _ = recorded
    large = Filter("contact", {"n": {"$nin": ["x" * 1_000] * 20}})
    populations = [FilterCompiler(DATATYPES).compile(large)] * 3
    monkeypatch.setattr(checks, limit, value)

    def evaluate() -> None:
        results = use_cases.evaluate(use_cases.ctx.org, "contact", populations, ids, (), use_cases.ctx.deadline)
        assert [len(members) for members in results.members if isinstance(members, frozenset)] == [1_000] * 3

    assert listener.of(evaluate) == [EVALUATED] * commands


def test_one_command_reads_all_audiences_of_an_overlap(recorded: Recorded) -> None:
    commands, use_cases, _, audience_ids = recorded
    sent = commands.of(lambda: use_cases.overlaps.compare_all(use_cases.ctx, audience_ids[:2]))
    assert sent.count(SEGMENTS) == 1
