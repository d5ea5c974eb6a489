"""The pictures of README and docs: `AUDIENCE_TEST_PICTURES=docs/images make test-browser` writes them there."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.page import Page

MAX_BYTES = 150_000
SEGMENTS = {
    "VIPs": ("tags", "vip"),
    "US contacts": ("country", "US"),
    "Newsletter readers": ("tags", "newsletter"),
}

CLIP = """
document.activeElement.blur();
window.scrollTo(0, 0);
const [first, last] = [...arguments].map((css) => document.querySelector(css).getBoundingClientRect());
const [x, y] = [Math.max(0, first.left - 12), Math.max(0, first.top - 12)];
const [right, bottom] = [Math.max(first.right, last.right) + 12, last.bottom + 12];
return { x, y, width: Math.min(innerWidth, right) - x, height: bottom - y, scale: 1 };
"""
"""The part of the page from one element to another, with a margin."""


@pytest.fixture
def take(page: Page, store: str, tmp_path: Path) -> Callable[[str, str, str], None]:
    """A function that takes a picture of a part of the page. In the docs, that of insights is of MongoDB."""
    name = os.environ.get("AUDIENCE_TEST_PICTURES", "")

    def picture(title: str, first: str, last: str) -> None:
        is_in_docs = (title == "insights") == (store == "mongodb")
        path = (Path(name) if name and is_in_docs else tmp_path) / f"{title}.png"
        options = {"clip": page.run(CLIP, first, last), "captureBeyondViewport": True}
        path.write_bytes(base64.b64decode(page.browser.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))
        assert path.stat().st_size < MAX_BYTES

    return picture


def test_the_pictures_show_every_part(page: Page, store: str, take: Callable[[str, str, str], None]) -> None:
    for name, (field, value) in SEGMENTS.items():
        page.choose_field(field)
        page.tick(value)
        page.count()
        page.save(name)
        page.begin()
    page.choose_field("tags")
    page.tick("vip")
    page.button("Add a condition").click()
    page.choose_field("lastEmailOpenedAt")
    page.button("Add a group of conditions").click()
    page.choose_field("score")
    page.all(".condition input[type=number]")[-1].send_keys("40")
    page.all(".group .group .adders button")[0].click()
    page.choose_field("leadStage")
    page.tick("customer")
    page.count()
    page.wait(lambda: "leadStage" in page.text(".description"))
    page.wait(lambda: page.all(".scroll tbody tr"))
    take("builder", ".top", ".edit")
    page.resize(400, 900)
    page.button("Remove the condition on Tags").click()
    page.count()
    take("builder-narrow", ".top", ".edit")
    page.resize(1280, 900)
    page.save("Open to us")
    page.show_tab("Overlap")
    for number, name in enumerate(SEGMENTS, 1):
        page.tick(name)
        if number > 1:
            page.wait_for("svg circle", number)
    take("overlap", ".panels", ".panels")
    if store == "mongodb":
        page.show_tab("Insights")
        page.wait(lambda: page.all(".dimensions table"))
        take("insights", ".panels", ".panels")
