"""Requests near the OpenAPI document: none is a defect of the gateway, and each response is a documented one."""

from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from scripts.openapi import DOCUMENT
from tests.http.conftest import Gateway

pytestmark = pytest.mark.slow

RESULTS: list[Any] = list(schemathesis.openapi.from_path(DOCUMENT).get_all_operations())
OPERATIONS = [result.ok() for result in RESULTS]
CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.label))
def test_a_request_near_the_document_gets_a_documented_response(gateway: Gateway, operation: Any) -> None:
    """A watch that begins would not end; no id of the generated ones has one."""

    @hypothesis.given(operation.as_strategy())
    @hypothesis.settings(max_examples=5, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    def send(case: Any) -> None:
        response = case.call(base_url=gateway.address, headers=gateway.headers, timeout=40)
        assert response.status_code not in (500, 502), response.text
        case.validate_response(response, checks=CHECKS)

    send()
