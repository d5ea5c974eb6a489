"""The files of deploy/: valid by their schemas, and consistent with the service."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ruamel.yaml

from audience_service.mongo.core.privileges import missing_privileges, required_privileges
from audience_service.mongo.embedded.store import embedded_store
from audience_service.settings import Settings
from audience_service.wiring.server import build_key_ring
from tests.conftest import run_service
from tests.support.proxy import health
from tests.support.stores import with_methods
from tests.support.waiting import eventually
from tests.test_background import is_serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
YAML = ruamel.yaml.YAML(typ="safe", pure=True)
MANIFESTS = [
    document for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")) for document in YAML.load_all(path)
]
POD = next(each for each in MANIFESTS if each["kind"] == "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: each["kind"])
def test_a_manifest_is_valid_by_the_schema_of_kubernetes(manifest: dict[str, Any]) -> None:
    """Strict: an unknown field is an error."""
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_variables_of_the_manifests_are_settings() -> None:
    """Service links would add variables with the prefix of the settings."""
    names = {f"AUDIENCE_{name.upper()}" for name in Settings.model_fields}
    for each in MANIFESTS:
        if each["kind"] in {"Deployment", "Job"}:
            pod = each["spec"]["template"]["spec"]
            assert {variable["name"] for variable in pod["containers"][0]["env"]} <= names
            assert pod["enableServiceLinks"] is False


def test_a_pod_starts_with_the_keys_of_its_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment had neither a sealing key nor a key of hashes, without which the server ends at once."""
    secret = next(each for each in MANIFESTS if each["kind"] == "Secret")["stringData"]
    for item in POD["volumes"][0]["secret"]["items"]:
        (tmp_path / item["path"]).write_text(secret[item["key"]])
    [container] = POD["containers"]
    folder = container["volumeMounts"][0]["mountPath"]
    for variable in container["env"]:
        name = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
        monkeypatch.setenv(variable["name"], secret[name] if name else variable["value"].replace(folder, str(tmp_path)))
    settings = Settings.load()
    assert settings.sealing_keys()
    assert settings.hash_secret()
    assert settings.hash_key, "without it, nobody can be erased"
    assert build_key_ring(settings)


def test_liveness_is_apart_from_readiness() -> None:
    [container] = POD["containers"]
    assert container["livenessProbe"]["grpc"]["service"] == "liveness"
    assert "service" not in container["readinessProbe"]["grpc"]


def test_a_process_without_its_database_is_alive() -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    store = with_methods(embedded_store([], ("contact",)), find_outage=lambda _: "down")
    for service in run_service("embedded", store):
        assert health(service) != health_pb2.HealthCheckResponse.SERVING
        stub: Any = health_pb2_grpc.HealthStub(service.channel)
        request = health_pb2.HealthCheckRequest(service="liveness")
        assert stub.Check(request, timeout=40).status == health_pb2.HealthCheckResponse.SERVING
        assert probe(service.app.port).returncode != 0


def probe(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-S", str(ROOT / "deploy/health_probe.py")],
        env={**os.environ, "AUDIENCE_LISTEN": f"0.0.0.0:{port}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def cpu_seconds_of_probe(port: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = probe(port)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_health_check_of_the_container_takes_less_than_a_tenth_of_a_second_of_cpu() -> None:
    for service in run_service("embedded", embedded_store([], ("contact",))):
        eventually(lambda: is_serving(service))  # noqa: B023 - called in this iteration
        assert min(cpu_seconds_of_probe(service.app.port) for _ in range(5)) < 0.1, "others may use its processor"
    assert probe(1).returncode != 0


def test_the_image_uses_the_probe_and_compose_starts_with_samples() -> None:
    assert "/health_probe.py" in (ROOT / "Dockerfile").read_text()
    compose = YAML.load(ROOT / "compose.yaml")["services"]
    assert compose["samples"]["command"] == ["seed", "--org", "demo", "--if-empty"]
    assert compose["service"]["depends_on"]["samples"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("exists", ["false", "true"])
def test_the_script_of_the_roles_grants_what_the_service_needs(node: str, exists: str) -> None:
    """It runs in node with a database that records the roles, since no database here has users."""
    database = (
        "const roles = {}; globalThis.db = {"
        f"getName: () => 'crm', getRole: () => {exists}, "
        "createRole: ({role, privileges}) => { roles[role] = privileges; }, "
        "updateRole: (role, {privileges}) => { roles[role] = privileges; }};"
    )
    script = f"{database}\n{(ROOT / 'deploy/mongodb/role.js').read_text()}\nconsole.log(JSON.stringify(roles));"
    done = subprocess.run([node, "-"], input=script, capture_output=True, text=True, timeout=50, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    roles = json.loads(done.stdout)
    settings = Settings()
    required = required_privileges(settings.datatypes, settings.related_datatypes)
    assert missing_privileges(roles["audienceService"], "crm", required) == {}
    creates = {name: ["createIndex", "listIndexes"] for name in required if name}
    assert missing_privileges(roles["audienceIndexes"], "crm", creates) == {}


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_a_shell_script_has_valid_syntax(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=50, check=False)  # noqa: S603, S607
    assert (done.returncode, done.stderr) == (0, "")
