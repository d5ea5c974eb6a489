"""`audience-service segments edit`: what the user wrote is saved, or kept in a file."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import KEY, Service
from tests.support.client import Client
from tests.support.command import invoke

TEXT = '{"name": "VIPs", "description": "%s", "filter": {"tags": "vip"}}'


@pytest.fixture
def edit(
    service: Service, org: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Edit the description of a segment, with an editor that writes a text and then does something."""
    created = client.create(name="VIPs", filter={"datatype": "contact", "where": {"tags": "vip"}})
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{service.app.port}", "AUDIENCE_JWT_KEY": KEY, "AUDIENCE_ORG": org}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(text: bytes, then: Callable[[], object] = lambda: None) -> Any:
        def editor(*, filename: str) -> None:
            assert isinstance(filename, str)  # older versions of click take no path
            Path(filename).write_bytes(text)
            then()

        monkeypatch.setattr(click, "edit", editor)
        return invoke("segments", "edit", created.id, **settings)

    return run


def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "then", "error"),
    [
        (TEXT % "\\ud800", None, r"the text has \ud800, half of a surrogate pair"),
        (TEXT.encode() % b"\xff", None, "the text is not UTF-8 at byte 33"),
        (TEXT % "new", interrupt, "Aborted!"),
        (TEXT.replace("tags", "$tags"), None, "INVALID_FILTER"),
    ],
    ids=["surrogate", "bytes", "ctrl-c", "refused"],
)
def test_a_text_that_is_not_saved_is_kept(edit: Any, tmp_path: Path, text: Any, then: Any, error: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    failed = edit(content, then or (lambda: None))
    assert (failed.exit_code, error in failed.stderr) == (1, True), failed.stderr
    [path] = re.findall(r"your text is kept in (.*)\n", failed.stderr)
    assert (Path(path).parent, Path(path).read_bytes()) == (tmp_path, content)


def test_a_text_is_kept_if_no_other_file_can_be_written(edit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the working directory nor in the folder for temporary files."""

    def lose_folders() -> None:
        monkeypatch.chdir("/proc")
        monkeypatch.setattr(tempfile, "tempdir", "/proc")

    failed = edit(b"{}", lose_folders)
    [path] = re.findall(r"your text is kept in (.*)\n", failed.stderr)
    assert (failed.exit_code, Path(path).read_bytes()) == (1, b"{}")


def test_no_file_is_left_of_a_text_that_is_saved_or_unchanged(edit: Any, client: Client, tmp_path: Path) -> None:
    """A mark of the byte order, which some editors write, is no part of the text."""
    saved = edit(b"\xef\xbb\xbf" + (TEXT % "new").encode())
    assert saved.exit_code == 0, saved.stderr
    assert [segment.description for segment in client.call("ListSegments").segments] == ["new"]
    unchanged = edit((TEXT % "new").encode())
    assert (unchanged.exit_code, unchanged.stderr) == (0, "no change\n")
    assert list(tmp_path.iterdir()) == []
