"""Models of lookalikes: their inputs and their content, on a real engine."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128
from hypothesis import example, given
from hypothesis import strategies as st

from audience_service.domain.filters import Filter, FilterCompiler
from tests.conftest import Service, envelope
from tests.support import lookalikes_reference as reference
from tests.support.client import Client
from tests.support.edge_cases import Shape, edge_case_contacts
from tests.support.insights import a_few
from tests.support.lists import NO_DEADLINE
from tests.support.lookalikes import lookalike, model, people, segment

FIELDS = [
    "country", "region", "city", "company", "jobTitle", "leadStage", "source", "tags", "score", "createdAt",
    "lastEmailOpenedAt", "plan", "spend", "address.city", "state",
]  # fmt: skip


@a_few
@example(seed=483, shape=Shape(0.1, 0.0, 1, 0), include=False, share=0.01)  # almost all scores are constant
@given(
    seed=st.integers(0, 2**32),
    shape=st.builds(Shape, st.floats(0.1, 1), st.floats(0, 1), st.integers(1, 900), st.sampled_from([0, 0.25])),
    include=st.booleans(),
    share=st.sampled_from([0.01, 0.1, 0.37, 0.5]),
)
def test_model_members_and_curve_equal_the_reference(
    real_service: Service, seed: int, shape: Shape, include: bool, share: float
) -> None:
    org = f"byhand{next(real_service.names)}x"
    client, database = real_service.client(org), real_service.store.database
    contacts = [envelope(org, contact) for contact in edge_case_contacts(2_500, datetime.now(UTC), seed, shape)]
    for number, contact in enumerate(contacts):
        contact["data"]["seed"] = number % 5 == 0 or (contact["data"].get("source") == "US" and number % 3 == 0)
    database["contact"].insert_many(contacts)
    active = [contact for contact in contacts if contact["state"] != "deleted"]
    members = [contact for contact in active if contact["data"]["seed"]]
    holdout = {
        row["sk"]
        for row in database["contact"].aggregate([
            {"$match": {"sk": {"$regex": f"^{org}/"}}},
            {"$match": {"$expr": {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, 5]}, 0]}}},
        ])
    }  # fmt: skip
    learnt = [contact for contact in members if contact["sk"] not in holdout]
    made = lookalike(client, segment(client, {"seed": True}), share=share, includeSource=include, fields=FIELDS)
    found = model(client, made.id)
    today = found.create_time.ToDatetime(UTC).replace(hour=23, minute=59, second=59, microsecond=0)
    paths = [name if name == "state" else f"data.{name}" for name in FIELDS]
    fields = reference.model_of(paths, active, members, learnt, today)

    assert (found.seed_count, found.holdout_count) == (len(members), len(members) - len(learnt))
    assert found.baseline_count == len(active) - len(members)
    fields_by_path = {field.path: field for field in found.fields}
    for expected in fields:
        actual = fields_by_path[expected.path]
        rows = sorted((each.value, each.seed_count, each.baseline_count) for each in actual.factors)
        others = [(reference.OTHER, *(0 if 0 < count < 5 else count for count in expected.others))]
        counts = [(expected.labels[value], *expected.counts[value]) for value in expected.counts]
        assert rows == sorted([*counts, *(others if expected.others != (0, 0) else [])]), actual.path
        assert actual.multi_valued == expected.multi_valued, actual.path
        assert actual.information_value == pytest.approx(expected.information_value, abs=1e-9), actual.path
        assert actual.decorrelation == pytest.approx(expected.decorrelation, abs=0.0011), actual.path
    assert [field.path for field in found.fields] == [field.path for field in fields]

    damped = {field.path: field.decorrelation for field in found.fields}
    scores = {
        contact["sk"]: sum(field.score(contact, today, damped[field.path]) for field in fields) for contact in active
    }
    seeds = {contact["sk"] for contact in members}
    candidates = [sk for sk in scores if include or sk not in seeds]
    ranked = sorted(candidates, key=lambda sk: (-scores[sk], sk))
    expected_members = [sk for sk in ranked if scores[sk] > 0][: max(1, int(share * 1000 + 0.5) * len(active) // 1000)]
    written = list(database["audience_member"].find({"audience": {"$regex": f"^{made.id}"}}))
    assert {row["sk"]: round(row["score"] * 1000) for row in written} == {sk: scores[sk] for sk in expected_members}
    assert made.contact_count == client.count(audienceId=made.id) == len(expected_members)
    assert found.cutoff_score == (scores[expected_members[-1]] / 1000 if expected_members else 0)

    tried = [scores[sk] for sk in seeds & holdout]
    rest = [scores[sk] for sk in scores if sk not in seeds]
    better = sum((ours > theirs) + (ours == theirs) / 2 for ours in tried for theirs in rest)
    assert found.auc == pytest.approx(better / len(tried) / len(rest))
    for point in found.curve:
        assert point.count == min(max(1, round(point.share * 100) * len(active) // 100), len(candidates))
        assert point.min_score == scores[ranked[point.count - 1]] / 1000
        assert point.recall == pytest.approx(sum(s >= point.min_score * 1000 for s in tried) / len(tried))
        assert 0 <= point.similarity <= 1


def test_the_holdout_is_about_a_fifth_of_random_and_sequential_ids(real_service: Service) -> None:
    expression = {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, 5]}, 0]}
    by_number: list[dict[str, Any]] = [{"id": f"{number}"} for number in range(5_000)]
    by_chance: list[dict[str, Any]] = [{} for _ in range(5_000)]
    kinds: dict[str, list[dict[str, Any]]] = {"row": by_number, "chance": by_chance}
    for name, ids in kinds.items():
        org = f"{name}{next(real_service.names)}x"
        real_service.insert(org, ids)
        match = {"sk": {"$regex": f"^{org}/"}, "$expr": expression}
        holdout_count = real_service.store.database["contact"].count_documents(match)
        assert 850 < holdout_count < 1_150, name


def test_protected_fields_are_used_only_if_named(runners: tuple[Client, str]) -> None:
    client, source = runners
    default = model(client, lookalike(client, source, fields=[]).id)
    assert "data.language" not in [field.path for field in default.fields]
    assert list(default.excluded_protected_fields) == ["data.language"]
    named = model(client, lookalike(client, source, fields=["language", "city"]).id)
    assert sorted(field.path for field in named.fields) == ["data.city", "data.language"]
    assert not named.excluded_protected_fields
    assert {field.path: field.protected for field in named.fields} == {"data.language": True, "data.city": False}
    less = model(client, lookalike(client, source, fields=[], excludeFields=["city", "tags"]).id)
    assert not {"data.city", "data.tags"} & {field.path for field in less.fields}


def test_leaking_fields_are_used_only_if_named(runners: tuple[Client, str]) -> None:
    client, source = runners
    inside = segment(client, {"$and": [{"$inAudience": source}, {"source": {"$exists": False}}]})
    for audience_id, fields in ((source, ["data.score"]), (inside, ["data.source", "data.score"])):
        made = lookalike(client, audience_id, fields=[])
        found = model(client, made.id)
        assert list(found.source_filter_fields) == fields
        assert not set(fields) & {field.path for field in found.fields}
        assert made.contact_count == 50
    named = model(client, lookalike(client, source, fields=["score", "city"]).id)
    assert list(named.source_filter_fields) == ["data.score"]
    assert sorted(field.path for field in named.fields) == ["data.city", "data.score"]
    snapshot = client.snapshot(audienceId=source)
    of_list = model(client, lookalike(client, snapshot.id, fields=[]).id)
    assert not of_list.source_filter_fields
    assert "data.score" in [field.path for field in of_list.fields]


def test_prices_in_decimals_count_and_score_as_the_numbers_that_they_are(real_service: Service) -> None:
    org = f"price{next(real_service.names)}x"
    contacts = people(2_000)
    for number, contact in enumerate(contacts):
        dear = number % 10 == 0 or number % 7 == 0
        contact["data"]["price"] = Decimal128("9.99") if dear else Decimal128("1.1")
        contact["data"]["many"] = Decimal128("99.9") if dear else Decimal128(f"{number % 60}.7")
    real_service.insert(org, contacts)
    client = real_service.client(org)
    seed = segment(client, {"score": 90})
    for name, value in (("price", "9.99"), ("many", "55.7 to 99.9")):
        made = lookalike(client, seed, fields=[name], count=1_000)
        found = model(client, made.id)
        [field] = found.fields
        best = max(field.factors, key=lambda factor: factor.weight)
        assert (best.value, best.baseline_count) == (value, made.contact_count)
        assert best.seed_count == found.seed_count - found.holdout_count


def test_up_to_twenty_numbers_are_unbinned_and_single_element_lists_are_scalars(real_service: Service) -> None:
    org = f"shape{next(real_service.names)}x"
    contacts = people(2_000)
    for number, contact in enumerate(contacts):
        contact["data"] |= {"few": number % 20, "many": number % 21, "one": [contact["data"]["city"]]}
    real_service.insert(org, contacts)
    client = real_service.client(org)
    made = lookalike(client, segment(client, {"score": 90}), fields=["few", "many", "one", "tags"])
    fields = {field.path.removeprefix("data."): field for field in model(client, made.id).fields}
    assert {factor.value for factor in fields["few"].factors} == {str(number) for number in range(20)}
    assert all(" to " in factor.value for factor in fields["many"].factors)
    assert {name: field.multi_valued for name, field in fields.items()} == {
        "few": False, "many": False, "one": False, "tags": True,
    }  # fmt: skip


def test_score_covariance_is_computed_on_a_sample(runners: tuple[Client, str], real_service: Service) -> None:
    org, store = dict(runners[0].metadata)["orgid"], real_service.store
    all_contacts = FilterCompiler(["contact"]).compile(Filter("contact", {}))
    counts = [
        store.lookalikes.moment_sums(org, all_contacts, size, [], NO_DEADLINE).count
        for size in (10_000, 20_000, 100_000)
    ]
    assert counts[0] == 3_000
    assert 1_300 < counts[1] < 1_700
    assert 200 < counts[2] < 400


def test_small_counts_are_suppressed(real_service: Service) -> None:
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
