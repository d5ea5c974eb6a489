"""The command line, as a user runs it."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from audience_service.domain.dimensions import DIMENSIONS
from tests.client import Client
from tests.conftest import KEY, URI, Service

BIN = Path(sys.executable).parent
COMMAND = [sys.executable, "-m", "audience_service"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these settings alone."""
    return subprocess.run(  # noqa: S603
        [*COMMAND, *arguments], env=_environment(environment), capture_output=True, text=True, timeout=50, check=False
    )


def _environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    return {**kept, **settings, "PYTHONUNBUFFERED": "1"}


@contextmanager
def serving(**environment: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A served process, its address, and what it printed until it served."""
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, "serve", *(["--dev"] if "AUDIENCE_JWT_KEY" not in environment else [])],
        env=_environment({"AUDIENCE_LISTEN": "127.0.0.1:0", "AUDIENCE_LOG_FORMAT": "json", **environment}),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    printed: list[str] = []
    try:
        for line in process.stderr:
            printed.append(line.strip())
            if '"event": "serving"' in line:
                break
        address = json.loads(printed[-1])["address"]
        yield process, address, printed
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_help_names_every_command() -> None:
    names = "demo health indexes insights lookalike overlap reach seed serve taxonomy token upload"
    assert re.findall(r"^  (\w+)  ", run("--help").stdout, re.M) == names.split()


def test_serve_refuses_to_start_without_a_key() -> None:
    done = run("serve")
    assert done.returncode == 1
    assert "AUDIENCE_JWT_KEY: is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AUDIENCE_MONGODB_URI": "postgres://x"}, "AUDIENCE_MONGODB_URI: Invalid URI scheme"),
        ({"AUDIENCE_MONGODB_URI": "mongodb://x/", "AUDIENCE_DATABASE": "a.b"}, "AUDIENCE_MONGODB_URI"),
        ({"AUDIENCE_JWT_ALGORITHM": "RS256"}, "AUDIENCE_JWT_KEY: does not suit RS256"),
        ({"AUDIENCE_WORKERS": "many"}, "AUDIENCE_WORKERS"),
    ],
)
def test_serve_says_which_setting_is_wrong(settings: dict[str, str], said: str) -> None:
    done = run("serve", **{"AUDIENCE_JWT_KEY": KEY, **settings})
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_serve_in_development_shows_a_token_that_works_and_drains_on_sigterm() -> None:
    with serving() as (process, address, printed):
        token = printed[1]
        with grpc.insecure_channel(address) as channel:
            client = Client(channel, (("authorization", f"Bearer {token}"), ("orgid", "demo")))
            assert client.count(filter={"datatype": "contact", "where": {}}) > 2_000
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_health_tells_whether_the_server_can_answer() -> None:
    with serving() as (_, address, _):
        done = run("health", AUDIENCE_LISTEN=address)
        assert (done.returncode, done.stdout.strip()) == (0, f"{address}: SERVING")
    done = run("health", AUDIENCE_LISTEN=address)
    assert (done.returncode, "UNAVAILABLE" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    away = f"mongodb://127.0.0.1:{_free_port()}/?serverSelectionTimeoutMS=200"
    with serving(AUDIENCE_MONGODB_URI=away, AUDIENCE_JWT_KEY=KEY) as (_, address, _):
        done = run("health", AUDIENCE_LISTEN=address)
        assert (done.returncode, done.stdout.strip()) == (1, f"{address}: NOT_SERVING")


def test_a_taken_port_is_said_plainly() -> None:
    with serving() as (_, address, _):
        done = run("serve", "--dev", AUDIENCE_LISTEN=address)
    assert done.returncode == 1
    assert f"cannot serve on {address}" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_workers_share_the_port(real_service: Service) -> None:
    org = "workers"
    ids = real_service.insert(org, [{} for _ in range(5)])
    port = _free_port()
    with serving(
        AUDIENCE_MONGODB_URI=URI,
        AUDIENCE_DATABASE=real_service.store.database.name,
        AUDIENCE_WORKERS="2",
        AUDIENCE_LISTEN=f"127.0.0.1:{port}",
        AUDIENCE_JWT_KEY=KEY,
    ) as (process, address, _):
        for _ in range(6):
            with grpc.insecure_channel(address) as channel:
                client = Client(channel, real_service.client(org).metadata)
                assert client.members(filter={"datatype": "contact", "where": {}}) == sorted(ids)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_token_prints_what_the_service_accepts(service: Service) -> None:
    done = run("token", "--org", "acme", "--subject", "ann", "--scopes", "audiences.read", AUDIENCE_JWT_KEY=KEY)
    claims: dict[str, Any] = jwt.decode(done.stdout.strip(), KEY, ["HS256"], audience="audience-service", issuer="crm")
    assert (claims["sub"], claims["org"], claims["scope"]) == ("ann", "acme", "audiences.read")
    metadata = (("authorization", f"Bearer {done.stdout.strip()}"), ("orgid", "acme"))
    assert Client(service.channel, metadata).call("ListSegments").total_size == 0
    assert "is none of" in run("token", "--org", "acme", "--scopes", "all", AUDIENCE_JWT_KEY=KEY).stderr


def test_token_says_when_a_public_key_cannot_sign(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    private = ed25519.Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM
    public_pem = private.public_key().public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo)
    private_pem = private.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file = tmp_path / "private.pem"
    key_file.write_bytes(private_pem)
    environment = {"AUDIENCE_JWT_KEY": public_pem.decode(), "AUDIENCE_JWT_ALGORITHM": "EdDSA"}
    assert "--private-key" in run("token", "--org", "acme", **environment).stderr
    signed = run("token", "--org", "acme", "--private-key", str(key_file), **environment).stdout.strip()
    assert jwt.decode(signed, public_pem, ["EdDSA"], audience="audience-service")["org"] == "acme"


def test_seed_and_indexes_fill_a_database(real_service: Service) -> None:
    settings = {"AUDIENCE_MONGODB_URI": URI, "AUDIENCE_DATABASE": real_service.store.database.name}
    done = run("seed", "--org", "seeded", "--count", "120", **settings)
    assert done.returncode == 0, done.stderr
    everyone = {"datatype": "contact", "where": {"state": {"$exists": True}}}
    assert real_service.client("seeded").count(filter=everyone) == 120
    run("indexes", **settings)
    assert "every index is there" in run("indexes", "--check", **settings).stdout
    real_service.store.database["lead"].drop_index("sk_1")
    checked = run("indexes", "--check", **settings)
    assert (checked.returncode, "missing  lead(sk)" in checked.stdout) == (1, True)
    assert "created  lead(sk)" in run("indexes", **settings).stdout


@pytest.mark.parametrize("command", ["seed", "indexes", "taxonomy list"])
def test_commands_on_a_database_need_one(command: str) -> None:
    done = run(*command.split())
    assert (done.returncode, "AUDIENCE_MONGODB_URI: is missing" in done.stderr) == (1, True)


def test_a_database_that_is_away_is_said_plainly() -> None:
    uri = f"mongodb://127.0.0.1:{_free_port()}/?serverSelectionTimeoutMS=200"
    for command in ("seed", "indexes", "taxonomy list"):
        done = run(*command.split(), AUDIENCE_MONGODB_URI=uri)
        assert (done.returncode, "the database cannot be reached" in done.stderr) == (1, True)
        assert "Traceback" not in done.stderr


def test_the_demo_ends_in_agreement() -> None:
    done = run("demo")
    assert done.returncode == 0, done.stderr
    numbers = re.search(r"reach (\d+), members streamed (\d+), total stated (\d+): they agree", done.stdout)
    assert numbers
    assert len(set(numbers.groups())) == 1
    assert int(numbers[1]) > 0
    told = " ".join(done.stdout.split())
    assert "20 of the segment in the file, 20 on the list, 20 of them in the segment: they agree" in told


def modelled(service: Service, client: Client) -> str:
    """The id of a lookalike; of none on the embedded store, which models nothing."""
    if service.kind == "embedded":
        return ""
    org = dict(client.metadata)["orgid"]
    service.insert(org, [{"data": {"vip": n < 120, "city": "Lima" if n % 7 else "Oslo"}} for n in range(500)])
    seed = client.create(name="vips", filter={"datatype": "contact", "where": {"vip": True}})
    size = {"sourceAudienceId": seed.id, "count": 10}
    return str(client.custom(name="like", type="lookalike", lookalike=size).id)


def test_buf_curl_lists_and_calls_every_rpc(service: Service) -> None:
    address = f"http://127.0.0.1:{service.app.port}"
    curl = [str(BIN / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]

    def buf(*arguments: str) -> str:
        done = subprocess.run([*curl, *arguments], capture_output=True, text=True, timeout=50, check=True)  # noqa: S603
        return done.stdout

    methods = [line for line in buf("--list-methods", address).split() if line.startswith("audience.v1.")]
    assert len(methods) == 44
    client = service.client("curl")
    headers = [part for name, value in client.metadata for part in ("-H", f"{name}: {value}")]
    static = client.create(name="static", type="static")
    [contact] = service.insert("curl", [{}])
    everyone = {"filter": {"datatype": "contact", "where": {}}}
    snapshot = client.snapshot(**everyone)
    custom = client.custom(name="custom")
    requests: dict[str, dict[str, Any]] = {
        "CreateSegment": {"segment": {"name": "curled", **everyone}},
        "GetSegment": {"id": static.id},
        "ListSegments": {},
        "UpdateSegment": {"segment": {"id": static.id, "name": "renamed"}, "updateMask": "name"},
        "AddSegmentContacts": {"id": static.id, "contactIds": [contact]},
        "RemoveSegmentContacts": {"id": static.id, "contactIds": ["contact-1"]},
        "ListSegmentContacts": {"id": static.id},
        "ListSegmentVersions": {"id": static.id},
        "RegisterUse": {"use": {"audienceId": static.id, "kind": "campaign", "userId": "spring"}},
        "GetSegmentUsage": {"id": static.id},
        "ReleaseUse": {"audienceId": static.id, "kind": "campaign", "userId": "spring"},
        "RestoreSegment": {"id": static.id, "restoreVersion": 0},
        "ExplainFilter": everyone,
        "ListFields": {"datatype": "contact"},
        "EstimateReach": everyone,
        "StreamReach": everyone,
        "GetInsights": {"id": static.id},
        "StreamMembers": everyone,
        "CheckMembership": {"audienceIds": [static.id], "contactIds": ["contact-1"]},
        "ListAudiencesOfContact": {"contactId": contact},
        "ExplainMembership": {"contactId": contact, **everyone},
        "ExportIdentifiers": {**everyone, "platform": "meta"},
        "GetOverlap": {"id": static.id, "otherId": static.id},
        "GetOverlapRegions": {"audienceIds": [static.id, client.create(name="other", **everyone).id]},
        "DeleteSegment": {"id": static.id},
        "CreateSnapshot": everyone,
        "GetSnapshot": {"id": snapshot.id},
        "ListSnapshots": {},
        "DiffSnapshots": {"fromId": snapshot.id, "toId": snapshot.id},
        "DeleteSnapshot": {"id": snapshot.id},
        "ListInterests": {"query": "rugby"},
        "ListLocations": {"query": "munich"},
        "ListTargetingOptions": {"platform": "google"},
        "CreateCustomAudience": {"customAudience": {"name": "curled", "type": "file_upload"}},
        "GetCustomAudience": {"id": custom.id},
        "ListCustomAudiences": {},
        "RefreshCustomAudience": {"id": custom.id},
        "ListCustomAudienceTypes": {},
        "UploadMembers": {},
        "GetUpload": {"audienceId": custom.id, "uploadId": "curled"},
        "StreamUnmatchedRows": {"audienceId": custom.id},
        "GetLookalikeModel": {"id": modelled(service, client)},
        "DeleteCustomAudience": {"id": custom.id},
    }
    assert {name.rpartition("/")[2] for name in methods} == {*requests, "WatchMembership"}
    paths = {name.rpartition("/")[2]: name for name in methods}
    if service.kind == "embedded":
        del requests["ExplainFilter"]  # it has no plans
        del requests["GetInsights"]  # it refuses that one
        del requests["GetLookalikeModel"]  # it has none
    endless = [*curl, *headers, "-d", json.dumps({"audienceId": static.id}), f"{address}/{paths['WatchMembership']}"]
    with subprocess.Popen(endless, stdout=subprocess.PIPE) as watching:  # noqa: S603
        assert watching.stdout
        assert watching.stdout.read(1) == b"{"
        watching.terminate()
    file = b"email\nann@example.com\n"
    data = {"data": base64.b64encode(file).decode(), "crc32": zlib.crc32(file)}
    header = {"audienceId": custom.id, "uploadId": "curled", "mode": "append"}
    parts = [{"header": header}, {"chunk": data}, {"end": {"size": len(file), "crc32": zlib.crc32(file)}}]
    for rpc, request in requests.items():
        sent = "".join(map(json.dumps, parts)) if rpc == "UploadMembers" else json.dumps(request)
        assert buf(*headers, "-d", sent, f"{address}/{paths[rpc]}").startswith("{"), rpc


def test_insights_draws_a_bar_for_each_bucket(real_service: Service) -> None:
    client = real_service.client("drawn")
    sources = ["website"] * 30 + ["ads"] * 10
    real_service.insert("drawn", [{"data": {"source": source, "score": 50}} for source in sources])
    everyone = client.create(name="everyone", filter={"datatype": "contact", "where": {}})
    settings = {"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_LISTEN": f"127.0.0.1:{real_service.app.port}"}
    done = run("insights", "--org", "drawn", everyone.id, "--dimension", "source", "--dimension", "score", **settings)
    assert done.returncode == 0, done.stderr
    assert re.search(r"website +█+▌? +30 +75\.0% +100\b", done.stdout), done.stdout
    assert "40 members" in done.stdout
    assert "median 50" in done.stdout
    as_json = json.loads(run("insights", "--org", "drawn", everyone.id, "--json", **settings).stdout)
    assert (as_json["count"], len(as_json["dimensions"])) == (40, len(DIMENSIONS))
    missing = run("insights", "--org", "drawn", "segment-none", **settings)
    assert (missing.returncode, "Traceback" in missing.stderr) == (1, False)
    assert "no living audience" in missing.stderr
