"""Members as tables and files, selections, and watches, against a real server."""

import csv
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from audience_client import AudienceClient, StopWatch
from audience_client.pb.audience.v1.membership_service_pb2 import MembershipEvent
from audience_client.records import Member, columns
from audience_client.selection import make_filter

from tests.clients.conftest import Server, on_mongodb

EVERYONE = {"datatype": "contact", "where": {}}
FIELDS = ["email", "score", "tags", "mixed"]


@pytest.fixture
def people(server: Server, org: str) -> list[str]:
    """Three contacts with values of several types."""
    tags: list[list[str]] = [["vip"], [], ["vip", "lead"]]
    mixed = [1, "one", {"is": 1}]
    return server.insert(
        org,
        [{"email": f"ä{n}@example.com", "score": n + n % 2 / 2, "tags": tags[n], "mixed": mixed[n]} for n in range(3)],
    )


@pytest.mark.slow
def test_members_become_a_table(client: AudienceClient, people: list[str]) -> None:
    """Arrow and Polars have the same columns; one with several types is text."""
    table = client.members(EVERYONE, fields=FIELDS).to_arrow()
    rows = sorted(table.to_pylist(), key=lambda found: found["score"])
    assert [found["id"] for found in rows] == people
    assert [found["score"] for found in rows] == [0, 1.5, 2]
    assert [found["tags"] for found in rows] == [["vip"], [], ["vip", "lead"]]
    assert [found["mixed"] for found in rows] == ["1", "one", '{"is": 1}']
    frame = client.members(EVERYONE, fields=FIELDS).to_polars()
    assert sorted(frame.to_dicts(), key=lambda found: found["score"]) == rows


def test_members_become_a_file(client: AudienceClient, people: list[str], tmp_path: Path) -> None:
    """A row for each member; a list is JSON."""
    assert client.members(EVERYONE, fields=["email", "tags"], batch_size=1).to_csv(tmp_path / "all.csv") == 3
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {found["id"] for found in rows} == set(people)
    assert sorted(found["tags"] for found in rows) == ['["vip", "lead"]', '["vip"]', "[]"]


def test_a_column_without_values_is_empty() -> None:
    """Also if no member has the field."""
    assert columns([Member("a", {}), Member("b", {})], ["score"]) == {"id": ["a", "b"], "score": [None, None]}


def test_a_union_without_an_exclusion(client: AudienceClient, people: list[str]) -> None:
    """Several ids select their union; `exclude` leaves out members of others."""
    first, third = (client.create_static_segment(f"s{n}", [people[n]]) for n in (0, 2))
    everyone = client.create_segment("all", EVERYONE)
    assert client.members([first.id, third.id]).ids() == {people[0], people[2]}
    assert client.members(everyone.id, exclude=[first.id]).ids() == set(people[1:])
    assert client.reach(everyone.id, exclude=[first.id]).count == 2
    assert client.memberships(people, [first.id]) == {people[0]: [first.id], people[1]: [], people[2]: []}
    assert client.segment("s0").id == first.id


def test_a_snapshot_is_read_by_its_id(server: Server, org: str, client: AudienceClient, people: list[str]) -> None:
    """The same request id gives the same snapshot, and its members stay."""
    taken = client.snapshot(EVERYONE, request_id="launch")
    server.insert(org, [{"email": "late@example.com"}])
    assert client.members(taken.id).ids() == set(people)
    assert client.snapshot(EVERYONE, request_id="launch").id == taken.id
    assert [found.id for found in client.snapshots()] == [taken.id]


def test_a_filter_takes_dates_and_large_integers() -> None:
    """It is exact: an integer above 2^53, the order of keys, and a date."""
    written = make_filter({"where": {"n": 2**60, "at": {"$gt": datetime(2026, 5, 1, 12, tzinfo=UTC)}}})
    assert written.where_json == '{"n": 1152921504606846976, "at": {"$gt": {"$date": "2026-05-01T12:00:00.000Z"}}}'
    assert written.datatype == "contact"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"wher": {}}, "has 'wher'"),
        ({"datatype": "contact"}, "has no 'where'"),
        ({"where": {"at": datetime(2026, 5, 1)}}, "has no timezone"),
        ({"where": {"n": float("nan")}}, "not JSON compliant"),
        ({"where": {"n": {1}}}, "a set is not a value"),
        ("", "audience: is empty"),
        ([], "audience: is empty"),
    ],
)
def test_a_wrong_selection_is_refused_at_once(client: AudienceClient, wrong: Any, message: str) -> None:
    """Before a call, with the place and the cure."""
    with pytest.raises(ValueError, match=message):
        client.members(wrong)


class State:
    """What an automation stores. It ends the watch after some events."""

    def __init__(self, resume_token: str = "", until: int = 1) -> None:
        self.resume_token = resume_token
        self.until = until
        self.begins: list[set[str]] = []
        self.events: list[tuple[str, int]] = []
        self.on_begin: Callable[[], None] = lambda: None

    def begin(self, members: set[str], resume_token: str) -> None:
        """Store the first members."""
        self.begins.append(members)
        self.on_begin()

    def apply(self, events: Sequence[MembershipEvent], resume_token: str) -> None:
        """Store events."""
        self.events += [(event.contact_id, event.change) for event in events]
        if len(self.events) >= self.until:
            self.resume_token = resume_token
            raise StopWatch


@on_mongodb
def test_a_watch_resumes_through_restarts(server: Server, org: str, client: AudienceClient, people: list[str]) -> None:
    """Every event arrives once: before, during and after a restart, and in the next process."""
    segment = client.create_segment("all", EVERYONE)
    state, added = State(until=2), list[str]()

    def restart() -> None:
        added.extend(server.insert(org, [{"email": "a@example.com"}]))
        server.restart()
        added.extend(server.insert(org, [{"email": "b@example.com"}]))

    state.on_begin = restart
    client.watch(segment.id, state)
    assert state.begins == [set(people)]
    assert sorted(state.events) == sorted((contact, 1) for contact in added)
    later = server.insert(org, [{"email": "c@example.com"}])
    resumed = State(state.resume_token)
    client.watch(segment.id, resumed)
    assert (resumed.begins, resumed.events) == ([], [(later[0], 1)])


def test_a_watch_begins_again_without_its_position(
    server: Server, client: AudienceClient, people: list[str], monkeypatch: Any
) -> None:
    """After the key of its token was removed, the state gets all members to compare with."""
    from audience_client.reasons import UnknownSealingKey

    segment = client.create_segment("all", EVERYONE)
    state, watch = State("sealed with a removed key", until=0), client._watch

    def fail_once(audience_id: str, current: State) -> None:
        if current.resume_token:
            raise UnknownSealingKey("removed")
        watch(audience_id, current)

    monkeypatch.setattr(client, "_watch", fail_once)
    client.watch(segment.id, state)
    assert state.begins == [set(people)]
