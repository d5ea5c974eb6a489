"""The commands that call a running server, as a user runs them."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from audience_service.cli.insights import dimension_chart
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.reach.key_draw import Estimate
from audience_service.domain.reach.progressive_count import Progress, ProgressiveCounter
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from tests.conftest import KEY, Service
from tests.support.client import Client
from tests.support.command import run
from tests.support.lists import publish
from tests.support.watch_harness import NOON, WatchHarness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}


@pytest.fixture
def environment(service: Service, org: str) -> Any:
    """Run a command about the test's org; it finds the server and the key in its settings."""
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{service.app.port}", "AUDIENCE_JWT_KEY": KEY, "COLUMNS": "100"}
    return lambda *arguments, **more: run(*arguments, "--org", org, **{**settings, **more})


@pytest.fixture
def ids(service: Service, org: str) -> list[str]:
    """Four contacts, three of them of the US."""
    data = [{"country": "US", "email": "ann@example.com"}] * 3 + [{"country": "FR"}]
    return service.insert(org, [{"data": item} for item in data])


def test_reach_shows_a_count_the_orgs_total_and_a_masked_member(
    environment: Any, client: Client, ids: list[str]
) -> None:
    made = client.create(name="of the [b]US[/b]", filter={"datatype": "contact", "where": {"country": "US"}})
    done = environment("reach", made.id)
    assert done.returncode == 0, done.stderr
    assert re.search(r"of the \[b\]US\[/b\] +3 +75\.0 % +█", done.stdout)
    assert "of 4 not archived" in done.stdout
    assert '"email": "a***@example.com"' in done.stdout
    assert "ann@" not in done.stdout


def test_reach_counts_an_unsaved_filter_and_prints_json(environment: Any, ids: list[str]) -> None:
    done = environment("reach", "--where", '{"country": "FR"}', "--json")
    answer = json.loads(done.stdout)
    assert (answer["count"], answer["total"], answer["sampleProfile"]) == (1, 4, {"country": "FR"})
    empty = json.loads(environment("reach", "--datatype", "lead", "--where", "{}", "--json").stdout)
    assert (empty["count"], empty["total"]) == (0, 0)
    assert re.search(r"filter +0 +0\.0 %", environment("reach", "--datatype", "lead", "--where", "{}").stdout)


def test_overlap_shows_sizes_regions_and_subsets(
    environment: Any, service: Service, client: Client, ids: list[str]
) -> None:
    all_contacts = client.create(name="everyone", filter=ALL_CONTACTS).id
    of_us = client.create(name="of the US", filter={"datatype": "contact", "where": {"country": "US"}}).id
    listed = client.create(name="list", type="static", contactIds=ids[:3]).id
    service.store.database["segment"].update_one({"pk": of_us}, {"$set": {"name": "of the \x1b[31m[b]US"}})
    done = environment("overlap", all_contacts, of_us, listed)
    assert done.returncode == 0, done.stderr
    assert "B  of the \N{REPLACEMENT CHARACTER}[31m[b]US" in done.stdout
    assert re.search(r"A  everyone +4 +100\.0 % +█", done.stdout)
    assert re.search(r"A B C +3 +75\.0 % +█", done.stdout)
    assert re.search(r"A · · +1 +25\.0 % +█", done.stdout)
    assert re.search(r"^A +· +75\.0 % +75\.0 %\s+\(3\) +\(3\)", done.stdout, re.M)
    assert "· B C have the same members" in done.stdout
    assert "B is a subset of A" in done.stdout
    answer = json.loads(environment("overlap", all_contacts, of_us, listed, "--json").stdout)
    assert answer["unionCount"] == 4
    assert answer["regions"][0] == {"audienceIds": [all_contacts, of_us, listed], "count": 3}
    assert answer["duplicates"] == [{"audienceIds": [of_us, listed]}]


def test_reach_and_overlap_take_every_kind_of_audience(
    environment: Any, service: Service, client: Client, org: str, ids: list[str]
) -> None:
    segment = client.create(name="all", filter=ALL_CONTACTS)
    custom, snapshot = client.custom(name="listed"), client.snapshot(audienceId=segment.id, name="frozen")
    publish(service.store, org, custom.id, ids[:1])
    for audience_id, name, count in ((segment.id, "all", 4), (custom.id, "listed", 1), (snapshot.id, "frozen", 4)):
        done = environment("reach", audience_id)
        assert re.search(rf"{name} +{count} ", done.stdout), done.stderr
    done = environment("overlap", segment.id, custom.id, snapshot.id)
    assert "B is a subset of A" in done.stdout, done.stderr
    assert re.search(r"C  frozen +4 ", done.stdout)


def test_an_estimated_total_is_marked(
    environment: Any, client: Client, ids: list[str], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: Any) -> Any:
        raise OutOfTime("the count was stopped")

    monkeypatch.setattr(service.store.members, "reach", late)
    monkeypatch.setattr(ProgressiveCounter, "estimate_from_sample", lambda *_: Progress(Estimate(3, 1, 4), 2, 4))
    done = environment("reach", "--where", "{}")
    assert "of about 3 not archived" in done.stdout
    assert "estimated from a sample: 1 to 4 (95 % confidence)" in done.stdout
    answer = json.loads(environment("reach", "--where", "{}", "--json").stdout)
    assert (answer["exact"], answer["totalExact"]) == (False, False)


@pytest.mark.parametrize(
    ("ours", "orgs", "expected"),
    [
        ({"p50": 1234567.5}, {"p50": 3}, "median 1,234,567.5, in the org 3"),
        ({"p50": 42}, {"max": 9}, "median 42"),
        ({"max": 9}, {"p50": 3}, None),
        ({}, {"p50": 3}, None),
    ],
)
def test_a_suppressed_median_is_not_shown(ours: dict[str, float], orgs: dict[str, float], expected: str | None) -> None:
    dimension = pb.DimensionInsights(
        name="score", quantiles=pb.InsightQuantiles(**ours), baseline_quantiles=pb.InsightQuantiles(**orgs)
    )
    assert dimension_chart(dimension).caption == expected


def test_insights_draw_the_size_of_a_watched_audience_over_time(real_service: Service) -> None:
    org = f"over{next(real_service.names)}x"
    real_service.insert(org, [{"id": "a", "data": {"plan": "paid"}}, {"id": "b"}])
    audience = WatchHarness(real_service, org, {"plan": "paid"})
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{real_service.app.port}", "AUDIENCE_JWT_KEY": KEY, "COLUMNS": "100"}
    command = ("insights", audience.audience_id, "--org", org, "--dimension", "source")
    assert "unknown, since the audience is not watched" in run(*command, "--history", **settings).stdout
    audience.reconcile()
    audience.update("b", **{"data.plan": "paid"})
    audience.reconcile(NOON + timedelta(days=1))
    done = run(*command, "--history", "2", **settings)
    assert "size over time, 2026-03-01 12:00:00 to 2026-03-02 12:00:00 (UTC)" in done.stdout, done.stderr
    assert re.search(r"2026-03-01 12:00:00 +█{15} +1 +\+0 +-0 ", done.stdout), done.stdout
    assert re.search(r"2026-03-02 12:00:00 +█{30} +2 +\+1 +-0 ", done.stdout)
    assert "size over time" not in run(*command, **settings).stdout
    as_json = json.loads(run(*command, "--history", "--json", **settings).stdout)
    assert (as_json["sizeHistory"]["watched"], len(as_json["sizeHistory"]["points"])) == (True, 24)
    assert "size_history.point_count" in run(*command, "--history", "101", **settings).stderr


def test_an_error_names_the_field_path(environment: Any, client: Client) -> None:
    leads = client.create(name="leads", type="static", filter={"datatype": "lead"}).id
    made = client.create(name="contacts", type="static").id
    for arguments, expected in (
        (
            ("reach", "--where", '{"score": {"$foo": 1}}'),
            "INVALID_FILTER: invalid request: filter.where_json.score.$foo",
        ),
        (
            ("reach", f"segment-{'x' * 21}"),
            "AUDIENCE_NOT_FOUND: the org has no audience with this id (id segment-xxxxxxxxxxxxxxxxxxxxx)",
        ),
        (("overlap", made), "INVALID_FIELD: invalid request: audience_ids[1]: is missing"),
        (("overlap", made, leads), "INVALID_FIELD: invalid request: audience_ids[1]: is an audience of lead"),
        (("overlap", made, leads, "--token", "no"), "INVALID_TOKEN"),
    ):
        done = environment(*arguments)
        assert (done.returncode, expected in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert environment("reach").returncode == environment("reach", made, "--where", "{}").returncode == 2


def test_a_token_comes_from_the_environment_or_the_key(environment: Any, org: str) -> None:
    token = run("token", "--org", org, AUDIENCE_JWT_KEY=KEY).stdout.strip()
    command = ("reach", "--where", "{}", "--json")
    assert environment(*command, AUDIENCE_CLI_TOKEN=token, AUDIENCE_JWT_KEY="").returncode == 0
    assert environment(*command, "--token", token, AUDIENCE_CLI_TOKEN="no", AUDIENCE_JWT_KEY="").returncode == 0
    done = environment(*command, AUDIENCE_JWT_KEY="")
    assert (done.returncode, "AUDIENCE_CLI_TOKEN: is missing" in done.stderr) == (78, True)


def test_an_unreachable_server_is_a_plain_error_that_may_pass() -> None:
    done = run("reach", "--where", "{}", "--org", "acme", AUDIENCE_LISTEN="127.0.0.1:1", AUDIENCE_JWT_KEY=KEY)
    output = "UNAVAILABLE; no server responds at this address: start one, or set AUDIENCE_ADDRESS to another"
    assert (done.returncode, done.stderr.strip()) == (75, f"Error: 127.0.0.1:1: {output}")


def test_a_command_needs_only_the_settings_of_its_connection(service: Service, org: str, ids: list[str]) -> None:
    """The server's key is elsewhere; its invalid settings do not matter, but a misspelt variable does."""
    token = run("token", "--org", org, AUDIENCE_JWT_KEY=KEY).stdout.strip()
    address = f"127.0.0.1:{service.app.port}"
    settings = {"AUDIENCE_ADDRESS": address, "AUDIENCE_ORG": org, "AUDIENCE_CLI_TOKEN": token}
    done = run("reach", "--where", "{}", "--quiet", **settings, AUDIENCE_WORKERS="many")
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr
    assert "give --org, or set AUDIENCE_ORG" in run("reach", "--where", "{}", **{**settings, "AUDIENCE_ORG": ""}).stderr
    misspelt = run("reach", "--where", "{}", **settings, AUDIENCE_ADRESS=address)
    assert (misspelt.returncode, "did you mean AUDIENCE_ADDRESS?" in misspelt.stderr) == (78, True)
