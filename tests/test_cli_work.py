"""The commands of everyday work, as a user runs them."""

import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from audience_service.cli import main
from audience_service.cli.audiences import CUSTOM_AUDIENCE, SEGMENT, SNAPSHOT, SYNC
from audience_service.domain.core.idempotency import new_id
from audience_service.domain.custom_audiences.model import CUSTOM_PREFIX
from audience_service.domain.segments.model import ID_PREFIX
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX
from audience_service.domain.syncs.model import SYNC_PREFIX
from tests.conftest import KEY, Service
from tests.support.client import Client
from tests.support.command import environment_of, held_port, run
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine

EVERYONE: dict[str, Any] = {"datatype": "contact", "where": {}}

INTERRUPTIBLE = (
    "import signal, audience_service.cli; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "audience_service.cli.main(prog_name='audience-service')"
)
"""The command, in a process that a background job would make ignore Ctrl-C. A `preexec_fn` can stall such a process."""


@pytest.fixture
def settings(service: Service, org: str) -> dict[str, str]:
    """The settings of a connection to the test's server and org."""
    listen = f"127.0.0.1:{service.app.port}"
    return {"AUDIENCE_LISTEN": listen, "AUDIENCE_JWT_KEY": KEY, "AUDIENCE_ORG": org, "COLUMNS": "200"}


@pytest.fixture
def command(settings: dict[str, str]) -> Any:
    """Run a command that must succeed, and return what it prints."""

    def execute(*arguments: str, **more: str) -> str:
        done = run(*arguments, **{**settings, **more})
        assert done.returncode == 0, done.stderr
        return done.stdout

    return execute


@pytest.fixture
def ids(service: Service, org: str) -> list[str]:
    """Three contacts."""
    data = [{"email": "ann@example.com", "score": 7}, {"email": "=1+1", "tags": ["vip"]}, {}]
    return sorted(service.insert(org, [{"data": item} for item in data]))


def test_the_prefixes_of_ids_are_the_domains() -> None:
    """The commands do not import the domain, which takes a third of their start-up."""
    prefixes = [kind.prefix for kind in (SEGMENT, CUSTOM_AUDIENCE, SNAPSHOT, SYNC)]
    assert prefixes == [ID_PREFIX, CUSTOM_PREFIX, SNAPSHOT_PREFIX, SYNC_PREFIX]
    assert SEGMENT.is_id(new_id(ID_PREFIX))
    assert not SEGMENT.is_id("segment-vip")


def test_a_command_starts_without_the_domain_and_the_server() -> None:
    """Start-up takes less than 0.4 s on an idle core; what it imports decides that. Help needs no settings."""
    for name in ("segments", "members", "watch", "export", "reach"):
        loaded = f"import sys, audience_service.cli.{name}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=50, check=True)  # noqa: S603
        heavy = {
            "audience_service.domain.filters",
            "audience_service.rpc.server",
            "pymongo",
            "jwt",
            "pyarrow",
            "phonenumbers",
            "pydantic",
            "rich.progress",
            "audience_service.pb.audience.v1.sync_service_pb2",
        }
        assert heavy.isdisjoint(done.stdout.split()), name


def test_the_list_of_commands_needs_none_of_them() -> None:
    """`--help` and the completion of a shell take the lines that the commands' own help begins with."""
    with click.Context(main) as context:
        found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    own = {name: command.get_short_help_str(200) for name, command in found.items() if command}
    completed = {item.value: item.help for item in main.shell_complete(context, "")}
    assert completed == own
    show = "import sys, audience_service.cli as c; c.main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=50, check=True)  # noqa: S603
    assert "members    Show the members of an audience" in done.stdout
    assert {"grpc", "rich", "pydantic"}.isdisjoint(done.stdout.split())


def editor(folder: Path, old: str, new: str) -> str:
    """An editor that replaces a text."""
    script = folder / "editor.py"
    script.write_text(
        "import pathlib, sys\npath = pathlib.Path(sys.argv[1])\n"
        f"path.write_text(path.read_text().replace({old!r}, {new!r}))"
    )
    return f"{sys.executable} {script}"


def test_a_segment_is_created_listed_edited_and_deleted_by_name(
    command: Any, settings: dict[str, str], ids: list[str], tmp_path: Path
) -> None:
    created = command("segments", "create", "Scored", "--where", '{"score": {"$gt": 5}}', "--quiet").strip()
    assert json.loads(command("segments", "list", "--json"))["id"] == created
    assert re.search(rf"{created} +Scored +dynamic", command("segments", "list"))
    assert '"$gt": 9' in command("segments", "edit", "scored", EDITOR=editor(tmp_path, "5", "9"))
    assert re.search(r"1 .*cli +filter", command("segments", "versions", "Scored"))
    done = run("segments", "edit", created, **settings, EDITOR=editor(tmp_path, "$gt", "$gtt"), TMPDIR=str(tmp_path))
    assert done.returncode == 1, "the server refuses the operator"
    [kept] = tmp_path.glob(f"{created}-*.json")
    assert f"your text is kept in {kept}" in done.stderr
    assert "$gtt" in kept.read_text(), "nothing that was written is lost"
    fixed = command("segments", "create", "Fixed", "--from", "Scored", "--quiet").strip()
    assert "static" in command("segments", "show", fixed)
    assert run("segments", "delete", "Scored", **settings).returncode == 1, "nobody answers the question"
    assert command("segments", "delete", "Scored", "--yes") == f"deleted {created}\n"
    assert command("segments", "list", "--deleted", "--quiet") == f"{created}\n"


def test_an_ambiguous_or_unknown_name_is_refused_with_candidates(
    settings: dict[str, str], client: Client, ids: list[str]
) -> None:
    segment = client.create(name="VIPs", filter=EVERYONE).id
    custom = client.custom(name="VIPs").id
    several = run("reach", "VIPs", **settings)
    assert several.returncode == 1
    assert f"{segment}  segment VIPs" in several.stderr
    assert f"{custom}  custom audience VIPs" in several.stderr
    assert "names that contain it: VIPs" in run("reach", "VIP", **settings).stderr


def test_a_name_can_begin_like_an_id(command: Any, settings: dict[str, str], client: Client, ids: list[str]) -> None:
    made = client.create(name="segment-VIP only", filter=EVERYONE).id
    assert command("reach", "segment-VIP only", "--quiet") == "3\n"
    assert json.loads(command("segments", "show", "segment-VIP only", "--json"))["id"] == made
    unknown = run("segments", "show", "segment-vip", **settings)
    assert "no segment has the id or name segment-vip; names that contain it: segment-VIP only" in unknown.stderr


def test_a_creation_is_repeated_by_its_request_id(command: Any, settings: dict[str, str], ids: list[str]) -> None:
    """A failure that may pass by itself names the id; without one every run creates."""
    command("segments", "create", "all", "--where", "{}")
    create = ["snapshots", "create", "all", "--quiet"]
    first, again = (command(*create, "--request-id", "mine") for _ in range(2))
    assert first == again != command(*create)
    with held_port() as port:
        failed = run("segments", "create", "x", "--where", "{}", **{**settings, "AUDIENCE_LISTEN": f"127.0.0.1:{port}"})
    assert failed.returncode == 75
    assert re.search(r"to repeat it safely, give --request-id cli-\w{32}\n$", failed.stderr)


def test_an_edited_key_that_is_there_twice_is_refused(command: Any, settings: dict[str, str], tmp_path: Path) -> None:
    command("segments", "create", "Scored", "--where", '{"score": {"$gt": 5}}')
    twice = editor(tmp_path, '"$gt": 5', '"$gt": 5, "$gt": 9')
    refused = run("segments", "edit", "Scored", **settings, EDITOR=twice, TMPDIR=str(tmp_path))
    assert (refused.returncode, "the text has the key '$gt' twice" in refused.stderr) == (1, True)


def test_members_go_to_a_table_a_csv_an_ndjson_and_a_parquet_file(
    command: Any, settings: dict[str, str], client: Client, ids: list[str], tmp_path: Path
) -> None:
    """A cell that a spreadsheet would run gets an apostrophe; a refused stream leaves no file."""
    from pyarrow import parquet

    client.create(name="all", filter=EVERYONE)
    fields = ["members", "all", "--field", "email", "--field", "score", "--field", "tags"]
    assert re.search(r"^id +email +score +tags$", command(*fields).splitlines()[0].rstrip())
    paths = [tmp_path / f"members.{suffix}" for suffix in ("csv", "ndjson", "parquet")]
    for path in paths:
        command(*fields, "--output", str(path))
    rows = list(csv.DictReader(paths[0].read_text().splitlines()))
    assert [row["id"] for row in rows] == ids
    assert {(row["email"], row["tags"]) for row in rows} == {("ann@example.com", ""), ("'=1+1", '["vip"]'), ("", "")}
    assert {row["score"] for row in rows} == {"7", ""}, "an integer has no .0"
    assert {json.loads(line)["id"] for line in paths[1].read_text().splitlines()} == set(ids)
    assert sorted(parquet.read_table(paths[2]).column("email").to_pylist(), key=str) == [
        "=1+1",
        None,
        "ann@example.com",
    ]
    one = run("members", "all", "--limit", "1", "--quiet", **settings)
    assert (one.stdout, one.stderr) == (f"{ids[0]}\n", "")
    none = tmp_path / "none.csv"
    assert run("members", "--where", '{"x": {"$no": 1}}', "--output", str(none), **settings).returncode == 1
    assert [path for path in tmp_path.iterdir() if path not in paths] == []
    piped = command("members", "all", "--quiet", "--output", "/dev/stdout", "--format", "csv")
    assert piped.split() == ["id", *ids]


def test_explain_fields_and_check_answer_why(command: Any, client: Client, ids: list[str]) -> None:
    made = client.create(name="scored", filter={"datatype": "contact", "where": {"score": {"$gt": 5}}}).id
    assert "score is more than 5" in command("explain", "scored", "--no-analyze")
    assert re.search(r"score +int +33%", command("fields"))
    [member] = command("members", "scored", "--quiet").split()
    assert command("check", member, "--quiet") == f"{made}\n"
    assert re.search(rf"yes +{made} +scored", command("check", member, "scored"))
    other = next(found for found in ids if found != member)
    why = command("check", other, made, "--why")
    assert f"{other} is not a member of scored" in why
    assert "✗" in why


@pytest.fixture
def watching(
    service: Service, settings: dict[str, str], client: Client, ids: list[str], tmp_path: Path
) -> Iterator[Any]:
    """A watch of the VIPs that has begun, and the file with its position."""
    client.create(name="VIPs", filter={"datatype": "contact", "where": {"tags": "vip"}})
    position = tmp_path / "position"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", INTERRUPTIBLE, "watch", "VIPs", "--position", str(position)],
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process, position
    process.kill()
    process.communicate()


def test_watch_prints_who_enters_and_continues_where_it_ended(
    watching: Any, command: Any, service: Service, ids: list[str], org: str
) -> None:
    process, position = watching
    eventually(position.exists)
    entered = service.insert(org, [{"data": {"tags": ["vip"]}}])
    assert process.stdout.readline().startswith(f"+ {entered[0]}  ")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=40) == 0, process.stderr.read()
    missed = service.insert(org, [{"data": {"tags": ["vip"]}}])
    later = command("watch", "VIPs", "--position", str(position), "--events", "1", "--quiet")
    assert later == f"+ {missed[0]}\n"


def test_snapshots_are_taken_compared_and_deleted(command: Any, service: Service, org: str, ids: list[str]) -> None:
    command("segments", "create", "all", "--where", "{}")
    first = command("snapshots", "create", "all", "--name", "before", "--quiet").strip()
    [entered] = service.insert(org, [{}])
    command("snapshots", "create", "all", "--name", "after")
    assert command("snapshots", "diff", "before", "after") == f"+{entered}\n"
    assert re.search(rf"{first} +before +READY +3 ", command("snapshots", "list", "--audience", "all"))
    assert command("snapshots", "delete", "before", "--yes", "--quiet") == f"{first}\n"


@pytest.mark.usefixtures("real_uri")
@pytest.mark.parametrize("service", ["mongodb"], indirect=True)  # the embedded store has no purposes
def test_export_and_sync_write_what_the_platform_gets(command: Any, ids: list[str], tmp_path: Path) -> None:
    command("segments", "create", "all", "--where", "{}")
    file = tmp_path / "meta.csv"
    assert command("export", "all", "--platform", "meta", "--field", "email", "--output", str(file), "--quiet") == "1\n"
    header, row = csv.reader(file.read_text().splitlines())
    assert (header[0], len(row[0])) == ("EMAIL", 64)
    command("snapshots", "create", "all", "--name", "before")
    later = ("--since", "before", "--removals", str(tmp_path / "removals.csv"))
    assert re.search(r"rows to add +0 ", command("export", "all", "--platform", "meta", "--output", str(file), *later))
    command("sync", "create", "on meta", "--platform", "meta", "--audience", "all", "--field", "email")
    [written] = command("sync", "changes", "on meta", "--directory", str(tmp_path / "new"), "--quiet").split()
    assert re.fullmatch(r"sync-\w+-batch-000001-add\.csv", Path(written).name)
    assert list(csv.reader(Path(written).read_text().splitlines()))[1] == row
    assert re.search(r"sync +sync-\w+ +on meta", command("segments", "usage", "all"))
    assert "acknowledged batch 1" in command("sync", "acknowledge", "on meta", "1", "--received", "1")
    assert command("sync", "changes", "on meta", "--directory", str(tmp_path), "--quiet") == ""
    assert re.search(r"1 +add +1 +1 +0", command("sync", "show", "on meta"))


def test_a_list_is_created_and_uploaded_by_name(command: Any, ids: list[str], tmp_path: Path) -> None:
    command("lists", "create", "fair")
    file = tmp_path / "people.csv"
    file.write_text("email\nann@example.com\n")
    assert command("lists", "upload", str(file), "--audience", "fair", "--mode", "append", "--quiet") == "1\n"
    assert re.search(r"fair +file_upload +1 ", command("lists", "list"))
    assert command("segments", "usage", "fair", "--quiet") == ""
