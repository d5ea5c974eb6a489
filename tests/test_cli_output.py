"""What commands print and refuse, without a server."""

import errno
import json
import os
from pathlib import Path

import pytest

from audience_service.cli import segments
from audience_service.cli.audiences import AD_PLATFORMS
from audience_service.cli.output import format_filter, print_indented, print_properties, print_table
from audience_service.domain.identifiers.platforms import PLATFORMS
from audience_service.pb.audience.v1.resources_pb2 import Filter
from audience_service.rpc.converters.structs import encode_struct
from tests.support.command import invoke


@pytest.mark.parametrize("forced", [False, True])
def test_a_pipe_gets_each_row_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    """Colours that are forced make a pipe no terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(("name", "text"), [("a", "long " * 1_000), ("b", 2)])
    print_properties([("name", "long " * 1_000)])
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_help_names_every_ad_platform() -> None:
    assert AD_PLATFORMS.replace(" or ", ", ").split(", ") == list(PLATFORMS)
    for command in (("export",), ("sync", "create"), ("lists", "create")):
        assert "thetradedesk" in invoke(*command, "--help").output


def test_two_files_of_a_command_must_differ(tmp_path: Path) -> None:
    """Also under two names. The second would replace the first, or the rows that are uploaded."""
    file, link = tmp_path / "people.csv", tmp_path / "link.csv"
    file.write_text("email\n")
    link.symlink_to(file)
    upload = ("lists", "upload", str(file), "--audience", "a", "--mode", "append")
    for command in (
        ("export", "a", "--platform", "meta", "--since", "s", "--output", str(file), "--removals", str(link)),
        (*upload, "--unmatched", str(link)),
        ("taxonomy", "import", "--platform", "meta", str(file), "--unlinked", str(link)),
        (*upload, "--unmatched", os.fspath(tmp_path / "x"), "--rejected", os.fspath(tmp_path / "." / "x")),
    ):
        refused = invoke(*command, AUDIENCE_ORG="demo")
        assert (refused.exit_code, "are the same file; name two files" in refused.stderr) == (2, True), refused.output
    assert file.read_text() == "email\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("reach", "\udcff"), r"'\udcff' is not UTF-8"),
        (("segments", "show", ""), "the name of a segment is empty"),
        (("reach", "a", "--timeout", "inf"), "inf is not in the range"),
        (("snapshots", "create", "a", "--days", "99999999999"), "is not in the range"),
        (("sync", "acknowledge", "a", "1", "--received", "2147483648"), "is not in the range"),
        (("lists", "upload", "/dev/null", "--audience", "a", "--mode", "append"), "is not a file"),
        (
            ("lists", "upload", __file__, "--audience", "a", "--mode", "append", "--column", "email=0"),
            "the first column is 1",
        ),
    ],
)
def test_an_odd_argument_is_refused(command: tuple[str, ...], expected: str) -> None:
    """Before the server is called, which does not exist."""
    refused = invoke(*command, AUDIENCE_ADDRESS="127.0.0.1:1", AUDIENCE_ORG="demo", AUDIENCE_CLI_TOKEN="token")
    assert (refused.exit_code, expected in refused.stderr) == (2, True), refused.output


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "Error: the output: No space left on device\n"),
        (
            UnicodeEncodeError("latin-1", "\u2588", 0, 1, "x"),
            1,
            r"Error: the output's encoding latin-1 has no '\u2588'",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
    ids=["full", "encoding", "closed"],
)
def test_an_output_that_cannot_be_written_is_a_plain_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int, message: str
) -> None:
    """A program that has read enough, such as `head`, is none."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(segments, "connect", fail)
    failed = invoke("segments", "list", AUDIENCE_ORG="demo")
    assert (failed.exit_code, failed.stderr.startswith(message)) == (exit_code, True), failed.output
    assert message or not failed.stderr


def test_the_filter_to_create_must_be_utf8(tmp_path: Path) -> None:
    file = tmp_path / "filter.json"
    file.write_bytes(b'{"name": "\xff"}')
    token = {"AUDIENCE_ORG": "demo", "AUDIENCE_CLI_TOKEN": "token"}
    refused = invoke("segments", "create", "a", "--file", str(file), AUDIENCE_ADDRESS="127.0.0.1:1", **token)
    assert refused.stderr == f"Error: {file} is not UTF-8 at byte 10\n"


def test_json_is_printed_with_integers_and_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_indented(json.loads(format_filter(Filter(where=encode_struct({"score": 60, "city": "São\x9b"})))))
    assert json.loads(text := capsys.readouterr().out) == {"score": 60, "city": "São\x9b"}
    assert ("60.0" in text, "São" in text, "\x9b" in text) == (False, True, False)
