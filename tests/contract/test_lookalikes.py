"""Lookalikes made and refreshed, and who their members are, on a real engine."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.errors import OutOfTime, StaleVersion
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lists import publish
from tests.support.lookalikes import Refresher, lookalike, model, people

Refused = Callable[..., Refusal]


def test_the_same_data_give_the_same_model_and_members(runners: tuple[Client, str]) -> None:
    client, source = runners
    made = lookalike(client, source, count=137)
    first, members = model(client, made.id), client.members(audienceId=made.id)
    assert len(members) == 137
    again = client.refresh(made.id)
    second = model(client, made.id)
    assert (first.model_version, second.model_version, again.version) == (1, 2, made.version + 1)
    first.model_version, first.create_time.seconds, first.create_time.nanos = 2, 0, 0
    second.create_time.seconds, second.create_time.nanos = 0, 0
    assert first == second
    assert client.members(audienceId=made.id) == members


def test_equal_scores_are_ranked_by_id(runners: tuple[Client, str]) -> None:
    client, source = runners
    made = lookalike(client, source, count=5)
    equal = [n for n in range(3_000) if n % 10 and n % 7 == 0 and n % 3 == 0]
    assert client.members(audienceId=made.id) == [f"contact-{n:05}" for n in equal[:5]]


def test_the_source_is_left_out_unless_it_may_be_in(runners: tuple[Client, str]) -> None:
    client, source = runners
    for include, common in ((False, 0), (True, 300)):
        made = lookalike(client, source, share=0.3, includeSource=include)
        overlap = client.call("GetOverlap", {"audienceId": made.id, "otherAudienceId": source})
        assert overlap.count == common, include


def test_only_positive_scores_become_members(runners: tuple[Client, str]) -> None:
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
    made = lookalike(client, source, count=2_000, countries=["Peru"])
    assert list(made.lookalike.countries) == ["PE"]
    members = client.members(audienceId=made.id)
    assert ids[0] in members
    assert ids[1] not in members
    found = model(client, made.id)
    assert (found.seed_count, found.seed_count + found.baseline_count) == (150, 1_501)
    assert found.curve[-1].count == found.baseline_count
    both = model(client, lookalike(client, source, count=9, countries=["NO", "PE"]).id)
    assert (both.seed_count, both.seed_count + both.baseline_count) == (300, 3_002)


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


def test_one_of_two_concurrent_refreshes_is_stale(runners: tuple[Client, str], real_service: Service) -> None:
    client, source = runners
    org, made = dict(client.metadata)["orgid"], lookalike(client, source, count=2_000).id
    refresher = Refresher(real_service, client, made)

    def other() -> None:
        real_service.insert(org, [{"data": {"city": "Lima"}} for _ in range(6)])
        refresher.refresh()

    with pytest.raises(StaleVersion):
        refresher.refresh("write", before=other)
    found = model(client, made)
    assert (found.model_version, found.seed_count + found.baseline_count) == (2, 3_006)
    assert client.count(audienceId=made) == len(client.members(audienceId=made))


def test_rows_are_kept_for_as_long_as_a_command_may_write_them(
    runners: tuple[Client, str], real_service: Service
) -> None:
    client, source = runners
    made = lookalike(client, source, count=20)

    def sweep() -> None:
        real_service.store.custom_audience_sweeper.sweep(now() + timedelta(minutes=9))

    assert Refresher(real_service, client, made.id).refresh("write", before=sweep).version == 1
    assert len(client.members(audienceId=made.id)) == 20


@pytest.mark.parametrize("step", ["feature_stats", "scores", "seed_scores", "write"])
def test_a_refresh_that_fails_midway_leaves_list_and_model_as_they_were(
    runners: tuple[Client, str], real_service: Service, step: str
) -> None:
    client, source = runners
    made = lookalike(client, source, count=20)
    before = model(client, made.id), client.members(audienceId=made.id)

    def fail() -> None:
        raise OutOfTime("too late")

    with pytest.raises(OutOfTime):
        Refresher(real_service, client, made.id).refresh(step, before=fail)
    assert (model(client, made.id), client.members(audienceId=made.id)) == before
    assert client.call("GetCustomAudience", {"id": made.id}) == made


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
