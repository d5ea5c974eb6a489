"""The files of the audience builder, examples/builder. tests/browser runs the page in a browser."""

import json
import re
from importlib.resources import files
from pathlib import Path

BUILDER = Path(__file__).parents[2] / "examples/builder"
SCRIPTS = sorted(BUILDER.glob("*.js"))


def test_each_path_that_the_page_calls_is_in_the_openapi_document() -> None:
    paths = json.loads(files("audience_service.gateway").joinpath("openapi.json").read_text())["paths"]
    called = re.findall(r'(\w+): \["([A-Z]+)", "([^"]+)"\]', (BUILDER / "api.js").read_text())
    assert len(called) > 10
    for rpc, verb, path in called:
        assert paths[path][verb.lower()]["operationId"] == rpc


def test_each_rpc_that_the_page_calls_has_a_path() -> None:
    known = set(re.findall(r'(\w+): \["[A-Z]+"', (BUILDER / "api.js").read_text()))
    texts = [script.read_text() for script in SCRIPTS]
    called = {
        rpc for text in texts for rpc in re.findall(r'"((?:Get|List|Create|Update|Stream|Estimate)[A-Z]\w+)"', text)
    }
    assert called
    assert called <= known


def test_each_file_that_a_module_imports_exists() -> None:
    for script in SCRIPTS:
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert (BUILDER / name).is_file(), (script.name, name)


def test_the_page_has_no_token_and_never_writes_html() -> None:
    for path in BUILDER.iterdir():
        text = path.read_text()
        assert "eyJ" not in text, path.name
        assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text) is None, path.name
