"""Each filter that README and the first guides show selects some of the sample contacts, and not all of them."""

import json
import re
from collections.abc import Iterator
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


def filters() -> Iterator[dict[str, Any]]:
    """The conditions that the first pages show, without the one that shows an error."""
    for page in FIRST_PAGES:
        text = (ROOT / page).read_text()
        for found in WHERE.finditer(text):
            try:
                conditions, _ = json.JSONDecoder().raw_decode(text, found.end())
            except ValueError:
                continue  # code that computes a value
            if "$gtt" not in str(conditions):
                yield conditions


FIRST = {json.dumps(each): each for each in filters()}
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


@pytest.mark.parametrize("where", FIRST.values(), ids=FIRST)
def test_a_filter_of_the_first_pages_selects_sample_contacts(demo: Service, where: dict[str, Any]) -> None:
    assert_selective(demo.client("demo"), where)


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_filter_on_behaviour_selects_sample_contacts(seeded_demo: Service, name: str) -> None:
    assert_selective(seeded_demo.client("demo"), json.loads(BEHAVIOUR[name]))
