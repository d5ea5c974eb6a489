"""Quotas of an org, on every store."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.quotas import Quota
from audience_service.mongo.store import Store
from tests.conftest import Service, run_service
from tests.support.client import Client, Refusal
from tests.support.uses import register, release

ALL_CONTACTS = {"datatype": "contact", "where": {}}
CTX = RequestContext(Caller("test", "acme", frozenset()), Deadline(None))
Refused = Callable[..., Refusal]


@pytest.fixture
def limited(store: Store) -> Iterator[Service]:
    """A server with a quota of two of each kind."""
    kinds = ("segments", "custom_audiences", "snapshots", "uses")
    yield from run_service("", store, **{f"max_{kind}_per_org": 2 for kind in kinds})


def create_segment(client: Client, name: str) -> Any:
    return client.call("CreateSegment", {"segment": {"name": name, "filter": ALL_CONTACTS}})


def create_list(client: Client, name: str) -> Any:
    return client.custom(name=name)


def create_snapshot(client: Client, name: str) -> Any:
    return client.call("CreateSnapshot", {"filter": ALL_CONTACTS, "name": name})


@pytest.mark.parametrize(
    ("create", "delete", "quota", "cure"),
    [
        (create_segment, "DeleteSegment", "segments", "delete segments"),
        (create_list, "DeleteCustomAudience", "custom_audiences", "delete custom audiences"),
        (create_snapshot, "DeleteSnapshot", "snapshots", "delete snapshots"),
    ],
)
def test_a_record_beyond_the_quota_is_refused_until_another_is_deleted(
    limited: Service, refused: Refused, create: Callable[[Client, str], Any], delete: str, quota: str, cure: str
) -> None:
    client = limited.client("acme")
    first, _ = (create(client, name) for name in ("first", "second"))
    refusal = refused(lambda: create(client, "third"))
    assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert refusal.info.metadata == {"quota": quota, "limit": "2"}
    assert cure in refusal.message
    assert create(limited.client("acme2"), "third").id, "another org has a quota of its own"
    client.call(delete, {"id": first.id})
    assert create(client, "third").id


def test_a_segment_is_restored_only_within_the_quota(limited: Service, refused: Refused) -> None:
    client = limited.client("acme")
    deleted = create_segment(client, "first").id
    client.call("DeleteSegment", {"id": deleted})
    for name in ("second", "third"):
        create_segment(client, name)
    for call in ("UndeleteSegment", "RollbackSegment"):
        version = {"targetVersion": 1} if call == "RollbackSegment" else {}
        assert refused(lambda: client.call(call, {"id": deleted, **version})).info.reason == "QUOTA_EXCEEDED"  # noqa: B023
    assert client.call("ListSegments").total_size == 2


def test_a_use_is_registered_again_beyond_the_quota(limited: Service, refused: Refused) -> None:
    client = limited.client("acme")
    segment = create_segment(client, "first").id
    for name in ("one", "two"):
        register(client, segment, consumer_id=name)
    assert refused(lambda: register(client, segment, consumer_id="three")).info.metadata["quota"] == "uses"
    assert register(client, segment, consumer_id="one").consumer_id == "one"
    assert release(client, segment, consumer_id="two")
    assert register(client, segment, consumer_id="three").consumer_id == "three"


@pytest.mark.parametrize("create", [create_segment, create_list, create_snapshot])
@pytest.mark.slow
def test_concurrent_creations_do_not_exceed_the_quota(
    limited: Service, refused: Refused, monkeypatch: pytest.MonkeyPatch, create: Callable[[Client, str], Any]
) -> None:
    """Both find the last place free; the one that writes second counts the other."""
    client, store = limited.client("acme"), limited.store
    create(client, "first")
    kind = create.__name__.removeprefix("create_")
    repository: Any = {"segment": store.segments, "list": store.custom_audiences, "snapshot": store.snapshots}[kind]
    listing = {"segment": "ListSegments", "list": "ListCustomAudiences", "snapshot": "ListSnapshots"}[kind]
    original, is_nested = repository.insert, list[bool]()

    def insert(*args: Any) -> None:
        if not is_nested:
            is_nested.append(True)
            create(client, "other")
        original(*args)

    monkeypatch.setattr(repository, "insert", insert)
    refusal = refused(lambda: create(client, "third"))
    assert refusal.info.reason == "QUOTA_EXCEEDED"
    page = client.call(listing)
    [rows] = [value for field, value in page.ListFields() if field.name != "total_size"]
    assert sorted(row.name for row in rows) == ["first", "other"]


def test_a_record_that_cannot_be_counted_is_taken_back() -> None:
    def count(*_: Any) -> int:
        raise OutOfTime("the database is slow")

    taken: list[RequestContext] = []
    with pytest.raises(OutOfTime):
        Quota("segments", 1, count, "delete segments").confirm(CTX, taken.append)
    assert len(taken) == 1


def test_without_a_quota_nothing_is_counted() -> None:
    def count(*_: Any) -> int:
        raise AssertionError

    quota = Quota("segments", 0, count, "")
    quota.check_free(CTX)
    quota.confirm(CTX, lambda _: None)
