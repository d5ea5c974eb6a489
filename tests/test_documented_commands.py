"""Each command in README and docs, run as it is written, with ids and files of the test in place of the examples'."""

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from audience_service.gateway.routes import RouteTable
from audience_service.pb.audience.v1.custom_audience_service_pb2 import UploadMembersRequest
from audience_service.rpc.descriptors import SERVICES
from tests.conftest import KEY, SEALING_KEY, URI, Service
from tests.support.client import Client, Refusal
from tests.support.command import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^ {4,}((?:make|call|curl|export|audience-service|pre-commit|git|\.venv/bin/\S+) .*)$", re.M)


class Command(NamedTuple):
    """A command and the page that shows it."""

    page: str
    text: str


def commands() -> Iterator[Command]:
    """Each command of each page, without its comment."""
    for page in PAGES:
        text = re.sub(r"```python.*?```", "", page.read_text(), flags=re.S).replace("\\\n", " ")
        for line in COMMAND.findall(text):
            yield Command(str(page.relative_to(ROOT)), re.sub(r"\s+# .*", "", line).strip())


COMMANDS = list(dict.fromkeys(commands()))
CALLS = [command for command in COMMANDS if command.text.startswith("call ")]
RUNS = [
    command
    for command in COMMANDS
    if re.match(r"(\.venv/bin/)?audience-service (?!serve|gateway)|export TOKEN=\$", command.text)
]
REQUESTS = [command for command in COMMANDS if command.text.startswith("curl ")]


def named(command: Command) -> str:
    return f"{Path(command.page).stem} {command.text[:70]}"


@pytest.fixture
def world(service: Service, org: str, client: Client) -> "World":
    """An org with contacts."""
    return World(service, org, client)


class World:
    """Creates what the ids of an example stand for. Each mention of an id is another one."""

    def __init__(self, service: Service, org: str, client: Client) -> None:
        self.service, self.org, self.client = service, org, client
        people = [{"email": f"p{n}@example.com", "country": "US", "score": n % 100} for n in range(130)]
        tags = [{"tags": ["vip"] if n < 110 else ["lead"]} for n in range(130)]
        self.contacts = service.insert(org, [{"data": {**a, **b}} for a, b in zip(people, tags, strict=True)])
        self._made: defaultdict[str, int] = defaultdict(int)

    def replace(self, text: str, rpc: str) -> str:
        """The text with ids of this org."""
        text = text.replace("demo", self.org)  # before there are ids in it, which may contain that
        text = re.sub(r"contact-…", lambda _: self.contacts[0], text)
        return re.sub(r"(segment|custom|snapshot|sync)-…", lambda match: self._create(match[1], rpc), text)

    def watched(self, audience_id: str) -> str:
        """A time in the history of an audience, which is watched from now on."""
        call = self.client.call("WatchMembership", {"audienceId": audience_id})
        first = next(iter(call))
        call.cancel()
        return str(first.watermark.ToJsonString())

    def _create(self, kind: str, rpc: str) -> str:
        self._made[kind] += 1
        name = f"{kind} {self._made[kind]}"
        if kind == "custom" and rpc.endswith("GetLookalikeModel"):
            return self._lookalike()
        if kind == "custom":
            return str(self.client.custom(name=name).id)
        if kind == "sync":
            sync = {"name": name, "audienceIds": [self._create("segment", "")], "platform": "meta"}
            return str(self.client.call("CreateSync", {"sync": sync}).id)
        if kind == "snapshot":
            return str(self.client.snapshot(audienceId=self._create("segment", "")).id)
        if re.search("SegmentContacts|UndeleteSegment", rpc):
            made = self.client.create(name=name, type="static", contactIds=self.contacts[1:3])
            if "Undelete" in rpc:
                self.client.call("DeleteSegment", {"id": made.id})
            return str(made.id)
        return str(self.client.create(name=name, filter={"datatype": "contact", "where": {"tags": "vip"}}).id)

    def _lookalike(self) -> str:
        if self.service.kind == "embedded":
            return "custom-none"  # the embedded store has no lookalikes
        source = {"sourceAudienceId": self._create("segment", ""), "count": 10}
        made = self.client.custom(name="like", type="lookalike", lookalike={**source, "fields": ["tags"]})
        return str(self.client.settled(made.id).id)


def call(world: World, rpc: str, text: str) -> None:
    """Call an RPC with the request of an example, and read a stream to its end. A watch has none."""
    text = world.replace(text, rpc)
    if rpc.endswith("UploadMembers"):
        decoder, parts = json.JSONDecoder(), []
        while text:
            part, end = decoder.raw_decode(text)
            parts.append(ParseDict(part, UploadMembersRequest()))
            text = text[end:].strip()
        path = "/audience.v1.CustomAudienceService/UploadMembers"
        send: Any = world.client.channel.stream_unary(path, UploadMembersRequest.SerializeToString)
        send(iter(parts), metadata=world.client.metadata, timeout=40)
        return
    request = json.loads(text)
    if "asOf" in request:
        request["asOf"] = world.watched(request["audienceId"])
    if rpc.endswith(("GetUpload", "ListRejectedRows")):
        header = {"audienceId": request["audienceId"], "uploadId": request["uploadId"], "mode": "UPLOAD_MODE_APPEND"}
        file = {"chunk": {"data": "ZW1haWwKYW5uQGV4YW1wbGUuY29tCg==", "crc32": 1704823039}}
        trailer = {"trailer": {"sizeBytes": 22, "crc32": 1704823039}}
        call(world, "UploadMembers", " ".join(map(json.dumps, ({"header": header}, file, trailer))))
    if rpc.endswith("AcknowledgeSyncBatch"):
        list(world.client.call("StreamSyncChanges", {"id": request["id"], "workerId": "w"}))
    answer = world.client.call(rpc.rpartition("/")[2], request)
    if rpc.endswith("WatchMembership"):
        next(iter(answer))
        answer.cancel()
    elif hasattr(answer, "cancel"):
        assert list(answer)


def expect_success(world: World, rpc: str, text: str) -> None:
    """Call an RPC, which only the embedded store may refuse."""
    try:
        call(world, rpc, text)
    except grpc.RpcError as error:
        refusal = Refusal(error)
        reason = "AUDIENCE_NOT_FOUND" if rpc.endswith("GetLookalikeModel") else "UNSUPPORTED_BY_STORE"
        assert (world.service.kind, refusal.info.reason) == ("embedded", reason), str(error)


@pytest.mark.parametrize("command", CALLS, ids=named)
def test_a_documented_call_succeeds(command: Command, world: World) -> None:
    """The shell function `call` is a client of the same contract; test_buf_curl.py runs it."""
    _, rpc, text = shlex.split(command.text)
    expect_success(world, rpc, text)


@pytest.mark.parametrize("command", REQUESTS, ids=named)
def test_a_documented_http_request_is_an_rpc(command: Command, world: World) -> None:
    """The gateway maps the path to an RPC; tests/http runs it, and forms."""
    [path] = re.findall(r"http://127\.0\.0\.1:8080(\S+)", command.text)
    method = RouteTable(SERVICES).find("POST", path.encode())[0].method
    words = shlex.split(command.text)
    assert ("-F" in words) == method.client_streaming
    if "-d" in words:
        expect_success(world, f"{method.containing_service.name}/{method.name}", words[words.index("-d") + 1])


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], str]:
    """The text of a command with files of the test in place of those that it names."""
    exports = ROOT / "tests/data/exports"
    (tmp_path / "people.csv").write_text("email\np1@example.com\nnobody@example.com\n")
    (tmp_path / "geotargets-2026-11-10.csv").write_text((exports / "google.csv").read_text())
    for name in ("countries", "regions", "cities"):
        (tmp_path / f"{name}.json").write_text((exports / "meta_locations.json").read_text())
    (tmp_path / "interests.json").write_text((exports / "meta_interests.json").read_text())
    return lambda text: re.sub(r"[\w-]+\.(?:csv|json)\b", lambda match: str(tmp_path / match[0]), text)


@pytest.mark.parametrize("command", RUNS, ids=named)
def test_a_documented_command_succeeds(command: Command, world: World, files: Callable[[str], str]) -> None:
    """Commands that write to a database run on a MongoDB only."""
    text = command.text.removeprefix("export TOKEN=$(").removesuffix(")")
    _, *arguments = shlex.split(files(world.replace(text, "")))
    settings = {"AUDIENCE_LISTEN": f"127.0.0.1:{world.service.app.port}", "AUDIENCE_JWT_KEY": KEY}
    settings["AUDIENCE_SEALING_KEY"] = SEALING_KEY
    needs_database = arguments[0] in {"erasures", "indexes", "seed", "taxonomy"}
    if needs_database and world.service.kind == "mongodb":
        settings |= {"AUDIENCE_MONGODB_URI": URI, "AUDIENCE_DATABASE": world.service.store.database.name}
    if "remove" in arguments and world.service.kind == "mongodb":
        export = str(ROOT / "tests/data/exports/google.csv")
        run("taxonomy", "import", "--platform", "google", export, **settings)
    done = run(*arguments, **settings)
    if world.service.kind == "embedded" and (needs_database or arguments[0] in {"insights", "lookalike"}):
        assert done.returncode in {1, 78}
        assert re.search("AUDIENCE_MONGODB_URI|embedded store", done.stderr), done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_every_other_command_exists() -> None:
    """Targets of make, programs of .venv, and the settings that are exported."""
    makefile = (ROOT / "Makefile").read_text()
    for page, text in COMMANDS:
        first, *rest = text.split()
        if first == "make":
            targets = [word for word in rest if re.fullmatch(r"[a-z-]+", word)]
            assert [name for name in targets if f"\n{name}:" not in makefile] == [], page
        elif first.startswith(".venv/bin/pytest"):
            assert [word for word in rest if "/" in word and not (ROOT / word).exists()] == [], page
        else:
            known = (*CALLS, *RUNS, *REQUESTS)
            is_known = Command(page, text) in known or first in {"export", "git", "pre-commit"}
            assert is_known or re.match(r"\.venv/bin/(pip install|audience-service (serve|gateway))", text), (
                page,
                text,
            )
