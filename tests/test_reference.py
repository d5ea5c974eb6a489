"""The generated pages of docs/reference."""

import json
from pathlib import Path

import pytest

from audience_service.rpc.descriptors import SERVICES
from scripts.reference import PAGES, generate

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """The pages as `make docs` would write them."""
    return generate()


@pytest.mark.parametrize(
    "name",
    [
        "rpcs.md",
        "messages.md",
        "errors.md",
        "settings.md",
        "metrics.md",
        "command-line.md",
        "operators.md",
        "dimensions.md",
    ],
)
def test_a_generated_page_is_current(generated: dict[str, str], name: str) -> None:
    """If this fails, run `make docs`."""
    assert (PAGES / name).read_text() == generated[name]


def test_no_other_page_claims_to_be_generated(generated: dict[str, str]) -> None:
    claims = {page.name for page in PAGES.glob("*.md") if page.read_text().startswith("<!-- Generated")}
    assert claims == generated.keys()


def test_every_rpc_has_an_example() -> None:
    shown = {rpc for rpc, *_ in json.loads((ROOT / "tests/data/rpc_examples.json").read_text())}
    assert shown == {f"{service.name}/{method.name}" for service in SERVICES for method in service.methods}
