"""A saved filter refers to existing audiences only, with concurrent writers too, on every store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from audience_service.domain.audiences.resolver import AudienceResolver
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.fault_injection import FailAtStep

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Refused = Callable[..., Refusal]
Meanwhile = Callable[..., None]


def refers(audience_id: str) -> dict[str, Any]:
    """A filter that refers to an audience."""
    return {"datatype": "contact", "where": {"$inAudience": audience_id}}


def update(client: Client, segment_id: str, **fields: Any) -> Any:
    """An update of the fields."""
    return client.call("UpdateSegment", {"segment": {"id": segment_id, **fields}, "updateMask": ",".join(fields)})


def delete(client: Client, segment_id: str) -> Any:
    """A deletion without force."""
    return client.call("DeleteSegment", {"id": segment_id})


@pytest.fixture
def meanwhile(service: Service, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let something happen once, before or after a method of the segments' repository."""

    def inject(method: str, **when: Callable[[], Any]) -> None:
        segments = service.store.segments
        monkeypatch.setattr(segments, method, getattr(FailAtStep(segments, method, **when), method))

    return inject


def test_of_two_updates_that_make_a_circle_one_is_refused_and_taken_back(
    client: Client, meanwhile: Meanwhile, refused: Refused
) -> None:
    x, y = client.create(name="x", filter=VIP), client.create(name="y", filter=VIP)
    meanwhile("save", before=lambda: update(client, y.id, filter=refers(x.id)))
    refusal = refused(lambda: update(client, x.id, name="changed", description="new", filter=refers(y.id)))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILTER")
    assert refusal.fields == ["segment.filter.where.$inAudience"]
    now = client.call("GetSegment", {"id": x.id})
    assert (now.name, now.description, now.filter, now.version) == ("x", "", x.filter, 2)
    assert [client.count(audienceId=made.id) for made in (x, y)] == [0, 0]


def test_concurrent_updates_create_no_cycle(client: Client) -> None:
    for number in range(8):
        pair = [client.create(name=f"{name} {number}", filter=VIP).id for name in ("x", "y")]

        def attempt(ids: tuple[str, str]) -> bool:
            try:
                update(client, ids[0], filter=refers(ids[1]))
            except grpc.RpcError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(attempt, [(pair[0], pair[1]), (pair[1], pair[0])]))
        assert sum(done) < 2
        assert [client.count(audienceId=segment_id) for segment_id in pair] == [0, 0]


def test_a_segment_whose_reference_is_deleted_during_create_leaves_nothing(
    client: Client, service: Service, meanwhile: Meanwhile, refused: Refused
) -> None:
    x = client.create(name="x", filter=VIP)
    request = {"segment": {"name": "z", "filter": refers(x.id)}, "requestId": "once"}
    meanwhile("is_name_taken", before=lambda: delete(client, x.id))
    refusal = refused(lambda: client.call("CreateSegment", request))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    assert refusal.fields == ["segment.filter.where.$inAudience"]
    assert client.call("ListSegments").total_size == 0
    assert [s.id for s in client.call("ListSegments", {"state": "deleted"}).segments] == [x.id]
    client.call("UndeleteSegment", {"id": x.id})
    made = client.call("CreateSegment", request)
    assert (made.name, made.version) == ("z", 0)
    assert client.count(audienceId=made.id) == 0


def test_a_reverted_segment_is_removed_with_its_versions(
    client: Client, service: Service, org: str, meanwhile: Meanwhile, refused: Refused
) -> None:
    x = client.create(name="x", filter=VIP)

    def rename_and_delete() -> None:
        [z] = client.call("ListSegments", {"name": "z"}).segments
        update(client, z.id, name="seen")
        client.call("DeleteSegment", {"id": x.id, "force": True})

    meanwhile("insert", after=rename_and_delete)
    assert refused(lambda: client.create(name="z", filter=refers(x.id))).info.reason == "AUDIENCE_NOT_FOUND"
    assert client.call("ListSegments").total_size == 0
    kept = {"sk": {"$regex": f"^{org}/"}, "pk": {"$ne": x.id}}
    assert service.store.database["segment_version"].count_documents(kept) == 0


def test_a_new_segment_that_somebody_has_given_another_filter_stays(
    client: Client, meanwhile: Meanwhile, refused: Refused
) -> None:
    x = client.create(name="x", filter=VIP)

    def change_and_delete() -> None:
        [z] = client.call("ListSegments", {"name": "z"}).segments
        update(client, z.id, filter=VIP)
        delete(client, x.id)

    meanwhile("insert", after=change_and_delete)
    assert refused(lambda: client.create(name="z", filter=refers(x.id))).info.reason == "AUDIENCE_NOT_FOUND"
    [z] = client.call("ListSegments").segments
    assert client.count(audienceId=z.id) == 0


def test_an_audience_deleted_as_an_update_refers_to_it_takes_the_update_back(
    client: Client, meanwhile: Meanwhile, refused: Refused
) -> None:
    x, z = client.create(name="x", filter=VIP), client.create(name="z", filter=VIP)
    meanwhile("is_name_taken", before=lambda: delete(client, x.id))
    refusal = refused(lambda: update(client, z.id, filter=refers(x.id)))
    assert (refusal.info.reason, refusal.fields) == ("AUDIENCE_NOT_FOUND", ["segment.filter.where.$inAudience"])
    assert client.call("GetSegment", {"id": z.id}).filter == z.filter


def test_a_revert_preserves_concurrent_writes(client: Client, meanwhile: Meanwhile, refused: Refused) -> None:
    x, z = client.create(name="x", filter=VIP), client.create(name="z", filter=VIP)

    def rename_and_delete() -> None:
        update(client, z.id, name="seen")
        client.call("DeleteSegment", {"id": x.id, "force": True})

    meanwhile("save", after=rename_and_delete)
    changes = {"description": "new", "filter": refers(x.id)}
    assert refused(lambda: update(client, z.id, **changes)).info.reason == "AUDIENCE_NOT_FOUND"
    now = client.call("GetSegment", {"id": z.id})
    assert (now.name, now.description, now.filter) == ("seen", "", z.filter)


def test_a_filter_is_reverted_even_if_the_name_is_taken(client: Client, meanwhile: Meanwhile, refused: Refused) -> None:
    x, z = client.create(name="x", filter=VIP), client.create(name="z", filter=VIP)

    def take_name_and_delete() -> None:
        client.create(name="z", filter=VIP)
        client.call("DeleteSegment", {"id": x.id, "force": True})

    meanwhile("save", after=take_name_and_delete)
    assert refused(lambda: update(client, z.id, name="new", filter=refers(x.id))).info.reason == "AUDIENCE_NOT_FOUND"
    now = client.call("GetSegment", {"id": z.id})
    assert (now.name, now.filter) == ("new", z.filter)


@pytest.mark.parametrize(("rpc", "target"), [("UndeleteSegment", {}), ("RollbackSegment", {"targetVersion": 0})])
def test_an_audience_deleted_as_a_segment_comes_back_sends_it_back(
    client: Client, meanwhile: Meanwhile, refused: Refused, rpc: str, target: dict[str, int]
) -> None:
    x = client.create(name="x", filter=VIP)
    z = client.create(name="z", filter=refers(x.id))
    delete(client, z.id)
    meanwhile("is_name_taken", before=lambda: delete(client, x.id))
    refusal = refused(lambda: client.call(rpc, {"id": z.id, **target}))
    assert refusal.info.reason == "AUDIENCE_NOT_FOUND"
    assert client.call("ListSegments").total_size == 0


def test_a_segment_that_references_a_deleted_audience_can_be_renamed(client: Client) -> None:
    x = client.create(name="x", filter=VIP)
    z = client.create(name="z", filter=refers(x.id))
    client.call("DeleteSegment", {"id": x.id, "force": True})
    assert update(client, z.id, name="renamed").name == "renamed"


def test_a_filter_without_references_is_compiled_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compilations: list[Any] = []

    def record(original: Any) -> Any:
        def compile_filter(self: AudienceResolver, *arguments: Any) -> Any:
            compilations.append(arguments)
            return original(self, *arguments)

        return compile_filter

    for name in ("compile", "compile_new"):
        monkeypatch.setattr(AudienceResolver, name, record(getattr(AudienceResolver, name)))
    made = client.create(name="x", filter=VIP)
    update(client, made.id, filter=VIP)
    assert len(compilations) == 2
    client.create(name="z", filter=refers(made.id))
    assert len(compilations) == 4
