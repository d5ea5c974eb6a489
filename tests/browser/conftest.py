"""A running audience builder on each store in turn, and a browser that shows it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver

from tests.browser.page import Page
from tests.conftest import STORES, URI, mongo_database
from tests.support.command import environment_of, free_port, run

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMEDRIVER = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
CONTACTS = 2_500
_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="session", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The kind of store: `embedded` or `mongodb`."""
    return str(request.param)


@pytest.fixture(scope="session")
def address(store: str) -> Iterator[str]:
    """The address that a running builder prints, with sample contacts."""
    if store == "embedded":
        with run_builder() as printed:
            yield printed
        return
    with mongo_database() as opened:
        opened.close()  # the builder opens its own
        settings = {"AUDIENCE_MONGODB_URI": URI, "AUDIENCE_DATABASE": opened.database.name}
        seeded = run("seed", "--org", "demo", "--count", str(CONTACTS), **settings)
        assert seeded.returncode == 0, seeded.stderr
        with run_builder(**settings) as printed:
            yield printed


@contextmanager
def run_builder(**settings: str) -> Iterator[str]:
    """The address that a running builder prints."""
    ports = [f"--{name}={free_port()}" for name in ("port", "gateway-port", "service-port")]
    command = [sys.executable, "-m", "scripts.builder", *ports]
    with subprocess.Popen(command, env=environment_of(settings), stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout
        try:
            yield next(line.strip() for line in process.stdout if "#" in line)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*_SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[Page]:
    """The page with a new audience. The test must leave no error in the console."""
    page = Page(browser)
    page.resize(1280, 1000)
    page.open(address)
    yield page
    assert page.console_errors() == []
