"""EstimateReach and StreamReach of complete selectors count the members that StreamMembers sends, on every store."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audience_service.mongo.query import joins
from audience_service.mongo.query import suppression as suppression
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]

CROWD = 4_100
"""Contacts of an org that is too large for EstimateReach to count if its budget is 0."""
STATUSES = ("complained", "bounced", "unsubscribed", "active")


def contacts(**where: Any) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


def counted(client: Client, selector: dict[str, Any]) -> int:
    """The reach of a selector, after a check that every way to count it agrees."""
    members = client.members(**selector)
    reach = client.call("EstimateReach", selector)
    assert (reach.count, reach.exact, reach.lower_bound, reach.upper_bound) == (len(members), True, *[len(members)] * 2)
    assert reach.HasField("sample_profile") == bool(members)
    *_, last = client.call("StreamReach", selector, timeout=60)
    assert (last.count, last.exact, last.HasField("sample_profile")) == (len(members), True, bool(members))
    return len(members)


def is_near(estimate: Any, exact: int) -> bool:
    """Whether a count lies in an interval three times as wide as that of an estimate: a miss in ten million runs."""
    width = estimate.upper_bound - estimate.lower_bound
    return bool(estimate.lower_bound - width <= exact <= estimate.upper_bound + width)


@pytest.fixture
def named(service: Service, org: str, client: Client, insert: Insert) -> dict[str, str]:
    """The ids of the audiences of an org of 24 contacts, some of whom must not be contacted."""
    data = [
        {
            "n": n,
            "parity": ("even", "odd")[n % 2],
            "email": f"p{n}@example.com",
            "phone": f"+141555501{n:02}",
            "status": status,
        }
        for n, status in zip(range(24), itertools.cycle([*STATUSES, "active", "active", "active"]), strict=False)
    ]
    ids = insert([{"id": f"{n['n']:02}", "data": n} for n in data])
    blocked = [
        {"channel": "email", "email": "p5@example.com", "status": "unsubscribed"},
        {"channel": "email", "email": "p6@example.com", "status": "bounced"},
        {"channel": "sms", "phone": "+14155550112", "status": "complained"},
    ]
    service.insert(org, [{"data": record} for record in blocked], "subscriber")
    made = {
        "even": client.create(name="even", filter=contacts(parity="even")).id,
        "high": client.create(name="high", filter=contacts(n={"$gte": 15})).id,
        "listed": client.create(name="listed", type="static", contactIds=[*ids[:6], *ids[20:]]).id,
        "empty": client.create(name="empty", type="static").id,
        "frozen": client.snapshot(filter=contacts(n={"$lt": 10})).id,
    }
    database, mine = service.store.database["contact"], {"sk": {"$regex": f"^{org}/"}}
    database.update_one({**mine, "pk": ids[0]}, {"$set": {"state": "deleted"}})
    database.update_one({**mine, "pk": ids[1]}, {"$set": {"state": "archived"}})
    database.delete_one({**mine, "pk": ids[2]})
    return made


@pytest.fixture(params=["read", "looked up"])
def join_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lists and addresses go into the filter, or are too long for it."""
    if request.param == "looked up":
        monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 10)
        monkeypatch.setattr(suppression, "MAX_ADDRESSES", 0)
    return str(request.param)


@pytest.mark.slow
def test_each_field_of_the_selector_counts(join_mode: str, client: Client, named: dict[str, str]) -> None:
    """A union, exclusions and a snapshot each change the count as they change the stream."""
    even, high, listed, snapshot = (named[name] for name in ("even", "high", "listed", "frozen"))
    all_contacts = {"filter": contacts()}
    assert counted(client, all_contacts) == 21
    assert counted(client, {"audienceId": snapshot}) == 7, "as an audience, a snapshot has the members not archived"
    assert counted(client, {"snapshotId": snapshot}) == 10, "by its own field, all members that it recorded"
    assert counted(client, {"snapshotId": snapshot, "excludeAudienceIds": [named["empty"]]}) == 7
    assert counted(client, {"audienceIds": [even, high]}) == 15
    assert counted(client, {"audienceIds": [listed]}) == counted(client, {"audienceId": listed}) == 7
    assert counted(client, {**all_contacts, "excludeAudienceIds": [even, snapshot]}) == 7
    assert counted(client, {"audienceId": high, "excludeAudienceIds": [high]}) == 0


def test_a_purpose_leaves_members_out_of_the_reach(
    join_mode: str, service: Service, client: Client, named: dict[str, str], refused: Refused
) -> None:
    """Suppressed contacts do not count, whether their addresses are prefetched or looked up."""
    all_contacts = {"filter": contacts(), "purpose": "email"}
    if service.kind == "embedded":
        for rpc in ("EstimateReach", "StreamReach"):
            refusal = refused(lambda rpc=rpc: client.call(rpc, all_contacts))
            assert refusal.info.reason == "UNSUPPORTED_BY_STORE"
        return
    assert counted(client, all_contacts) == 10
    union = {"audienceIds": [named["even"], named["high"]], "excludeAudienceIds": [named["listed"]]}
    assert counted(client, {**union, "purpose": "sms"}) == 7
    assert counted(client, {"snapshotId": named["frozen"], "purpose": "ads"}) == 4


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_selector_reaches_as_many_members_as_a_stream_sends(
    service: Service, client: Client, named: dict[str, str], data: st.DataObject
) -> None:
    """The count of a random selector equals the length of its stream of members."""
    purposes = ["", "email", "ads"] if service.kind == "mongodb" else [""]
    ids = sorted(named.values())
    some = st.lists(st.sampled_from(ids), max_size=3, unique=True)
    selector = data.draw(
        st.one_of(
            st.sampled_from(ids).map(lambda audience_id: {"audienceId": audience_id}),
            st.integers(0, 24).map(lambda least: {"filter": contacts(n={"$gte": least})}),
            st.just({"snapshotId": named["frozen"]}),
            st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True).map(lambda few: {"audienceIds": few}),
        )
    )
    counted(
        client,
        {
            **selector,
            "excludeAudienceIds": data.draw(some),
            "purpose": data.draw(st.sampled_from(purposes)),
        },
    )


@pytest.mark.slow
def test_a_sample_honours_the_complete_selector(join_mode: str, service: Service, org: str, client: Client) -> None:
    """An estimate past the budget is of the union without the excluded members, and so is every step of a stream."""
    data: list[dict[str, Any]] = [
        {"score": n, "third": "abc"[n % 3], "status": STATUSES[n % 4], "email": f"p{n}@example.com"}
        for n in range(CROWD)
    ]
    service.insert(org, [{"data": fields} for fields in data])
    first, second = (client.create(name=f"third {name}", filter=contacts(third=name)).id for name in "ab")
    low = client.create(name="low", filter=contacts(score={"$lt": 2_000})).id
    selector: dict[str, Any] = {"audienceIds": [first, second], "excludeAudienceIds": [low]}
    members = [fields for fields in data if fields["third"] in "ab" and fields["score"] >= 2_000]
    if service.kind == "mongodb":  # the embedded store refuses a purpose
        selector["purpose"] = "email"
        blocked = [{"channel": "email", "email": f"p{n}@example.com", "status": "bounced"} for n in range(7, CROWD, 8)]
        service.insert(org, [{"data": record} for record in blocked], "subscriber")
        members = [fields for fields in members if fields["status"] == "active" and fields["score"] % 8 != 7]
    exact = len(members)
    reach = client.call("EstimateReach", {**selector, "exactCountTimeout": "0s"})
    assert not reach.exact
    assert is_near(reach, exact)
    assert MessageToDict(reach.sample_profile)["score"] in {fields["score"] for fields in members}
    first_step, *_, last = client.call("StreamReach", selector, timeout=60)
    assert (first_step.exact, first_step.total_count) == (False, CROWD)
    assert is_near(first_step, exact)
    assert (last.count, last.exact) == (exact, True)
    assert len(client.members(**selector)) == exact


def test_suppressed_addresses_are_read_once_for_a_stream(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples and slices of a StreamReach share one reading of the addresses, however many queries they make."""
    org = f"shared{next(real_service.names)}"
    client, reads = real_service.client(org), list[str]()
    real_service.insert(org, [{"data": {"email": f"p{n}@example.com"}} for n in range(1_100)])
    real_service.insert(
        org, [{"data": {"channel": "email", "email": "p7@example.com", "status": "bounced"}}], "subscriber"
    )

    def read(database: Any, scope: Any, of: str, channel: str, *rest: Any, **options: Any) -> Any:
        reads.append(channel)
        return suppression.read_addresses(database, scope, of, channel, *rest, **options)

    monkeypatch.setattr(joins, "read_addresses", read)
    messages = list(client.call("StreamReach", {"filter": contacts(), "purpose": "email"}))
    assert len(messages) > 1
    assert (messages[-1].count, reads) == (1_099, ["email"])


def test_a_large_snapshot_is_sampled_from_its_rows(real_service: Service) -> None:
    """Every row of a snapshot is a member, so that a sample of the rows states the exact number."""
    org = f"frozen{next(real_service.names)}"
    client, database = real_service.client(org), real_service.store.database["contact"]
    real_service.insert(org, [{"data": {"n": n}} for n in range(CROWD)])
    snapshot = client.snapshot(filter=contacts()).id
    mine = {"sk": {"$regex": f"^{org}/"}}
    database.update_many({**mine, "data.n": {"$lt": 100}}, {"$set": {"state": "deleted"}})
    database.delete_many({**mine, "data.n": {"$gte": CROWD - 100}})
    reach = client.call("EstimateReach", {"snapshotId": snapshot, "exactCountTimeout": "0s"})
    assert (reach.exact, reach.count, reach.upper_bound) == (False, CROWD, CROWD)
    assert reach.HasField("sample_profile")
    assert client.count(snapshotId=snapshot) == len(client.members(snapshotId=snapshot)) == CROWD


def test_a_snapshot_without_records_is_counted_and_shows_no_profile(
    service: Service, org: str, client: Client, insert: Insert
) -> None:
    """A snapshot counts members whose records no longer exist, and has no payload of theirs to show."""
    [only] = insert([{"data": {"email": "ann@example.com"}}])
    snapshot = client.snapshot(filter=contacts()).id
    service.store.database["contact"].delete_one({"pk": only})
    reaches = [
        client.call("EstimateReach", {"snapshotId": snapshot}),
        *client.call("StreamReach", {"snapshotId": snapshot}),
    ]
    assert [(reach.count, reach.exact, reach.HasField("sample_profile")) for reach in reaches] == [(1, True, False)] * 2


def test_selectors_are_refused_as_streams_of_members_refuse_them(
    client: Client, named: dict[str, str], refused: Refused
) -> None:
    """The reason and the field of a refusal are the same for reach and for members."""
    even, high = named["even"], named["high"]
    lead = client.create(name="leads", filter={"datatype": "lead", "where": {}}).id
    wrong: list[dict[str, Any]] = [
        {},
        {"audienceIds": [even, even]},
        {"audienceIds": [even, ""]},
        {"audienceIds": [even, lead]},
        {"audienceIds": [even], "filter": contacts()},
        {"audienceIds": [even], "audienceId": high},
        {"audienceIds": [f"segment-{n}" for n in range(21)]},
        {"audienceId": even, "excludeAudienceIds": [high, lead]},
        {"audienceId": even, "excludeAudienceIds": ["segment-none"]},
        {"audienceId": even, "purpose": "fax"},
        {"snapshotId": "snapshot-none"},
        {"snapshotId": named["frozen"], "audienceIds": [even]},
    ]
    for selector in wrong:
        refusals = [
            refused(lambda rpc=rpc, selector=selector: client.call(rpc, selector))
            for rpc in ("StreamMembers", "EstimateReach", "StreamReach")
        ]
        seen = {(refusal.info.reason, *refusal.fields) for refusal in refusals}
        assert len(seen) == 1, selector


def test_a_snapshot_that_is_deleted_is_not_found(client: Client, insert: Insert, refused: Refused) -> None:
    """A deleted snapshot has no reach, whatever rows of it are still stored."""
    insert([{}])
    snapshot = client.snapshot(filter=contacts()).id
    client.call("DeleteSnapshot", {"id": snapshot})
    for rpc in ("EstimateReach", "StreamReach"):
        refusal = refused(lambda rpc=rpc: client.call(rpc, {"snapshotId": snapshot}))
        assert refusal.info.reason == "SNAPSHOT_NOT_FOUND"
