"""StreamMembers of several audiences, minus the excluded ones, on every store."""

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.filters import CompiledFilter, FilterCompiler
from audience_service.domain.filters.ast import Or
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.mongo.query import joins
from tests.conftest import Service
from tests.support.audiences import segment_resolver
from tests.support.client import Client, Refusal
from tests.support.examples import examples

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def contact_filter(**where: Any) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


def exclusions(client: Client, **request: Any) -> dict[str, int]:
    """What the totals say of who was left out."""
    *_, last = client.call("StreamMembers", request)
    return {found.reason: found.count for found in last.totals.exclusions}


@pytest.fixture
def three(client: Client, insert: Insert) -> tuple[list[str], dict[str, str]]:
    """Nine contacts, n of each in `a`, and three audiences: the even ones, those from 5 on, and a list of 0, 1, 8."""
    ids = insert([{"id": f"{n}", "data": {"n": n, "even": n % 2 == 0}} for n in range(9)])
    audiences = {
        "even": client.create(name="even", filter=contact_filter(even={"$ne": False})).id,
        "high": client.create(name="high", filter=contact_filter(n={"$gte": 5})).id,
        "listed": client.create(name="listed", type="static", contactIds=[ids[0], ids[1], ids[8]]).id,
    }
    return ids, audiences


def numbers(ids: list[str]) -> str:
    return "".join(contact_id[-1] for contact_id in ids)


def test_a_union_has_everybody_once_in_order(client: Client, three: tuple[list[str], dict[str, str]]) -> None:
    _, audiences = three
    both = client.members(audienceIds=[audiences["high"], audiences["listed"]])
    assert numbers(both) == "015678"
    assert client.members(audienceIds=[audiences["listed"]]) == client.members(audienceId=audiences["listed"])


def test_members_of_excluded_audiences_are_left_out_and_counted(
    client: Client, three: tuple[list[str], dict[str, str]]
) -> None:
    _, audiences = three
    request = {"audienceId": audiences["high"], "excludeAudienceIds": [audiences["listed"]]}
    assert numbers(client.members(**request)) == "567"
    assert exclusions(client, **request) == {"excluded": 1}
    listed = {"audienceId": audiences["listed"], "excludeAudienceIds": [audiences["high"]]}
    assert numbers(client.members(**listed)) == "01"
    assert exclusions(client, **listed) == {"excluded": 1}
    empty_selection = {"audienceId": audiences["high"], "excludeAudienceIds": [audiences["high"]]}
    assert (client.members(**empty_selection), exclusions(client, **empty_selection)) == ([], {"excluded": 4})


def test_a_union_resumes_after_its_own_cursor_only(
    client: Client, three: tuple[list[str], dict[str, str]], refused: Refused
) -> None:
    _, audiences = three
    request = {"audienceIds": [audiences["high"], audiences["listed"]], "batchSize": 2}
    first = next(iter(client.call("StreamMembers", request)))
    rest = list(client.call("StreamMembers", {**request, "cursor": first.cursor}))
    assert numbers([member.id for message in [first, *rest] for member in message.members]) == "015678"
    assert rest[-1].totals.member_count == 6
    others: list[dict[str, Any]] = [
        {"excludeAudienceIds": [audiences["even"]]},
        {"partition": {"index": 0, "count": 1}},
        {"purpose": "ads"},
    ]
    for other in others:
        wrong = {**request, **other, "cursor": first.cursor}
        assert refused(lambda wrong=wrong: client.call("StreamMembers", wrong)).info.reason == "INVALID_PAGE_TOKEN"


def test_incompatible_selections_are_named_by_their_field_path(
    service: Service, client: Client, three: tuple[list[str], dict[str, str]], refused: Refused
) -> None:
    _, audiences = three
    lead = client.create(name="leads", filter={"datatype": "lead", "where": {}}).id
    even, high = audiences["even"], audiences["high"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "filter"),
        ({"audienceIds": [even, even]}, "audience_ids[1]"),
        ({"audienceIds": [even, ""]}, "audience_ids[1]"),
        ({"audienceIds": [even, lead]}, "audience_ids[1]"),
        ({"audienceIds": [even], "filter": contact_filter()}, "audience_ids"),
        ({"audienceIds": [even], "audienceId": high}, "audience_ids"),
        ({"audienceIds": [f"segment-{n}" for n in range(21)]}, "audience_ids"),
        ({"audienceId": even, "excludeAudienceIds": [high, lead]}, "exclude_audience_ids[1]"),
        ({"audienceId": even, "excludeAudienceIds": [f"segment-{n}" for n in range(21)]}, "exclude_audience_ids"),
        ({"audienceId": even, "purpose": "fax"}, "purpose"),
        ({"audienceId": even, "partition": {"index": 0, "count": 0}}, "partition.count"),
        ({"audienceId": even, "partition": {"index": 0, "count": 65}}, "partition.count"),
        ({"audienceId": even, "partition": {"index": 2, "count": 2}}, "partition.index"),
        ({"audienceId": even, "partition": {"index": -1, "count": 2}}, "partition.index"),
    ]
    for request, field_path in wrong:
        refusal = refused(lambda request=request: client.call("StreamMembers", request))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field_path])


def test_an_oversized_combination_is_refused_with_its_field_path(client: Client, refused: Refused) -> None:
    large = [
        client.create(
            name=f"large {n}", filter=contact_filter(n={"$nin": [f"{n}{'x' * 900}{k}" for k in range(600)]})
        ).id
        for n in range(2)
    ]
    for request, field_path in (
        ({"audienceIds": large}, "audience_ids"),
        ({"audienceId": large[0], "excludeAudienceIds": large[1:]}, "audience_id"),
    ):
        refusal = refused(lambda request=request: client.call("StreamMembers", request))
        assert (refusal.info.reason, refusal.fields) == ("FILTER_TOO_LARGE", [field_path])


def test_another_orgs_audience_is_neither_joined_nor_left_out(
    service: Service, client: Client, three: tuple[list[str], dict[str, str]], refused: Refused
) -> None:
    _, audiences = three
    theirs = service.client("strangers").create(name="theirs", filter=contact_filter()).id
    for name, further in (("audienceIds", {}), ("excludeAudienceIds", {"audienceId": audiences["even"]})):
        request = {**further, name: [audiences["high"], theirs]}
        refusal = refused(lambda request=request: client.call("StreamMembers", request))
        field = "audience_ids[1]" if name == "audienceIds" else "exclude_audience_ids[1]"
        assert (refusal.info.reason, refusal.fields) == ("AUDIENCE_NOT_FOUND", [field])
        assert refusal.info.metadata["id"] == theirs


def test_a_failing_expression_is_reported_at_the_audiences_field_path(real_service: Service, refused: Refused) -> None:
    client = real_service.client("failing-unions")
    ids = real_service.insert("failing-unions", [{"data": {"n": "four"}}])
    half = client.create(name="half", filter=contact_filter(**{"$expr": {"$eq": [{"$divide": ["$n", 2]}, 2]}})).id
    four = client.create(name="four", filter=contact_filter(n="four")).id
    none = client.create(name="none", filter=contact_filter(n=0)).id
    listed = client.create(name="listed", type="static", contactIds=ids).id
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"audienceIds": [none, half]}, "audience_ids[1]"),
        ({"audienceId": four, "excludeAudienceIds": [none, half]}, "exclude_audience_ids[1]"),
        ({"audienceId": listed, "excludeAudienceIds": [half], "purpose": "email"}, "exclude_audience_ids[0]"),
        ({"audienceIds": [half], "excludeAudienceIds": [none]}, "audience_ids[0]"),
    ]
    for request, field_path in wrong:
        refusal = refused(lambda request=request: client.call("StreamMembers", request))
        assert (refusal.info.reason, refusal.fields) == ("EXPRESSION_FAILED", [field_path])


def test_all_audiences_of_a_request_are_evaluated_at_one_instant(
    service: Service, org: str, client: Client, three: tuple[list[str], dict[str, str]]
) -> None:
    recent = {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 1}}}
    name = client.create(name="recent", filter=contact_filter(at=recent)).id
    days = itertools.count(1)
    compiler = FilterCompiler(["contact"], clock=lambda: datetime(2026, 1, next(days), tzinfo=UTC))
    store = service.store
    populations = SelectionResolver(
        segment_resolver(store.segments, compiler), store.members, SnapshotReader(store.snapshots, store.members)
    )
    ctx = RequestContext(Caller("tester", org, frozenset()), Deadline.after(20))
    choice = populations.resolve(ctx, AudienceSelector(name, exclude_audience_ids=[name]))
    candidates = choice.candidates
    assert isinstance(candidates, CompiledFilter)
    assert choice.reasons["excluded"].node == Or((candidates.node,))


KEYS = range(2, 10)
KINDS = st.sampled_from(["field", "list", "nested", "negated"])


@pytest.mark.parametrize("how", ["inline", "looked up"])
@examples(10, HealthCheck.function_scoped_fixture)
@given(kinds=st.lists(KINDS, min_size=1, max_size=4), excluded=st.lists(KINDS, max_size=3), seed=st.integers(0, 999))
def test_unions_and_exclusions_equal_set_operations(
    service: Service,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    kinds: list[str],
    excluded: list[str],
    seed: int,
) -> None:
    if how == "looked up":
        monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 10)
    rng = random.Random(seed)
    org = f"sets{seed}{len(kinds)}{len(excluded)}-{rng.random()}-{next(service.names)}"
    client = service.client(org)
    states = ["active", "archived"]
    records: list[dict[str, Any]] = [
        {"id": f"{n:02}", "state": rng.choices(states, [9, 1])[0], "data": {"k": rng.sample(KEYS, 3)}}
        for n in range(40)
    ]
    ids = service.insert(org, records)
    active_ids = {pk for pk, record in zip(ids, records, strict=True) if record["state"] == "active"}
    having = {k: {pk for pk, r in zip(ids, records, strict=True) if k in r["data"]["k"]} & active_ids for k in KEYS}

    def audience(kind: str) -> tuple[str, set[str]]:
        name, key = f"{kind} {next(service.names)}", rng.choice(KEYS)
        match kind:
            case "list":
                listed = rng.sample(sorted(active_ids), 10)
                return client.create(name=name, type="static", contactIds=listed).id, set(listed)
            case "nested":
                inner, members = audience("list" if rng.random() < 0.5 else "field")
                where = {"$and": [{"$inAudience": inner}, {"k": key}]}
                return client.create(name=name, filter=contact_filter(**where)).id, members & having[key]
            case "negated":
                where = {"$nor": [{"k": key}]}
                return client.create(name=name, filter=contact_filter(**where)).id, active_ids - having[key]
        return client.create(name=name, filter=contact_filter(k=key)).id, having[key]

    joined, out = [audience(kind) for kind in kinds], [audience(kind) for kind in excluded]
    request = {"audienceIds": [found for found, _ in joined], "excludeAudienceIds": [found for found, _ in out]}
    candidates = set().union(*(members for _, members in joined))
    expected = candidates - set().union(*(members for _, members in out))
    assert client.members(**request) == sorted(expected)
    parts = [client.members(**request, partition={"index": index, "count": 3}) for index in range(3)]
    assert list(itertools.chain(*parts)) == sorted(expected)
    left_out = exclusions(client, **request)
    assert left_out == ({"excluded": len(candidates) - len(expected)} if out else {})
