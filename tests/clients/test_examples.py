"""The examples of the Python client against a real server that restarts in the middle."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from audience_client import AudienceClient, IdentifierBatch, Member

from tests.clients.conftest import EXAMPLES, Server, on_mongodb

pytestmark = pytest.mark.slow  # a restart takes a second

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Load = Callable[[str], ModuleType]


@pytest.fixture
def people(server: Server, org: str, client: AudienceClient) -> list[str]:
    """Contacts of the org, and two segments. The values of a member fill a message, so a stream has many messages."""
    client.create_segment("VIPs", VIP)
    client.create_segment("all", {"where": {}})
    data = [
        {"email": f"p{n}@example.com{' ' * 2**18}"[: 2**18], "tags": ["vip" if n % 4 else "lead"]} for n in range(40)
    ]
    return server.insert(org, data)


def restart_once(server: Server, at: int) -> Callable[[], None]:
    """A function that restarts the server at one of its calls."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            server.restart()

    return count


@on_mongodb
def test_a_campaign_reaches_each_recipient_once(
    server: Server, client: AudienceClient, people: list[str], example: Load
) -> None:
    """A restart of the server in the middle changes nothing."""
    campaign, sent, restart = example("campaign"), list[str](), restart_once(server, at=3)

    def deliver(member: Member) -> None:
        restart()
        sent.append(member.id)

    campaign.deliver = deliver  # type: ignore[attr-defined]
    restarts = server.restarts
    assert campaign.campaign(client) == 30
    assert sorted(sent) == sorted(person for n, person in enumerate(people) if n % 4)
    assert server.restarts == restarts + 1


@on_mongodb
def test_an_ad_list_stays_equal_to_the_audience(
    server: Server, org: str, client: AudienceClient, example: Load, tmp_path: Path
) -> None:
    """The first run sends all members and the second the differences, with restarts in between."""
    client.create_segment("VIPs", VIP)
    people = server.insert(org, [{"email": f"p{n}@example.com", "tags": ["vip"]} for n in range(6)])
    ads, state, sent = example("ads"), tmp_path / "state", list[IdentifierBatch]()
    ads.upload = sent.append  # type: ignore[attr-defined]
    assert ads.ads(client, state) == 6
    server.restart()
    server.store.database["contact"].update_one({"pk": people[0]}, {"$set": {"data.tags": []}})
    server.insert(org, [{"email": "new@example.com", "tags": ["vip"]}])
    assert ads.ads(client, state) == 6
    assert [(batch.is_removal, len(batch.rows)) for batch in sent] == [(False, 6), (False, 1), (True, 1)]


def test_a_report_has_every_member(
    server: Server, client: AudienceClient, people: list[str], example: Load, tmp_path: Path, monkeypatch: Any
) -> None:
    """The file has a row for each member of the largest segment, also if the server restarts meanwhile."""
    reports, restart = example("reports"), restart_once(server, at=2)
    call = client.reach

    def reach(*arguments: Any) -> Any:
        restart()
        return call(*arguments)

    monkeypatch.setattr(client, "reach", reach)
    assert reports.reports(client, tmp_path / "members.csv") == 40
    rows = (tmp_path / "members.csv").read_text().splitlines()
    assert rows[0] == "id,email,country,tags"
    assert {row.split(",")[0] for row in rows[1:]} == set(people)


@pytest.mark.parametrize("name", ["campaign", "ads", "reports"])
def test_an_example_is_short(name: str) -> None:
    """An example's function has fewer than 15 lines: the client does the plumbing."""
    [function] = re.findall(rf"^def {name}\(.*?(?=^\S|\Z)", (EXAMPLES / f"{name}.py").read_text(), re.M | re.S)
    assert len(function.strip().splitlines()) < 15
