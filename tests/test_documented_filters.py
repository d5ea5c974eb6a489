"""Each filter that README and the first guides show selects some of the sample contacts, and not all of them."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from audience_service.wiring.store import SAMPLE_ORGS, insert_samples, open_sample_store
from tests import conftest
from tests.conftest import Service, mongo_database, run_service
from tests.support.client import Client

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
FIRST_PAGES = ("README.md", "docs/quick-start.md", "docs/how-to/command-line.md", "clients/python/README.md")
WHERE = re.compile(r"(?:\"where\": |--where ')(?=\{)")
BLOCK = re.compile(r"^```json ([\w-]+)\n(.*?)^```", re.M | re.S)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def filters_in(text: str) -> Iterator[Any]:
    """The conditions that a page shows. Raises ValueError or SyntaxError for broken ones.

    Those of a Python block whose values are computed are left out.
    """
    for block in PYTHON.findall(text):
        for node in ast.walk(ast.parse(block)):
            for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
                if isinstance(key, ast.Constant) and key.value == "where":
                    with suppress(ValueError):
                        yield ast.literal_eval(value)
    rest = PYTHON.sub("", text)
    for found in WHERE.finditer(rest):
        yield json.JSONDecoder().raw_decode(rest, found.end())[0]


SHOWN = [each for page in FIRST_PAGES for each in filters_in((ROOT / page).read_text())]
FIRST = {json.dumps(each): each for each in SHOWN if "$gtt" not in str(each)}
"""Without the one that shows an error."""
BEHAVIOUR = dict(BLOCK.findall((ROOT / "docs/how-to/find-by-behaviour.md").read_text()))


@pytest.fixture(scope="module")
def demo() -> Iterator[Service]:
    """The sample contacts of `make run`."""
    yield from run_service("embedded", open_sample_store(conftest.test_settings()))


@pytest.fixture(scope="module")
def seeded_demo(real_uri: str) -> Iterator[Service]:
    """Those of `audience-service seed`, with orders and events."""
    with mongo_database() as store:
        insert_samples(store, "demo", SAMPLE_ORGS["demo"])
        yield from run_service("mongodb", store)


def assert_selective(client: Client, where: dict[str, Any]) -> None:
    """Some contacts match, and some do not."""
    count = client.call("EstimateReach", {"filter": {"datatype": "contact", "where": where}}).count
    assert 0 < count < SAMPLE_ORGS["demo"]


@pytest.mark.parametrize("text", ["--where '{\"age\": }'", '{"where": {"age" 30}}', '```python\n{"where": {1 2}}\n```'])
def test_a_broken_filter_of_a_page_is_not_skipped(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        list(filters_in(text))


@pytest.mark.parametrize("where", FIRST.values(), ids=FIRST)
def test_a_filter_of_the_first_pages_selects_sample_contacts(demo: Service, where: dict[str, Any]) -> None:
    assert_selective(demo.client("demo"), where)


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_filter_on_behaviour_selects_sample_contacts(seeded_demo: Service, name: str) -> None:
    assert_selective(seeded_demo.client("demo"), json.loads(BEHAVIOUR[name]))
