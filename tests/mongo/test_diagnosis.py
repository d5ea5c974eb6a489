"""`doctor`: a finding for each check, and what to do about a problem."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from audience_service.domain.core.clock import now
from audience_service.mongo.core.privileges import required_privileges
from audience_service.mongo.diagnosis import Finding, Level, diagnose
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store, mongo_store
from tests.conftest import mongo_database

DATATYPES, RELATED = ("contact", "lead", "customer"), ("order", "event", "subscriber")


class FakeDatabase:
    """Answers commands with fixed documents."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.name = "crm"
        self.client = None
        self.codec_options = None

    def with_options(self, **_: Any) -> Any:
        return self

    def __getitem__(self, _: str) -> Any:
        return self

    def find_one(self, *_: Any) -> Any:
        return self.command("find")

    def command(self, name: str, **options: Any) -> Any:
        answer = self._answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def authenticated(privileges: list[Any]) -> dict[str, Any]:
    return {"authInfo": {"authenticatedUsers": [{"user": "a"}], "authenticatedUserPrivileges": privileges}}


PRIVILEGES = [
    {"resource": {"db": "crm", "collection": name}, "actions": list(actions)}
    for name, actions in required_privileges(DATATYPES, RELATED).items()
]
HEALTHY: dict[str, Any] = {
    "find": None,
    "buildInfo": {"version": "8.0.4"},
    "hello": {"setName": "rs0", "localTime": timedelta(0)},
    "connectionStatus": {
        "authInfo": {"authenticatedUsers": [{"user": "a"}], "authenticatedUserPrivileges": PRIVILEGES}
    },
}


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the checks on a fake database that answers a command differently."""
    monkeypatch.setattr(Store, "missing_indexes", lambda *_: [])
    monkeypatch.setattr(Store, "collated_collections", lambda *_: [])
    base = embedded_store([], ("contact",))

    def run(**changes: Any) -> dict[str, Finding]:
        answers = {**HEALTHY, **changes}
        hello = answers["hello"]  # its time is relative to that of the test
        answers["hello"] = {**hello, "localTime": now() + hello["localTime"]}
        store = replace(base, database=FakeDatabase(answers))  # type: ignore[arg-type]
        return {finding.check: finding for finding in diagnose(store, DATATYPES, RELATED)}

    return run


def test_a_healthy_database_has_no_problem(findings: Any) -> None:
    found = findings()
    assert {finding.level for finding in found.values()} == {Level.OK}, found
    assert list(found) == ["database", "version", "deployment", "clock", "collation", "indexes", "privileges"]


@pytest.mark.parametrize(
    ("check", "changes", "level", "text"),
    [
        ("version", {"buildInfo": {"version": "4.4.1"}}, Level.FAIL, "upgrade"),
        ("deployment", {"hello": {"localTime": timedelta(0)}}, Level.WARN, "use a replica set"),
        ("clock", {"hello": {"localTime": timedelta(seconds=-60)}}, Level.FAIL, "NTP"),
        ("clock", {"hello": {"localTime": timedelta(seconds=5)}}, Level.WARN, "NTP"),
        ("privileges", {"connectionStatus": {"authInfo": {}}}, Level.WARN, "no user"),
        ("privileges", {"connectionStatus": OperationFailure("not authorized", 13)}, Level.FAIL, "code 13"),
        (
            "privileges",
            {
                "connectionStatus": {
                    "authInfo": {"authenticatedUsers": [1], "authenticatedUserPrivileges": PRIVILEGES[1:]}
                }
            },
            Level.FAIL,
            "the database: listCollections",
        ),
        ("database", {"find": OperationFailure("Authentication failed.", 18)}, Level.FAIL, "code 18"),
    ],
)
def test_a_problem_says_what_to_do(findings: Any, check: str, changes: Any, level: Level, text: str) -> None:
    finding = findings(**changes)[check]
    assert finding.level is level
    assert text in finding.message


@pytest.mark.slow
def test_a_database_that_does_not_answer_ends_the_checks() -> None:
    store = mongo_store("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", "crm")
    [finding] = diagnose(store, DATATYPES, RELATED)
    store.close()
    assert (finding.check, finding.level) == ("database", Level.FAIL)


@pytest.mark.usefixtures("real_uri")
def test_the_checks_run_on_a_real_database() -> None:
    with mongo_database() as store:
        found = {finding.check: finding for finding in diagnose(store, DATATYPES, ("subscriber",))}
        store.close()
    assert found["database"].level is Level.OK
    assert found["indexes"].level is Level.OK
    assert found["clock"].level is Level.OK
    assert not [finding for finding in found.values() if "check failed" in finding.message]
