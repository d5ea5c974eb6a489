"""The OpenAPI document of the gateway."""

import json
import re
from typing import Any

import jsonschema
import pytest

from audience_service.gateway.routes import RouteTable
from audience_service.rpc.descriptors import SERVICES
from scripts.openapi import DOCUMENT, generate

OPENAPI = json.loads(DOCUMENT.read_text())


def test_the_document_is_current() -> None:
    """If this fails, run `make docs`."""
    assert DOCUMENT.read_text() == generate()


def test_it_has_every_path() -> None:
    documented = {
        (verb.upper(), re.sub(r"{\w+}", "{}", path)) for path, verbs in OPENAPI["paths"].items() for verb in verbs
    }
    assert documented == {(r.verb, re.sub(r"{[\w.]+}", "{}", r.template)) for r in RouteTable(SERVICES).routes}


def test_every_reference_leads_to_a_schema() -> None:
    references = set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', DOCUMENT.read_text()))
    assert references
    assert [ref for ref in references if ref[1] not in OPENAPI["components"][ref[0]]] == []


@pytest.mark.parametrize("name", sorted(OPENAPI["components"]["schemas"]))
def test_a_schema_is_valid(name: str) -> None:
    schema: dict[str, Any] = OPENAPI["components"]["schemas"][name]
    jsonschema.Draft202012Validator.check_schema(schema)
