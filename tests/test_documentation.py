"""Links and commands of README and docs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for part in (".github", "clients", "docs") for page in (ROOT / part).rglob("*.md"))]
)


class Link(NamedTuple):
    """A relative link in a page."""

    page: Path
    target: Path
    anchor: str


def links(page: Path) -> Iterator[Link]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    for path, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", text):
        yield Link(page, (page.parent / path).resolve() if path else page, anchor)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = [
        f"{link.target}#{link.anchor}"
        for link in links(page)
        if not link.target.exists() or (link.anchor and link.anchor not in anchors(link.target))
    ]
    assert broken == []


def test_the_index_leads_to_every_page() -> None:
    reached, waiting = set[Path](), [ROOT / "docs/index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting += [link.target for link in links(page) if "docs" in link.target.relative_to(ROOT).parts]
    assert {page for page in PAGES if "docs" in page.relative_to(ROOT).parts} - reached == set()


def test_every_page_that_code_names_exists() -> None:
    sources = [
        path for part in ("audience_service", "protos", "scripts", "bench") for path in (ROOT / part).rglob("*.*")
    ]
    texts = [path.read_text() for path in sources if path.suffix in {".py", ".proto"}]
    named = {name for text in texts for name in re.findall(r"\bdocs/[\w/-]+\.md", text)}
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []
