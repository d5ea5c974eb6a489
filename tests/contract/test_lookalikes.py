"""Lookalikes: made, refreshed and opened, on a real engine; the embedded store refuses them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.custom.audience import CustomType
from tests import lookalikes_by_hand as by_hand
from tests.awkward import Shape, awkward_contacts
from tests.client import Client, Refusal
from tests.conftest import Service, envelope
from tests.contract.test_insights import a_few
from tests.lists import publish

Refused = Callable[..., Refusal]
FIELDS = [
    "country", "region", "city", "company", "jobTitle", "leadStage", "source", "tags", "score", "createdAt",
    "lastEmailOpenedAt", "plan", "spend", "address.city", "state",
]  # fmt: skip


def people(count: int, **also: Any) -> list[dict[str, Any]]:
    """Contacts of whom every tenth scores 90, lives in Lima and runs; among the others some live there, or run."""
    return [
        {
            "id": f"{number:05}",
            "data": {
                "score": 90 if number % 10 == 0 else 10,
                "city": "Lima" if number % 10 == 0 or number % 7 == 0 else "Oslo",
                "tags": ["run", "eat"] if number % 10 == 0 or number % 3 == 0 else ["eat"],
                "country": "PE" if number % 4 < 2 else "NO",
                "language": "es",
                **also,
            },
        }
        for number in range(count)
    ]


def segment(client: Client, where: dict[str, Any]) -> str:
    """The id of a new segment."""
    return str(client.create(name=str(where), filter={"datatype": "contact", "where": where}).id)


def lookalike(client: Client, source: str, **spec: Any) -> Any:
    """A new lookalike."""
    size = {} if {"share", "count"} & spec.keys() else {"count": 50}
    wanted = {"sourceAudienceId": source, "fields": ["city", "tags"], **size, **spec}
    return client.custom(name=f"like {source} {spec}"[:200], type="lookalike", lookalike=wanted)


def model(client: Client, audience_id: str) -> Any:
    """The model."""
    return client.call("GetLookalikeModel", {"id": audience_id})


@pytest.fixture
def runners(real_service: Service) -> tuple[Client, str]:
    """A client of an org of 3,000, and the segment of the 300 who score 90."""
    org = f"like{next(real_service.names)}x"
    real_service.insert(org, people(3_000))
    client = real_service.client(org)
    return client, segment(client, {"score": 90})


def factor(found: Any, path: str, value: str) -> Any:
    """One factor of a model."""
    [field] = [field for field in found.fields if field.path == path]
    return next(factor for factor in field.factors if factor.value == value)


@a_few
@given(
    seed=st.integers(0, 2**32),
    shape=st.builds(Shape, st.floats(0.1, 1), st.floats(0, 1), st.integers(1, 900), st.sampled_from([0, 0.25])),
    include=st.booleans(),
    share=st.sampled_from([0.01, 0.1, 0.37, 0.5]),
)
def test_model_members_and_curve_are_what_is_computed_by_hand(
    real_service: Service, seed: int, shape: Shape, include: bool, share: float
) -> None:
    org = f"byhand{next(real_service.names)}x"
    client, database = real_service.client(org), real_service.store.database
    contacts = [envelope(org, contact) for contact in awkward_contacts(2_500, datetime.now(UTC), seed, shape)]
    for number, contact in enumerate(contacts):
        contact["data"]["seed"] = number % 5 == 0 or (contact["data"].get("source") == "US" and number % 3 == 0)
    database["contact"].insert_many(contacts)
    living = [contact for contact in contacts if contact["state"] != "deleted"]
    members = [contact for contact in living if contact["data"]["seed"]]
    held = {
        row["sk"]
        for row in database["contact"].aggregate([
            {"$match": {"sk": {"$regex": f"^{org}/"}}},
            {"$match": {"$expr": {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, 5]}, 0]}}},
        ])
    }  # fmt: skip
    learnt = [contact for contact in members if contact["sk"] not in held]
    made = lookalike(client, segment(client, {"seed": True}), share=share, includeSource=include, fields=FIELDS)
    found = model(client, made.id)
    today = found.create_time.ToDatetime(UTC).replace(hour=23, minute=59, second=59, microsecond=0)
    paths = [name if name == "state" else f"data.{name}" for name in FIELDS]
    fields = by_hand.model_of(paths, living, members, learnt, today)

    assert (found.seed_count, found.held_out_count) == (len(members), len(members) - len(learnt))
    assert found.baseline_count == len(living) - len(members)
    told_of = {field.path: field for field in found.fields}
    for expected in fields:
        told = told_of[expected.path]
        rows = sorted((each.value, each.seed_count, each.baseline_count) for each in told.factors)
        others = [(by_hand.OTHER, *(0 if 0 < count < 5 else count for count in expected.others))]
        counts = [(expected.labels[value], *expected.counts[value]) for value in expected.counts]
        assert rows == sorted([*counts, *(others if expected.others != (0, 0) else [])]), told.path
        assert told.multi_valued == expected.several, told.path
        assert told.information == pytest.approx(expected.information, abs=1e-9), told.path
        assert told.damping == pytest.approx(expected.damping, abs=0.0011), told.path
    assert [field.path for field in found.fields] == [field.path for field in fields]

    damped = {field.path: field.damping for field in found.fields}
    scores = {
        contact["sk"]: sum(field.score(contact, today, damped[field.path]) for field in fields) for contact in living
    }
    seeds = {contact["sk"] for contact in members}
    candidates = [sk for sk in scores if include or sk not in seeds]
    ranked = sorted(candidates, key=lambda sk: (-scores[sk], sk))
    wanted = [sk for sk in ranked if scores[sk] > 0][: max(1, int(share * 1000 + 0.5) * len(living) // 1000)]
    written = list(database["audience_member"].find({"audience": {"$regex": f"^{made.id}"}}))
    assert {row["sk"]: round(row["score"] * 1000) for row in written} == {sk: scores[sk] for sk in wanted}
    assert made.contact_count == client.count(audienceId=made.id) == len(wanted)
    assert found.cutoff_score == (scores[wanted[-1]] / 1000 if wanted else 0)

    tried = [scores[sk] for sk in seeds & held]
    rest = [scores[sk] for sk in scores if sk not in seeds]
    better = sum((ours > theirs) + (ours == theirs) / 2 for ours in tried for theirs in rest)
    assert found.auc == pytest.approx(better / len(tried) / len(rest))
    for point in found.curve:
        assert point.count == max(1, round(point.share * 100) * len(candidates) // 100)
        assert point.lowest_score == scores[ranked[point.count - 1]] / 1000
        assert point.recall == pytest.approx(sum(s >= point.lowest_score * 1000 for s in tried) / len(tried))
        assert 0 <= point.similarity <= 1


def test_about_a_fifth_is_held_out_of_ids_by_chance_and_in_a_row(real_service: Service) -> None:
    expression = {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, 5]}, 0]}
    by_number: list[dict[str, Any]] = [{"id": f"{number}"} for number in range(5_000)]
    by_chance: list[dict[str, Any]] = [{} for _ in range(5_000)]
    kinds: dict[str, list[dict[str, Any]]] = {"row": by_number, "chance": by_chance}
    for name, ids in kinds.items():
        org = f"{name}{next(real_service.names)}x"
        real_service.insert(org, ids)
        match = {"sk": {"$regex": f"^{org}/"}, "$expr": expression}
        held = real_service.store.database["contact"].count_documents(match)
        assert 850 < held < 1_150, name


def test_the_same_data_give_the_same_model_and_members(runners: tuple[Client, str]) -> None:
    client, source = runners
    made = lookalike(client, source, count=137)
    first, members = model(client, made.id), client.members(audienceId=made.id)
    assert len(members) == 137
    again = client.call("RefreshCustomAudience", {"id": made.id})
    second = model(client, made.id)
    assert (first.model_version, second.model_version, again.version) == (1, 2, made.version + 1)
    first.model_version, first.create_time.seconds, first.create_time.nanos = 2, 0, 0
    second.create_time.seconds, second.create_time.nanos = 0, 0
    assert first == second
    assert client.members(audienceId=made.id) == members


def test_where_scores_are_equal_the_first_by_id_are_members(runners: tuple[Client, str]) -> None:
    client, source = runners
    made = lookalike(client, source, count=5)
    equal = [n for n in range(3_000) if n % 10 and n % 7 == 0 and n % 3 == 0]
    assert client.members(audienceId=made.id) == [f"contact-{n:05}" for n in equal[:5]]


def test_the_source_is_left_out_unless_it_may_be_in(runners: tuple[Client, str]) -> None:
    client, source = runners
    for include, common in ((False, 0), (True, 300)):
        made = lookalike(client, source, share=0.3, includeSource=include)
        overlap = client.call("GetOverlap", {"id": made.id, "otherId": source})
        assert overlap.count == common, include


def test_fewer_are_members_where_fewer_are_like_the_seed(runners: tuple[Client, str]) -> None:
    client, source = runners
    made = lookalike(client, source, count=2_000_000)
    alike = sum(1 for n in range(3_000) if n % 10 and n % 7 == 0)
    assert made.contact_count == alike < 2_700


def test_members_seed_and_baseline_are_of_the_countries(runners: tuple[Client, str], real_service: Service) -> None:
    client, source = runners
    org = dict(client.metadata)["orgid"]
    elsewhere: list[dict[str, Any]] = [
        {"data": {"city": "Lima", "tags": ["run"], "address": [{"country": "Peru"}, {"country": "NO"}]}},
        {"data": {"city": "Lima", "tags": ["run"], "country": "Norway", "address": {"country": "PE"}}},
    ]
    ids = real_service.insert(org, elsewhere)
    made = lookalike(client, source, count=2_000, countries=["pe"])
    assert list(made.lookalike.countries) == ["PE"]
    members = client.members(audienceId=made.id)
    assert ids[0] in members
    assert ids[1] not in members
    found = model(client, made.id)
    assert (found.seed_count, found.seed_count + found.baseline_count) == (150, 1_501)


def test_protected_fields_are_used_only_where_they_are_named(runners: tuple[Client, str]) -> None:
    client, source = runners
    default = model(client, lookalike(client, source, fields=[]).id)
    assert "data.language" not in [field.path for field in default.fields]
    assert list(default.protected_fields) == ["data.language"]
    named = model(client, lookalike(client, source, fields=["language", "city"]).id)
    assert sorted(field.path for field in named.fields) == ["data.city", "data.language"]
    assert not named.protected_fields
    less = model(client, lookalike(client, source, fields=[], excludeFields=["score", "tags"]).id)
    assert not {"data.score", "data.tags"} & {field.path for field in less.fields}


def test_counts_of_few_are_not_told(real_service: Service) -> None:
    org = f"few{next(real_service.names)}x"
    client = real_service.client(org)
    contacts = people(2_000)
    for contact in contacts[:30:10]:
        contact["data"]["city"] = "Rome"
    real_service.insert(org, contacts)
    found = model(client, lookalike(client, segment(client, {"score": 90}), fields=["city"]).id)
    assert [each.value for each in found.fields[0].factors if each.value == "Rome"] == []
    for each in found.fields[0].factors:
        assert each.seed_count == 0 or each.seed_count >= 5
        assert each.baseline_count == 0 or each.baseline_count >= 5


def test_every_kind_of_audience_may_be_the_source(runners: tuple[Client, str], real_service: Service) -> None:
    client, source = runners
    org = dict(client.metadata)["orgid"]
    runs = client.members(audienceId=source)
    upload = client.custom(name="upload")
    publish(real_service.store, org, upload.id, runs)
    first = lookalike(client, source, count=150)
    expected = client.members(audienceId=first.id)
    for other in (upload.id, client.snapshot(audienceId=source).id):
        assert client.members(audienceId=lookalike(client, other, count=150).id) == expected
    of_lookalike = model(client, lookalike(client, first.id, count=150).id)
    assert of_lookalike.seed_count == 150


def test_a_lookalike_outlives_its_source_but_is_not_refreshed(runners: tuple[Client, str], refused: Refused) -> None:
    client, source = runners
    made = lookalike(client, source)
    before = model(client, made.id), client.members(audienceId=made.id)
    client.call("DeleteSegment", {"id": source, "force": True})
    refusal = refused(lambda: client.call("RefreshCustomAudience", {"id": made.id}))
    assert (refusal.info.reason, dict(refusal.info.metadata)) == ("UNUSABLE_AUDIENCE", {"id": source})
    assert (model(client, made.id), client.members(audienceId=made.id)) == before


def test_a_seed_of_fewer_than_a_hundred_is_refused_and_nothing_is_kept(
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


def test_the_embedded_store_refuses_and_keeps_nothing(
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
        ({"countries": ["PE", "Peru"]}, "countries[1]"),
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
def test_what_is_no_lookalike_is_refused_at_its_place(
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


def test_another_org_is_neither_seed_nor_baseline_nor_member(
    runners: tuple[Client, str], real_service: Service, refused: Refused
) -> None:
    client, source = runners
    org = dict(client.metadata)["orgid"]
    real_service.insert(f"{org}2", people(3_000))
    foreign = real_service.client(f"{org}2")
    assert refused(lambda: lookalike(foreign, source)).info.reason == "AUDIENCE_NOT_FOUND"
    made = lookalike(client, source, share=0.5)
    found = model(client, made.id)
    assert found.seed_count + found.baseline_count == 3_000
    rows = real_service.store.database["audience_member"].find({"audience": {"$regex": f"^{made.id}"}})
    assert all(row["sk"].startswith(f"{org}/") for row in rows)
    assert refused(lambda: model(foreign, made.id)).info.reason == "AUDIENCE_NOT_FOUND"


def test_an_answer_that_does_not_come_in_time_keeps_nothing(runners: tuple[Client, str]) -> None:
    client, source = runners
    request = {"name": "late", "type": "lookalike", "lookalike": {"sourceAudienceId": source, "count": 5}}
    with pytest.raises(grpc.RpcError) as caught:
        client.call("CreateCustomAudience", {"customAudience": request}, timeout=0.06)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.call("ListCustomAudiences").total_size == 0
