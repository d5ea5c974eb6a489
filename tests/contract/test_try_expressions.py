"""$tryExpr on MongoDB: each operator on values of every type, compared with $expr record by record."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Regex
from pymongo.errors import OperationFailure

from audience_service.domain.filters.expression_guards import can_evaluate, guarded
from audience_service.domain.filters.expressions import EXPRESSIONS
from audience_service.domain.filters.filter import FilterLimits
from audience_service.domain.filters.parser import parse
from audience_service.domain.filters.values import ValueReader
from tests.conftest import Service
from tests.support.client import Client

NOW = datetime(2026, 11, 30, tzinfo=UTC)
_MISSING = object()
VALUES: list[Any] = [
    _MISSING, None, True, 0, 1, -1, 2.5, Int64(-(2**63)), Int64(2**62), Decimal128("1.5"), float("nan"), float("inf"),
    "", "5", "x", "2026-11-29", "Europe/Berlin", "+02:00", "Mars/Base", "%Y", NOW, datetime(1, 1, 1, tzinfo=UTC), [],
    ["x"], [1, 2], [True], {"k": 1}, ObjectId("507f1f77bcf86cd799439011"), Regex("x"), b"\1",
]  # fmt: skip
_LARGE = 10**15
EXAMPLES: list[Any] = json.loads((Path(__file__).parent.parent / "data" / "try_expressions.json").read_text())
"""An expression or more for each operator, on the fields a and b."""


def test_every_operator_has_an_example() -> None:
    text = json.dumps(EXAMPLES)
    assert [name for name in EXPRESSIONS if f'"{name}"' not in text] == []


def test_a_lenient_expression_is_the_strict_one_without_its_failures(real_service: Service) -> None:
    """It never fails. It gives what $expr gives on every record on which $expr does not fail, and else false."""
    collection = real_service.store.database["try_expressions"]
    pairs = list(itertools.product(VALUES, VALUES))
    rows = [
        {"_id": number, "data": {name: value for name, value in (("a", a), ("b", b)) if value is not _MISSING}}
        for number, (a, b) in enumerate(pairs)
    ]
    collection.delete_many({})
    collection.insert_many(rows)
    wrong, needless = [], []
    for example in EXAMPLES:
        reader = ValueReader(FilterLimits(), exact=True, timestamp=NOW)
        document = parse({"$expr": example}, "x", reader).document  # type: ignore[union-attr]
        lenient = {"value": {"$cond": [guarded(document), True, False]}, "ok": {"$and": [can_evaluate(document)]}}
        found = {row["_id"]: row for row in collection.aggregate([{"$project": lenient}])}
        fine = [number for number, row in found.items() if row["ok"]]
        strict = {"$match": {"_id": {"$in": fine}}}, {"$project": {"value": {"$cond": [document, True, False]}}}
        evaluated = collection.aggregate(list(strict))
        differing = [row["_id"] for row in evaluated if row["value"] != found[row["_id"]]["value"]]
        wrong += [(example, rows[number]["data"]) for number in differing]
        for number in sorted(found.keys() - set(fine))[:: max(1, len(found) // 12)]:
            assert not found[number]["value"]
            try:
                list(collection.aggregate([{"$match": {"_id": number}}, {"$project": {"value": document}}]))
            except OperationFailure:
                continue
            needless.append((example, rows[number]["data"]))
    assert wrong == []
    assert [case for case in needless if not _is_documented(*case)] == []


def _is_documented(example: Any, data: dict[str, Any]) -> bool:
    """Whether a guard may exclude the record although MongoDB would evaluate it."""
    values = [data.get("a"), data.get("b")]
    is_large = any(isinstance(value, int | float) and not abs(value) < _LARGE for value in values)
    return "$ifNull" in example or None in values or is_large


@pytest.mark.parametrize("where", [{"$tryExpr": {"$convert": {"input": "$a", "to": "$b"}}}])
def test_an_argument_that_cannot_be_guarded_is_refused(real_service: Service, refused: Any, where: Any) -> None:
    client = real_service.client(f"unguarded{next(real_service.names)}x")
    refusal = refused(lambda: client.count(filter={"datatype": "contact", "where": where}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FILTER", ["filter.where.$tryExpr"])
    assert "needs a written to in $convert" in refusal.descriptions[0]


def test_every_store_saves_a_lenient_expression(client: Client) -> None:
    """Counting the failures of a store that cannot evaluate expressions does not fail the call."""
    written = {"datatype": "contact", "where": {"$tryExpr": {"$gt": [{"$toDouble": "$score"}, 50]}}}
    created = client.call("CreateSegment", {"segment": {"name": "lenient", "filter": written}})
    assert [warning.reason for warning in created.warnings] == []


def test_a_lenient_expression_may_stand_anywhere(real_service: Service) -> None:
    """In alternatives, negated and on related records it is false where it fails, and each is counted."""
    org = f"anywhere{next(real_service.names)}x"
    real_service.insert(org, [{"id": name, "data": {"score": name}} for name in ("1", "90", "x")])
    orders = [("1", 10), ("90", "ten"), ("x", 99)]
    real_service.insert(
        org, [{"id": name, "data": {"contactId": f"contact-{name}", "total": total}} for name, total in orders], "order"
    )
    high = {"$tryExpr": {"$gt": [{"$toInt": "$score"}, 50]}}
    large = {"$tryExpr": {"$gt": [{"$add": ["$total", 1]}, 50]}}
    related = {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}, "where": large}}
    client = real_service.client(org)
    for where, members in (
        ({"$or": [high, {"score": "1"}]}, ["1", "90"]),
        ({"$nor": [high]}, ["1", "x"]),
        ({"$and": [high, high]}, ["90"]),
        (related, ["x"]),
        ({"$or": [related, high]}, ["90", "x"]),
    ):
        written = {"datatype": "contact", "where": where}
        assert client.members(filter=written) == [f"contact-{name}" for name in members]
        warnings = client.call("EstimateReach", {"filter": written}).warnings
        reported = [found.description for found in warnings if found.reason == "EXPRESSION_FAILS"]
        assert set(reported) == {"fails on 1 record, which does not meet it"}, where
        assert len(reported) == json.dumps(where).count("$tryExpr")


def test_every_way_of_asking_agrees_and_reports_the_failures(real_service: Service) -> None:
    """Reach, stream, check and explain find the same members; all warnings have the number of failing records."""
    org = f"lenient{next(real_service.names)}x"
    scores = {"a": "80", "b": "20", "c": "n/a", "d": "", "e": None, "f": 90, "g": "oops"}
    records = [{"id": name, "data": {"score": score}} for name, score in scores.items()]
    real_service.insert(org, [*records, {"id": "gone", "state": "deleted", "data": {"score": "n/a"}}])
    client = real_service.client(org)
    where = {"score": {"$ne": "oops"}, "$tryExpr": {"$gt": [{"$toDouble": "$score"}, 50]}}
    written = {"datatype": "contact", "where": where}
    created = client.call("CreateSegment", {"segment": {"name": "lenient", "filter": written}})
    selected = {"audience_id": created.id}
    assert client.members(**selected) == client.members(filter=written) == ["contact-a", "contact-f"]
    ids = [f"contact-{name}" for name in scores]
    checked = client.call("CheckMembership", {"contactIds": ids, "audienceIds": [created.id]})
    assert sorted(row.contact_id for row in checked.memberships if row.audience_ids) == ["contact-a", "contact-f"]
    answers = [
        created,
        client.call("GetSegment", {"id": created.id}),
        client.call("EstimateReach", {"filter": written}),
        client.call("EstimateReach", {"audienceId": created.id}),
        list(client.call("StreamReach", {"filter": written}))[-1],
        client.call("ExplainFilter", {"filter": written}),
    ]
    for answer in answers:
        [warning] = [found for found in answer.warnings if found.reason == "EXPRESSION_FAILS"]
        assert warning.field_path.endswith("filter.where.$tryExpr")
        assert warning.description == "fails on 2 records, which do not meet it"
    assert answers[2].count == answers[4].count == 2
    assert "(toDouble(score) > 50, false if it fails)" in answers[5].description
