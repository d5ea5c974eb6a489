"""What explain documents of a MongoDB say: pairs in tests/data/explains.json, in the shapes of its manual."""

import json
from pathlib import Path
from typing import Any

import pytest
from bson import json_util

from audience_service.mongo.query.explain_parser import execution_failure, parse_explain

PAIRS = json_util.loads((Path(__file__).parents[2] / "data/explains.json").read_text())


@pytest.mark.parametrize(("names", "document", "expected"), [pair[1:] for pair in PAIRS], ids=[p[0] for p in PAIRS])
def test_an_explain_document_yields_kind_index_and_stats(names: list[str], document: Any, expected: list[Any]) -> None:
    explained = parse_explain(document, "acme", names)
    figures = explained.execution_stats
    parsed: list[Any] = [explained.kind.value, explained.index]
    parsed += (
        [None] * 4
        if figures is None
        else [figures.documents_examined, figures.keys_examined, figures.matched, figures.milliseconds]
    )
    assert json.dumps(parsed) == json.dumps(expected)


def test_another_org_s_range_is_no_scope() -> None:
    document = next(pair[2] for pair in PAIRS if pair[0].startswith("an index on sk with the org"))
    assert parse_explain(document, "acme", ["sk"]).kind == "SCAN"
    assert parse_explain(document, "acm", ["sk"]).kind == "INDEX"


def test_a_failed_execution_is_reported() -> None:
    failed = {"executionStats": {"executionSuccess": False, "errorMessage": "operation exceeded", "errorCode": 50}}
    assert execution_failure({"stages": [{"$cursor": failed}]}) == ("operation exceeded", 50)
    assert execution_failure({"shards": {"s1": {}, "s2": failed}}) == ("operation exceeded", 50)
    assert execution_failure({"executionStats": {"executionSuccess": True}}) is None
