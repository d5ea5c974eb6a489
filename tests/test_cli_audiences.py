"""Commands that take the id of an audience take that of any kind; lookalikes are made, refreshed and opened."""

import json
import threading
from typing import Any

import pytest

from audience_service.domain.custom_audiences.errors import SeedTooSmall
from tests.conftest import KEY, Service
from tests.support.client import Client
from tests.support.command import run
from tests.support.lookalikes import people, segment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine


@pytest.fixture
def settings(service: Service) -> dict[str, str]:
    """Settings that point the commands to the test server."""
    return {"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_LISTEN": f"127.0.0.1:{service.app.port}"}


@pytest.mark.parametrize("command", ["reach", "overlap"])
def test_audiences_of_every_kind_are_named(
    service: Service, client: Client, org: str, settings: dict[str, str], command: str
) -> None:
    service.insert(org, people(10))
    every = client.create(name="everyone", filter={"datatype": "contact", "where": {}}).id
    ids = [every, client.custom(name="uploaded").id, client.snapshot(audienceId=every, name="frozen").id]
    calls = [ids] if command == "overlap" else [[one] for one in ids]
    done = [run(command, "--org", org, *each, **settings) for each in calls]
    assert [each.returncode for each in done] == [0] * len(calls), done
    printed = "".join(each.stdout for each in done)
    assert all(name in printed for name in ("everyone", "uploaded", "frozen"))


def test_lookalike_creates_refreshes_and_draws_the_curve(real_service: Service) -> None:
    org = f"cli{next(real_service.names)}x"
    real_service.insert(org, people(1_500))
    client = real_service.client(org)
    seed = segment(client, {"score": 90})
    settings = {"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_LISTEN": f"127.0.0.1:{real_service.app.port}"}
    options = [
        "--create",
        "like them",
        "--count",
        "40",
        "--exclude-field",
        "country",
        "--field",
        "city",
        "--field",
        "sex",
    ]
    made = run("lookalike", "--org", org, seed, *options, "--field", "country", **settings)
    assert made.returncode == 0, made.stderr
    assert "like them: 40 members by model 1" in made.stdout
    assert "data.city: information value" in made.stdout
    assert "data.country" not in made.stdout
    assert "protected fields, not used: data.language" in made.stdout
    assert "similarity by reach" in made.stdout
    [listed] = client.call("ListCustomAudiences").custom_audiences
    again = run("lookalike", "--org", org, listed.id, "--refresh", "--json", **settings)
    assert json.loads(again.stdout)["modelVersion"] == 2
    by_default = run("lookalike", "--org", org, seed, "--create", "else", "--share", "0.02", **settings).stdout
    assert "else: 30 members" in by_default
    assert "fields of the source's filter: data.score" in by_default


def test_lookalike_exits_with_the_error_of_a_creation_that_fails_or_takes_too_long(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FAILED lookalike prints its error; --timeout ends the wait and not the work."""
    org = f"cli{next(real_service.names)}x"
    real_service.insert(org, people(1_500))
    client = real_service.client(org)
    seed, resume = segment(client, {"score": 90}), threading.Event()
    settings = {"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_LISTEN": f"127.0.0.1:{real_service.app.port}"}
    repository: Any = type(real_service.store.lookalikes)
    feature_stats = repository.feature_stats

    def fail(*_: Any) -> None:
        raise SeedTooSmall("too few")

    def wait(*arguments: Any) -> Any:
        assert resume.wait(100)
        return feature_stats(*arguments)

    monkeypatch.setattr(repository, "feature_stats", fail)
    failed = run("lookalike", "--org", org, seed, "--create", "failing", "--count", "40", **settings)
    assert (failed.returncode, "SEED_TOO_SMALL: too few" in failed.stderr) == (1, True)
    monkeypatch.setattr(repository, "feature_stats", wait)
    late = run("lookalike", "--org", org, seed, "--create", "slow", "--count", "40", "--timeout", "1", **settings)
    assert (late.returncode, "is not ready yet; the server continues its creation" in late.stderr) == (1, True)
    resume.set()
    [found] = [each for each in client.call("ListCustomAudiences").custom_audiences if each.name == "slow"]
    assert client.settled(found.id).contact_count == 40


@pytest.mark.parametrize(
    "options",
    [
        "--create x --refresh --share 0.1",
        "--create x",
        "--create x --share 0.1 --count 5",
        "--share 0.1",
        "--refresh --count 5",
    ],
)
def test_lookalike_needs_one_size_or_refresh(settings: dict[str, str], options: str) -> None:
    done = run("lookalike", "--org", "x", "segment-1", *options.split(), **settings)
    assert (done.returncode, "give one of" in done.stderr) == (2, True)


def test_lookalike_rejects_the_id_of_another_type(settings: dict[str, str]) -> None:
    done = run("lookalike", "--org", "x", "segment-" + "1" * 21, **settings)
    assert (done.returncode, "give --create to create one from it" in done.stderr) == (2, True)
