"""`audience-service lists upload`, as a user runs it."""

import csv
import errno
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from audience_service.cli import upload as module
from tests.conftest import KEY, Service
from tests.support.client import Client
from tests.support.command import invoke, run
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine

FILE = "E-Mail;note\n" + "".join(f"Person{n}@Example.com;{n}\n" for n in range(5)) + "nobody@example.com;=1+1\nnone;\n"


@pytest.fixture
def environment(service: Service, org: str) -> Any:
    """Run the command about the test's org; it finds the server and the key in its settings."""
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{service.app.port}", "AUDIENCE_JWT_KEY": KEY, "COLUMNS": "100"}
    return lambda *arguments, **more: run("lists", "upload", *arguments, "--org", org, **{**settings, **more})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(FILE)
    return path


def test_upload_publishes_a_file_prints_counts_and_writes_unmatched_rows(
    environment: Any, client: Client, insert: Callable[..., list[str]], file: Path, tmp_path: Path
) -> None:
    insert([{"data": {"email": f"person{n}@example.com"}} for n in range(5)])
    made, left = client.custom(name="list").id, tmp_path / "left.csv"
    command = [str(file), "--audience", made, "--mode", "append", "--delimiter", ";", "--column", "email=e-mail"]
    done = environment(*command, "--unmatched", str(left))
    assert done.returncode == 0, done.stderr
    assert "published: 5 contacts on the list" in done.stdout
    assert "7 rows: 5 matched, 0 duplicate, 1 unmatched, 1 rejected" in done.stdout
    assert "line 8, column E-Mail: is not an email address" in done.stdout
    assert "none" not in done.stdout
    assert list(csv.reader(left.read_text().splitlines())) == [["E-Mail", "note"], ["nobody@example.com", "'=1+1"]]


def test_a_published_file_is_uploaded_again_unless_the_upload_id_is_the_same(
    environment: Any, client: Client, insert: Callable[..., list[str]], tmp_path: Path
) -> None:
    [contact] = insert([{"data": {"email": "ann@example.com"}}])
    made, path = client.custom(name="list").id, tmp_path / "ann.csv"
    path.write_text("email\nann@example.com\n")

    def upload(mode: str, *more: str) -> Any:
        done = environment(str(path), "--audience", made, "--mode", mode, "--json", *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    for mode, on in [("append", [contact]), ("remove", []), ("append", [contact])]:
        assert upload(mode)["listSize"] == len(on)
        assert client.members(audienceId=made) == on
    named = [upload("remove", "--upload-id", "once") for _ in range(2)]
    assert named[0] == named[1]
    assert client.call("GetCustomAudience", {"id": made}).version == 4
    path.write_text("email\nbob@example.com\n")
    done = environment(str(path), "--audience", made, "--mode", "remove", "--upload-id", "once")
    assert (done.returncode, "UPLOAD_REUSED: " in done.stderr) == (1, True)


def test_upload_exits_with_1_and_the_reason_if_publication_fails(
    environment: Any, client: Client, tmp_path: Path
) -> None:
    made, path = client.custom(name="list").id, tmp_path / "bad.csv"
    path.write_bytes(b'email\n"x\n')
    for command, expected in (
        ([str(path), "--audience", made, "--mode", "append"], "INVALID_FILE: "),
        ([str(path), "--audience", f"custom-{'x' * 21}", "--mode", "append"], "AUDIENCE_NOT_FOUND: "),
        ([str(path), "--audience", made, "--mode", "append", "--column", "email"], "--column email"),
    ):
        done = environment(*command)
        assert (done.returncode > 0, expected in done.stderr, "Traceback" in done.stderr) == (True, True, False), (
            done.stderr
        )


def test_upload_resumes_after_a_broken_connection(real_service: Service, tmp_path: Path) -> None:
    org, count = "cliupload", 20_000  # four batches; the connection breaks during the third
    real_service.insert(org, [{"data": {"email": f"person{n}@example.com"}} for n in range(count)])
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "".join(f"person{n}@example.com\n" for n in range(count)))
    client = real_service.client(org)
    made = client.custom(name="list").id
    proxy = BreakingProxy("127.0.0.1", real_service.app.port, 250_000)
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{proxy.port}", "AUDIENCE_JWT_KEY": KEY}
    done = run("lists", "upload", str(path), "--audience", made, "--mode", "append", "--org", org, "--json", **settings)
    proxy.disconnect()
    assert done.returncode == 0, done.stderr
    assert "UNAVAILABLE; resuming in 0.5 s" in done.stderr
    answer = json.loads(done.stdout)
    assert (answer["matchedRowCount"], answer["duplicateRowCount"], answer["listSize"]) == (count, 0, count)


class BreakingProxy(Proxy):
    """A way to the server that breaks once, when so many bytes have passed."""

    def __init__(self, host: str, port: int, after: int) -> None:
        self._left = after
        super().__init__(host, port)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                is_complete, self._left = self._left > 0, self._left - len(data)
                if is_complete and self._left <= 0:
                    for end in (source, sink):
                        end.shutdown(socket.SHUT_RDWR)
                sink.sendall(data)
        sink.close()


def test_the_command_names_the_cause_of_a_refused_replacement_and_writes_rejected_rows(
    environment: Any, client: Client, insert: Callable[..., list[str]], tmp_path: Path
) -> None:
    insert([{"data": {"email": "ann@example.com"}}])
    made, path, rejected = client.custom(name="list").id, tmp_path / "people.tsv", tmp_path / "rejected.csv"
    path.write_text("name\temail\nAnn\tmailto:ann@example.com\n")
    done = environment(str(path), "--audience", made, "--mode", "append", "--delimiter", "\\t")
    assert done.returncode == 0, done.stderr
    assert "1 row cleaned: removed a prefix such as `mailto:`" in done.stdout
    path.write_text("name\temail\nBob\tnobody@example.com\nCyd\tn/a@n/a.n/a\n")
    command = [str(path), "--audience", made, "--mode", "replace", "--rejected", str(rejected)]
    done = environment(*command)
    assert (done.returncode, "set force" in done.stderr) == (1, True)
    [_, row] = csv.reader(rejected.read_text().splitlines())
    assert row[:3] == ["3", "email", "invalid_email_domain"]
    assert len(client.members(audienceId=made)) == 1
    done = environment(*command, "--force")
    assert (done.returncode, "0 contacts on the list" in done.stdout) == (0, True)


def test_files_of_rows_are_complete_or_stay_as_they_were(
    client: Client, service: Service, org: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is published before; what cannot be written is named."""
    made, kept, none = client.custom(name="list").id, tmp_path / "kept.csv", tmp_path / "none" / "rows.csv"
    kept.write_text("old")
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{service.app.port}", "AUDIENCE_JWT_KEY": KEY, "AUDIENCE_ORG": org}
    command = ["lists", "upload", str(file), "--audience", made, "--mode", "append", "--quiet"]

    def fail(_: str) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "escape_formula", fail)
    for option, path, problem in (
        ("--rejected", kept, "No space left on device"),
        ("--rejected", none, "No such file or directory"),
        ("--unmatched", none, "No such file or directory"),
    ):
        failed = invoke(*command, option, str(path), **settings)
        assert (failed.exit_code, failed.stderr) == (1, f"Error: {path} cannot be written: {problem}\n")
        assert "0" in failed.stdout.splitlines(), "among the lines of the server's log"
    assert sorted(tmp_path.iterdir()) == [kept, file]
    assert kept.read_text() == "old"
