"""The command line, as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from audience_service.domain.insights.dimensions import DIMENSIONS
from tests.conftest import KEY, SEALING_KEY, URI, Service
from tests.support.client import Client
from tests.support.command import end_server, free_port, held_port, run, run_server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # a process takes seconds to start on a busy machine


def test_help_names_every_command_and_says_in_a_line_what_it_does() -> None:
    names = (
        "check demo doctor erasures explain export fields gateway health indexes insights lists lookalike members"
        " overlap reach seed segments serve snapshots sync taxonomy token watch"
    )
    shown = run("--help").stdout
    assert re.findall(r"^  (\w+)  ", shown, re.M) == names.split()
    assert not re.findall(r"^  \w+  .*\.\.\.$", shown, re.M), "these are cut"


def test_serve_refuses_to_start_without_a_key() -> None:
    done = run("serve")
    assert done.returncode == 78
    assert "AUDIENCE_JWT_KEY: is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"AUDIENCE_MONGODB_URI": "postgres://x"}, "AUDIENCE_MONGODB_URI: Invalid URI scheme"),
        ({"AUDIENCE_MONGODB_URI": "mongodb://x/", "AUDIENCE_DATABASE": "a.b"}, "AUDIENCE_MONGODB_URI"),
        ({"AUDIENCE_JWT_ALGORITHMS": "RS256"}, "AUDIENCE_JWT_KEY: does not suit RS256"),
        (
            {"AUDIENCE_JWT_ALGORITHMS": "HS512", "AUDIENCE_JWT_KEY": KEY[:40]},
            "AUDIENCE_JWT_KEY: is shorter than 64 bytes",
        ),
        ({"AUDIENCE_JWT_JWKS_URL": "http://issuer/jwks"}, "AUDIENCE_JWT_JWKS_URL: is not an HTTPS URL"),
        ({"AUDIENCE_MONGODB_URI": "mongodb://x/?retrywrite=true"}, "AUDIENCE_MONGODB_URI: Unknown option: retrywrite"),
        ({"AUDIENCE_MONGODB_URI": "mongodb://x:70000/", "AUDIENCE_WORKERS": "2"}, "AUDIENCE_MONGODB_URI: Port must be"),
        ({"AUDIENCE_WORKERS": "many"}, "AUDIENCE_WORKERS"),
        ({"AUDIENCE_SEALING_KEY": ""}, "AUDIENCE_SEALING_KEY: is missing"),
        ({"AUDIENCE_SEALING_KEY": f"{SEALING_KEY},short"}, "AUDIENCE_SEALING_KEY: secret 2 is shorter than 32 bytes"),
    ],
)
def test_serve_names_the_invalid_setting(settings: dict[str, str], expected: str) -> None:
    done = run("serve", **{"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_SEALING_KEY": SEALING_KEY, **settings})
    assert (done.returncode, expected in done.stderr, "Traceback" in done.stderr) == (78, True, False), done.stderr


def test_serve_dev_prints_a_working_token_and_drains_on_sigterm() -> None:
    with run_server() as (process, address, printed):
        token = printed[1]
        with grpc.insecure_channel(address) as channel:
            client = Client(channel, (("authorization", f"Bearer {token}"), ("orgid", "demo")))
            assert client.count(filter={"datatype": "contact", "where": {}}) > 2_000
        end_server(process, printed)


def test_a_command_loads_only_its_own_modules() -> None:
    loaded = "import sys, audience_service.cli.health; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=50, check=True)  # noqa: S603
    assert {"audience_service.app", "audience_service.cli.serve", "pymongo", "rich"}.isdisjoint(done.stdout.split())


def test_health_reports_whether_the_server_can_answer() -> None:
    with run_server() as (_, address, _):
        eventually(lambda: run("health", AUDIENCE_LISTEN=address).returncode == 0)  # after its first check
        assert run("health", AUDIENCE_LISTEN=address).stdout.strip() == f"{address}: SERVING"
    with held_port() as closed:
        done = run("health", AUDIENCE_LISTEN=f"127.0.0.1:{closed}")
        assert (done.returncode, "UNAVAILABLE" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
        unreachable_uri = f"mongodb://127.0.0.1:{closed}/?serverSelectionTimeoutMS=200"
        with run_server(AUDIENCE_MONGODB_URI=unreachable_uri, AUDIENCE_JWT_KEY=KEY) as (_, address, _):
            done = run("health", AUDIENCE_LISTEN=address)
            assert (done.returncode, done.stdout.strip()) == (1, f"{address}: NOT_SERVING")


def test_a_port_in_use_is_a_plain_error() -> None:
    with run_server() as (_, address, _):
        done = run("serve", "--dev", AUDIENCE_LISTEN=address)
    assert done.returncode == 1
    assert f"cannot serve on {address}" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_workers_share_the_port(real_service: Service) -> None:
    org = "workers"
    ids = real_service.insert(org, [{} for _ in range(5)])
    with run_server(
        AUDIENCE_MONGODB_URI=URI,
        AUDIENCE_DATABASE=real_service.store.database.name,
        AUDIENCE_WORKERS="2",
        AUDIENCE_LISTEN=f"127.0.0.1:{free_port()}",
        AUDIENCE_JWT_KEY=KEY,
    ) as (process, address, printed):
        for _ in range(6):
            with grpc.insecure_channel(address) as channel:
                client = Client(channel, real_service.client(org).metadata)
                assert client.members(filter={"datatype": "contact", "where": {}}) == sorted(ids)
        end_server(process, printed)


def test_token_prints_what_the_service_accepts(service: Service) -> None:
    done = run("token", "--org", "acme", "--subject", "ann", "--scopes", "audiences.read", AUDIENCE_JWT_KEY=KEY)
    claims: dict[str, Any] = jwt.decode(done.stdout.strip(), KEY, ["HS256"], audience="audience-service", issuer="crm")
    assert (claims["sub"], claims["org"], claims["scope"]) == ("ann", "acme", "audiences.read")
    metadata = (("authorization", f"Bearer {done.stdout.strip()}"), ("orgid", "acme"))
    assert Client(service.channel, metadata).call("ListSegments").total_size == 0
    assert "is not a scope" in run("token", "--org", "acme", "--scopes", "all", AUDIENCE_JWT_KEY=KEY).stderr


def test_token_says_when_a_public_key_cannot_sign(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    private = ed25519.Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM
    public_pem = private.public_key().public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo)
    private_pem = private.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file = tmp_path / "private.pem"
    key_file.write_bytes(private_pem)
    public_file = tmp_path / "public.pem"
    public_file.write_bytes(public_pem)
    environment = {"AUDIENCE_JWT_KEY_FILE": f"2026-11={public_file}", "AUDIENCE_JWT_ALGORITHMS": "RS256,EdDSA"}
    assert "--private-key" in run("token", "--org", "acme", **environment).stderr
    signed = run("token", "--org", "acme", "--private-key", str(key_file), **environment).stdout.strip()
    assert jwt.decode(signed, public_pem, ["EdDSA"], audience="audience-service")["org"] == "acme"
    assert jwt.get_unverified_header(signed)["kid"] == "2026-11"


def test_seed_and_indexes_fill_a_database(real_service: Service) -> None:
    settings = {"AUDIENCE_MONGODB_URI": URI, "AUDIENCE_DATABASE": real_service.store.database.name}
    done = run("seed", "--org", "seeded", "--count", "120", **settings)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "120/120" in done.stderr
    all_contacts = {"datatype": "contact", "where": {"state": {"$in": ["new", "active", "archived", "deleted"]}}}
    assert real_service.client("seeded").count(filter=all_contacts) == 120
    made = run("indexes", COLUMNS="40", **settings).stdout.splitlines()
    assert made
    assert all(line.startswith("created  ") for line in made), "one line per index, even in a narrow terminal"
    assert "all indexes exist" in run("indexes", "--check", **settings).stdout
    real_service.store.database["lead"].drop_index("sk_1")
    checked = run("indexes", "--check", **settings)
    assert (checked.returncode, "missing  lead(sk)" in checked.stdout) == (1, True)
    assert "created  lead(sk)" in run("indexes", **settings).stdout


@pytest.mark.parametrize("command", ["seed", "indexes", "taxonomy list"])
def test_commands_on_a_database_need_one(command: str) -> None:
    done = run(*command.split())
    assert (done.returncode, "AUDIENCE_MONGODB_URI: is missing" in done.stderr) == (78, True)


def test_an_unreachable_database_is_a_plain_error() -> None:
    with held_port() as closed:
        uri = f"mongodb://127.0.0.1:{closed}/?serverSelectionTimeoutMS=200"
        for command in ("seed", "indexes", "taxonomy list"):
            done = run(*command.split(), AUDIENCE_MONGODB_URI=uri)
            assert (done.returncode, "the database cannot be reached" in done.stderr) == (1, True)
            assert "Traceback" not in done.stderr


def test_the_demo_ends_in_agreement() -> None:
    done = run("demo")
    assert done.returncode == 0, done.stderr
    numbers = re.search(r"reach (\d+), members streamed (\d+), total (\d+): they agree", done.stdout)
    assert numbers
    assert len(set(numbers.groups())) == 1
    assert int(numbers[1]) > 0
    output = " ".join(done.stdout.split())
    assert "segment members in the file 20, contacts on the list 20, overlap with the segment 20: they agree" in output


def test_insights_draws_a_bar_for_each_bucket(real_service: Service) -> None:
    client = real_service.client("drawn")
    sources = ["website"] * 30 + ["ads"] * 10
    real_service.insert("drawn", [{"data": {"source": source, "score": 50}} for source in sources])
    all_contacts = client.create(name="everyone", filter={"datatype": "contact", "where": {}})
    settings = {"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_LISTEN": f"127.0.0.1:{real_service.app.port}"}
    done = run(
        "insights", "--org", "drawn", all_contacts.id, "--dimension", "source", "--dimension", "score", **settings
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"website +█+▌? +30 +75\.0% +100\b", done.stdout), done.stdout
    assert "40 members" in done.stdout
    assert "median 50" in done.stdout
    as_json = json.loads(run("insights", "--org", "drawn", all_contacts.id, "--json", **settings).stdout)
    assert (as_json["count"], len(as_json["dimensions"])) == (40, len(DIMENSIONS))
    missing = run("insights", "--org", "drawn", f"segment-{'x' * 21}", **settings)
    assert (missing.returncode, "Traceback" in missing.stderr) == (1, False)
    assert "no audience" in missing.stderr
