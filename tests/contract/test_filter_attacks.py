"""Hostile filters: each is refused with its field path, or is plain data and finds the expected records.

A row of attacks.json is [name, text of where_json, outcome]. A text too long to write out is a list of [piece, times].
The outcome is {"field_path": ..., "reason": ...} of the refusal, or {"matches": [names]} of the edge-case records that
are found; "all" means those that are not archived.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.conftest import Service
from tests.contract.test_filters import DATA, RECORDS, supported_records
from tests.support.client import Client, Refusal

ATTACKS = json.loads((DATA / "attacks.json").read_text())
ORG, OTHER = "attacked", "attacked2"
CPU_SECONDS = {"mongodb": 1.0, "embedded": 5.0}
"""A bound against what blows up: of client and server, and of the embedded store, which looks at each alternative."""
ATTEMPTS = 3
"""Whatever else the process does meanwhile counts too; what blows up does so each time."""


@pytest.fixture(scope="module")
def records(service: Service) -> Iterator[Client]:
    """A client of an org with the edge cases, next to an org with a longer name and copies of them."""
    stored = [{"id": name, **record} for name, record in RECORDS.items() if name in supported_records(service)]
    service.insert(ORG, stored)
    service.insert(OTHER, stored)
    yield service.client(ORG)
    service.store.database["contact"].delete_many({"sk": {"$regex": "^attacked2?/"}})


@pytest.mark.parametrize(("name", "written", "outcome"), ATTACKS, ids=[name for name, _, _ in ATTACKS])
def test_an_attack_is_refused_at_its_field_path_or_matches_only_what_it_states(
    service: Service, records: Client, name: str, written: Any, outcome: dict[str, Any]
) -> None:
    for _ in range(ATTEMPTS):
        begun = time.process_time()
        _attack(service, records, written, outcome)
        spent = time.process_time() - begun
        if spent < CPU_SECONDS[service.kind]:
            break
    assert spent < CPU_SECONDS[service.kind]


def _attack(service: Service, records: Client, written: Any, outcome: dict[str, Any]) -> None:
    filter_message = {"datatype": "contact", "whereJson": _expanded(written)}
    try:
        found = _members(records, filter_message)
        assert records.count(filter=filter_message) == len(found)
    except grpc.RpcError as error:
        _check_refusal(service, Refusal(error), outcome)
    else:
        assert "matches" in outcome, f"it was not refused, and found {len(found)}"
        assert found == sorted(
            f"{ORG}/contact/{name}" for name in supported_records(service) & _named(outcome["matches"])
        )


def _check_refusal(service: Service, refusal: Refusal, outcome: dict[str, Any]) -> None:
    if refusal.code is grpc.StatusCode.UNIMPLEMENTED:
        # Only the embedded store may refuse what is harmless, and only for this.
        assert (service.kind, refusal.info.reason) == ("embedded", "UNSUPPORTED_BY_STORE")
        assert "matches" in outcome
        return
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal.message
    actual = {"field_path": refusal.fields[0].removeprefix("filter."), "reason": refusal.info.reason}
    assert actual == outcome


def _members(records: Client, filter_message: dict[str, Any]) -> list[str]:
    """The sks of the members: the ids alone are the same in both orgs."""
    request = {"filter": filter_message, "fields": ["sk"]}
    messages = records.call("StreamMembers", request)
    return [member.fields["sk"] for message in messages for member in message.members]


def _named(matches: list[str] | str) -> set[str]:
    if isinstance(matches, str):
        return {name for name, record in RECORDS.items() if record.get("state") not in ("archived", "deleted")}
    return set(matches)


def _expanded(written: str | list[tuple[str, int]]) -> str:
    return written if isinstance(written, str) else "".join(piece * times for piece, times in written)
