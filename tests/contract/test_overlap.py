"""What GetOverlap and GetOverlapRegions promise, on every store."""

import itertools
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import pymongo
import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.query import joins
from audience_service.mongo.reach.regions import count_regions
from tests.conftest import STORES, URI, Service
from tests.support.client import Client, Refusal
from tests.support.overlaps import check_overlap, contact_filter, overlap

Insert = Callable[..., list[str]]


def check(client: Client, audience_ids: list[str]) -> Any:
    """The regions; every number is compared with the members that StreamMembers sends."""
    members = {audience_id: set(client.members(audienceId=audience_id)) for audience_id in audience_ids}
    answer = client.call("GetOverlapRegions", {"audienceIds": audience_ids})
    all_members = set().union(*members.values())
    reference: dict[tuple[str, ...], int] = {}
    for one in all_members:
        region = tuple(name for name, some in members.items() if one in some)
        reference[region] = reference.get(region, 0) + 1
    assert {tuple(region.audience_ids): region.count for region in answer.regions} == reference
    assert answer.union_count == len(all_members)
    assert [(size.audience_id, size.size) for size in answer.sizes] == [
        (name, len(some)) for name, some in members.items()
    ]
    assert answer.HasField("read_time")
    for pair, (name, other) in zip(answer.pairwise, itertools.combinations(members, 2), strict=True):
        assert (pair.audience_id, pair.other_audience_id) == (name, other)
        check_overlap(pair, members[name], members[other])
    for name, other in itertools.product(members, repeat=2):
        pair = overlap(client, name, other)
        check_overlap(pair, members[name], members[other])
        assert (pair.size, pair.other_size) == (len(members[name]), len(members[other]))
        assert pair.HasField("read_time")
    return answer


@pytest.fixture
def ids(insert: Insert) -> list[str]:
    """Ten contacts: those of the US have odd numbers; the last one is archived."""
    contacts: list[dict[str, Any]] = [{"data": {"n": n, "country": "US" if n % 2 else "FR"}} for n in range(10)]
    contacts[9]["state"] = "archived"
    return insert(contacts)


@pytest.fixture(params=["inline", "joined"])
def join_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lists go into the filter, or are too long for it."""
    if request.param == "joined":
        monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 10)
    return str(request.param)


@pytest.mark.slow
def test_audiences_of_every_kind_overlap_as_their_members_do(join_mode: str, client: Client, ids: list[str]) -> None:
    listed = client.create(name="list", type="static", contactIds=[*ids[:4], ids[8]]).id
    of_us = client.create(name="of the US", filter=contact_filter({"country": "US"})).id
    nested = client.create(
        name="nested", filter=contact_filter({"$or": [{"$inAudience": listed}, {"$inAudience": of_us}]})
    ).id
    outside = client.create(name="outside", filter=contact_filter({"$nor": [{"$inAudience": listed}]})).id
    archived = client.create(name="archived", filter=contact_filter({"state": "archived"})).id
    second = client.create(name="second list", type="static", contactIds=ids[3:6]).id
    answer = check(client, [listed, of_us, nested, outside, archived, second])
    assert answer.union_count == 10
    assert {(subset.subset_audience_id, subset.superset_audience_id) for subset in answer.subsets} == {
        (listed, nested),
        (of_us, nested),
    }
    check(client, [nested, outside])
    check(client, [second, outside])
    check(client, [outside, listed])


def test_inactive_members_are_in_no_region(client: Client, service: Service, ids: list[str]) -> None:
    listed = client.create(name="list", type="static", contactIds=ids[:6]).id
    other = client.create(name="other", type="static", contactIds=ids[4:8]).id
    low = client.create(name="low", filter=contact_filter({"n": {"$lt": 6}})).id
    service.store.database["contact"].update_one({"pk": ids[0]}, {"$set": {"state": "deleted"}})
    service.store.database["contact"].delete_one({"pk": ids[4]})
    answer = check(client, [listed, other, low])
    assert [size.size for size in answer.sizes] == [4, 3, 4]
    assert [list(same.audience_ids) for same in answer.duplicates] == [[listed, low]]


def test_empty_audiences_have_share_0_and_no_findings(client: Client, ids: list[str]) -> None:
    no_match = client.create(name="nobody", filter=contact_filter({"n": 99})).id
    empty = client.create(name="empty", type="static").id
    none = client.create(name="none", filter=contact_filter({"n": {"$gt": 99}})).id
    low = client.create(name="low", filter=contact_filter({"n": {"$lt": 3}})).id
    answer = check(client, [no_match, empty, low])
    assert ([size.size for size in answer.sizes], len(answer.duplicates), len(answer.subsets)) == ([0, 0, 3], 0, 0)
    pair = overlap(client, no_match, none)
    assert (pair.count, pair.size, pair.other_size, pair.jaccard, pair.share_of_audience) == (0, 0, 0, 0, 0)
    answer = check(client, [no_match, none])
    assert (len(answer.regions), answer.union_count) == (0, 0)


def test_audiences_of_the_same_members_are_named(client: Client, ids: list[str]) -> None:
    odd = client.create(name="odd", filter=contact_filter({"country": {"$nin": ["FR", "DE"]}})).id
    of_us = client.create(name="of the US", filter=contact_filter({"country": "US"})).id
    static_copy = client.create(name="frozen", type="static", filter=contact_filter({"country": "US"})).id
    few = client.create(name="few", type="static", contactIds=[ids[1], ids[5]]).id
    apart = client.create(name="apart", filter=contact_filter({"country": "FR"})).id
    answer = check(client, [few, odd, apart, of_us, static_copy])
    assert [list(same.audience_ids) for same in answer.duplicates] == [[odd, of_us, static_copy]]
    assert [(subset.subset_audience_id, subset.superset_audience_id) for subset in answer.subsets] == [
        (few, odd),
        (few, of_us),
        (few, static_copy),
    ]
    assert [(list(region.audience_ids), region.count) for region in answer.regions] == [
        ([apart], 5),
        ([odd, of_us, static_copy], 2),
        ([few, odd, of_us, static_copy], 2),
    ]
    itself = overlap(client, odd, odd)
    assert (itself.count, itself.size, itself.other_size, itself.jaccard) == (4, 4, 4, 1)


@pytest.mark.slow
def test_eight_audiences_have_every_region_that_somebody_is_in(client: Client, insert: Insert) -> None:
    insert([{"data": {"n": n}} for n in range(1_025, 1_280)])
    audiences = [
        client.create(
            name=f"bit {bit}",
            filter=contact_filter({"n": {"$in": [n for n in range(1_024, 1_280) if n >> bit & 1]}}),
        )
        for bit in range(8)
    ]
    answer = client.call("GetOverlapRegions", {"audienceIds": [audience.id for audience in audiences]})
    assert {region.count for region in answer.regions} == {1}
    assert (len(answer.regions), answer.union_count) == (255, 255)
    assert {size.size for size in answer.sizes} == {128}
    assert {pair.count for pair in answer.pairwise} == {64}
    assert len(answer.pairwise) == 28


@pytest.mark.parametrize(
    ("names", "field_path"),
    [
        ([], "audience_ids[0]"),
        (["a"], "audience_ids[1]"),
        (["a", "b", "a"], "audience_ids[2]"),
        (["a", "a"], "audience_ids[1]"),
        (["a", ""], "audience_ids[1]"),
        (["a", "leads"], "audience_ids[1]"),
        (["leads", "a", "b"], "audience_ids[1]"),
        (["a", "b", *"cdefghi"], "audience_ids[8]"),
    ],
)
def test_incomparable_audiences_are_refused_with_their_field_path(
    client: Client, refused: Callable[..., Refusal], names: list[str], field_path: str
) -> None:
    leads = client.create(name="leads", type="static", filter={"datatype": "lead"}).id
    made = {name: client.create(name=name, filter=contact_filter({})).id for name in {*names} - {"", "leads"}}
    named = {**made, "leads": leads, "": ""}
    refusal = refused(lambda: client.call("GetOverlapRegions", {"audienceIds": [named[name] for name in names]}))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field_path]


def test_an_overlap_names_two_audiences_of_one_datatype(client: Client, refused: Callable[..., Refusal]) -> None:
    leads = client.create(name="leads", filter={"datatype": "lead", "where": {}}).id
    contacts = client.create(name="contacts", type="static").id
    for audience_id, other_id, field_path in (
        (contacts, leads, "other_audience_id"),
        (leads, contacts, "other_audience_id"),
        ("", contacts, "audience_id"),
        (contacts, "", "other_audience_id"),
    ):
        refusal = refused(lambda a=audience_id, b=other_id: overlap(client, a, b))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field_path])


def test_an_audience_of_another_org_is_not_found(
    service: Service, client: Client, refused: Callable[..., Refusal], org: str
) -> None:
    mine = client.create(name="mine", filter=contact_filter({})).id
    theirs = service.client(f"{org}2").create(name="theirs", filter=contact_filter({})).id
    for unknown in (theirs, "segment-none", "contact-1"):
        for call in (
            lambda u=unknown: overlap(client, mine, u),
            lambda u=unknown: overlap(client, u, mine),
            lambda u=unknown: client.call("GetOverlapRegions", {"audienceIds": [mine, u]}),
        ):
            refusal = refused(call)
            assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.NOT_FOUND, "AUDIENCE_NOT_FOUND")
            assert refusal.info.metadata["id"] == unknown


def test_an_expression_that_fails_is_the_audiences(
    service: Service, client: Client, refused: Callable[..., Refusal], insert: Insert
) -> None:
    insert([{"data": {"n": "many"}}])
    failing = {"$expr": {"$gt": [{"$divide": ["$data.n", 2]}, 1]}}
    sound = client.create(name="sound", filter=contact_filter({})).id
    unsound = client.create(name="unsound", filter=contact_filter(failing)).id
    for other in (sound, client.create(name="list", type="static").id):
        refusal = refused(lambda o=other: overlap(client, o, unsound))
        if service.kind == "embedded":
            assert refusal.info.reason == "UNSUPPORTED_BY_STORE"
        else:
            assert (refusal.info.reason, refusal.info.metadata["id"]) == ("UNUSABLE_AUDIENCE", unsound)
            assert "many" not in refusal.message


def test_filters_the_embedded_store_gets_wrong_are_refused(
    service: Service, client: Client, refused: Callable[..., Refusal], ids: list[str]
) -> None:
    sound = client.create(name="sound", filter=contact_filter({})).id
    sized = client.create(name="sized", filter=contact_filter({"tags": {"$size": 0}})).id
    if service.kind == "embedded":
        assert refused(lambda: overlap(client, sound, sized)).info.reason == "UNSUPPORTED_BY_STORE"
    else:
        assert overlap(client, sound, sized).size == 9


@pytest.mark.parametrize("kind", STORES)
def test_a_record_that_is_read_twice_is_in_its_own_region_alone(kind: str) -> None:
    """A scan may read a moved record twice; two records of one key reproduce that."""
    with ExitStack() as stack:
        if kind == "embedded":
            database = embedded_store([], ("contact",)).database
        else:
            mongo = stack.enter_context(pymongo.MongoClient[dict[str, Any]](URI))
            database = mongo[f"audience_test_{uuid.uuid4().hex[:12]}"]
            stack.callback(mongo.drop_database, database.name)
        records: list[dict[str, Any]] = [{"sk": "acme/contact/1", "data": {"n": 1}} for _ in range(3)]
        database["contact"].insert_many([*records, {"sk": "acme/contact/2", "data": {"n": 2}}])
        compiler = FilterCompiler(["contact"])
        wheres: list[dict[str, Any]] = [{"n": 1}, {"n": 2}, {"n": {"$gte": 1}}]
        found = count_regions(
            database,
            TenantScope(),
            "acme",
            [compiler.compile(Filter("contact", where)) for where in wheres],
            Deadline(None),
        )
        assert found == {0b101: 1, 0b110: 1}
