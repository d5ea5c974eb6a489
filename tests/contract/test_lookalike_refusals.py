"""Lookalikes that are refused: the error is returned and the store stays as it was."""

from collections.abc import Callable
from typing import Any

import bson
import grpc
import pycountry
import pytest

from audience_service.domain.custom_audiences.model import CustomType
from audience_service.pb.audience.v1.resources_pb2 import CREATION_STATE_FAILED, CREATION_STATE_READY
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lookalikes import lookalike, model, people, segment

Refused = Callable[..., Refusal]


@pytest.mark.slow
def test_a_seed_below_one_hundred_is_refused_and_leaves_nothing(
    service: Service, client: Client, insert: Callable[..., list[str]], refused: Refused
) -> None:
    insert(people(990))
    source = segment(client, {"score": 90})
    for validate in (True, False):
        request = {"name": "small", "type": "lookalike", "lookalike": {"sourceAudienceId": source, "share": 0.1}}
        call = {"customAudience": request, "validateOnly": validate}
        refusal = refused(lambda call=call: client.call("CreateCustomAudience", call))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SEED_TOO_SMALL")
        assert dict(refusal.info.metadata) == {"count": "99", "minimum": "100"}
    assert client.call("ListCustomAudiences").total_size == 0


@pytest.mark.slow
def test_the_embedded_store_refuses_and_leaves_nothing(
    service: Service, client: Client, insert: Callable[..., list[str]], refused: Refused
) -> None:
    if service.kind != "embedded":
        return
    insert(people(1_000))
    refusal = refused(lambda: lookalike(client, segment(client, {"score": 90})))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_BY_STORE")
    assert client.call("ListCustomAudiences").total_size == 0


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"sourceAudienceId": ""}, "source_audience_id"),
        ({"share": 0.51}, "share"),
        ({"share": 0}, "share"),
        ({"share": -0.1}, "share"),
        ({"count": 0}, "count"),
        ({"countries": ["PE", "Perou land"]}, "countries[1]"),
        ({"countries": ["XX"]}, "countries[0]"),
        ({"fields": ["email"]}, "fields[0]"),
        ({"fields": ["city", "data.firstName"]}, "fields[1]"),
        ({"fields": ["tags.0"]}, "fields[0]"),
        ({"fields": ["a..b"]}, "fields[0]"),
        ({"fields": [f"f{number}" for number in range(21)]}, "fields"),
        ({"fields": ["city"], "excludeFields": ["data.city"]}, "exclude_fields"),
        ({"excludeFields": ["$x"]}, "exclude_fields[0]"),
    ],
)
def test_an_invalid_lookalike_is_refused_with_its_field_path(
    client: Client, refused: Refused, spec: dict[str, Any], field: str
) -> None:
    refusal = refused(lambda: lookalike(client, **{"source": "segment-none", **spec}))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [f"custom_audience.lookalike.{field}"]


def test_a_size_is_asked_for_in_one_way_and_a_datatype_is_the_sources(
    client: Client, insert: Callable[..., list[str]], refused: Refused
) -> None:
    spec = {"sourceAudienceId": segment(client, {"score": 90})}
    request = {"name": "none", "type": "lookalike", "lookalike": spec}
    refusal = refused(lambda: client.call("CreateCustomAudience", {"customAudience": request}))
    assert refusal.fields == ["custom_audience.lookalike.share"]
    spec["count"] = "5"
    other = {"customAudience": {**request, "datatype": "lead"}}
    assert refused(lambda: client.call("CreateCustomAudience", other)).fields == ["custom_audience.datatype"]


def test_unknown_sources_and_models_of_others_are_refused(service: Service, client: Client, refused: Refused) -> None:
    assert refused(lambda: lookalike(client, "segment-none")).info.reason == "AUDIENCE_NOT_FOUND"
    assert refused(lambda: model(client, "custom-none")).info.reason == "AUDIENCE_NOT_FOUND"
    upload = client.custom(name="upload", type=CustomType.FILE_UPLOAD)
    refusal = refused(lambda: model(client, upload.id))
    assert (refusal.info.reason, dict(refusal.info.metadata)) == ("NOT_A_LOOKALIKE", {"type": "file_upload"})
    foreign = service.client("elsewhere")
    assert refused(lambda: model(foreign, upload.id)).info.reason == "AUDIENCE_NOT_FOUND"


def test_a_source_that_leaks_every_field_is_refused_on_create_and_refresh(
    runners: tuple[Client, str], refused: Refused
) -> None:
    client, source = runners
    own = {"excludeFields": ["country", "region", "city", "company", "jobTitle", "leadStage", "status", "source"]}
    own["excludeFields"] += ["groups", "score", "lastEmailOpenedAt", "lastEmailClickedAt", "createdAt"]
    made = lookalike(client, source, fields=[], **own)
    changed = {"id": source, "filter": {"datatype": "contact", "where": {"tags": "run"}}}
    client.call("UpdateSegment", {"segment": changed, "updateMask": "filter"})
    refusal = refused(lambda: client.call("RefreshCustomAudience", {"id": made.id}))
    assert (refusal.info.reason, dict(refusal.info.metadata)) == ("UNUSABLE_AUDIENCE", {"id": source})
    refusal = refused(lambda: lookalike(client, source, count=7, fields=[], **own))
    assert refusal.fields == ["custom_audience.lookalike.fields"]


def test_a_seed_that_has_become_too_small_fails_the_refresh_and_keeps_the_list(
    runners: tuple[Client, str], real_service: Service
) -> None:
    """The refresh ends FAILED with the reason, and the model and the members stay."""
    client, source = runners
    made = lookalike(client, source, count=20)
    before = model(client, made.id), client.members(audienceId=made.id)
    changed = {"id": source, "filter": {"datatype": "contact", "where": {"score": 90, "tags": "none"}}}
    client.call("UpdateSegment", {"segment": changed, "updateMask": "filter"})
    client.call("RefreshCustomAudience", {"id": made.id})
    failed = client.settled(made.id)
    assert (failed.creation_state, failed.latest_refresh.state) == (CREATION_STATE_READY, CREATION_STATE_FAILED)
    assert failed.latest_refresh.error.startswith("SEED_TOO_SMALL: ")
    assert (model(client, made.id), client.members(audienceId=made.id)) == before


def test_a_source_that_has_become_one_of_other_records_is_unusable(
    runners: tuple[Client, str], real_service: Service, refused: Refused
) -> None:
    client, source = runners
    made = lookalike(client, source)
    changed = {"$set": {"data.filter.datatype": "lead"}}
    real_service.store.database["segment"].update_one({"pk": source}, changed)
    refusal = refused(lambda: client.call("RefreshCustomAudience", {"id": made.id}))
    assert (refusal.info.reason, dict(refusal.info.metadata)) == ("UNUSABLE_AUDIENCE", {"id": source})


def test_a_source_too_large_to_combine_with_countries_is_unusable(
    runners: tuple[Client, str], refused: Refused
) -> None:
    client, _ = runners
    names = [f"{number:0100}" for number in range(9_990)]
    where: dict[str, Any] = {"$or": [{"score": 90}, {"jobTitle": {"$in": names}}]}
    while len(bson.encode(where)) > 1_048_576 - 1_000:
        names.pop()
    source = client.create(name="large", filter={"datatype": "contact", "where": where}).id
    countries = [country.alpha_2 for country in list(pycountry.countries)[:60]]
    refusal = refused(lambda: lookalike(client, source, countries=["PE", "NO", *countries]))
    assert (refusal.info.reason, dict(refusal.info.metadata)) == ("UNUSABLE_AUDIENCE", {"id": source})
