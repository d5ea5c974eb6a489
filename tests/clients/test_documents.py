"""The documents of the Python client: generated modules are current, and mypy accepts every snippet."""

import re
from pathlib import Path

import pytest
from mypy import api

from scripts.python_client import PACKAGE, generate

pytestmark = pytest.mark.slow  # runs ruff and mypy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "clients/python/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_generated_modules_are_current() -> None:
    """`make protos` writes them."""
    assert [str(path) for path, text in generate().items() if (PACKAGE / path).read_text() != text] == []


def test_mypy_accepts_every_snippet(tmp_path: Path) -> None:
    """The snippets with the Python client, and the examples, pass `mypy --strict` as a user of the package runs it."""
    files = sorted((ROOT / "clients/python/examples").glob("*.py"))
    for page in PAGES:
        for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)):
            if "audience_client" in snippet:
                files.append(tmp_path / f"{page.parent.name}_{page.stem}_{number}".lower().replace("-", "_"))
                files[-1] = files[-1].with_suffix(".py")
                files[-1].write_text(snippet)
    assert len(files) > 9
    cache = str(ROOT / ".mypy_cache/snippets")
    output, problems, status = api.run(["--strict", "--config-file=", f"--cache-dir={cache}", *map(str, files)])
    assert (output if status else "", problems) == ("", "")
