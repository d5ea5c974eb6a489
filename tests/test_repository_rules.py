"""Rules of this repository that no tool checks."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = [
    path
    for part in ("audience_service", "bench", "clients", "scripts", "tests")
    for path in (ROOT / part).rglob("*.py")
    if "pb" not in path.parts
]


def test_the_generator_is_the_oldest_grpcio_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [generator] = [item for item in project["dependency-groups"]["dev"] if item.startswith("grpcio-tools==")]
    oldest = ".".join(generator.removeprefix("grpcio-tools==").split(".")[:2])
    dependencies = project["project"]["dependencies"]
    assert f"grpcio>={oldest}" in dependencies
    generated = (ROOT / "audience_service/pb/audience/v1/resources_pb2.py").read_text()
    [runtime] = re.findall(r"# Protobuf Python Version: ([\d.]+)", generated)
    assert f"protobuf>={runtime}" in dependencies


def test_the_client_needs_what_the_service_needs_too() -> None:
    """Both have generated code of one generator."""
    service = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]["dependencies"]
    assert set(client) <= set(service)


def test_locks_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-browser.lock"):
        lines = (ROOT / name).read_text().splitlines()
        pins = [line for line in lines if re.match(r"[a-z]", line)]
        assert len(pins) > 10
        assert all(re.match(r"[a-z0-9.\[\]-]+==", line) for line in pins)
        assert not any("://" in line or "file:" in line for line in lines)
    production = (ROOT / "requirements.lock").read_text()
    assert "mongomock" not in production
    assert "faker" not in production


def test_the_embedded_store_is_an_extra() -> None:
    needed = [line for line in requires("audience-service") or [] if "extra" not in line]
    assert not any("mongomock" in line or "faker" in line for line in needed)


def test_modules_that_start_processes_are_slow() -> None:
    """`make test-fast` starts no process."""
    starts = re.compile(r"^import subprocess$|import .*\b(?:run_server|run)$|gateway: Gate[w]ay", re.M)
    modules = [path for path in (ROOT / "tests").rglob("test_*.py") if starts.search(path.read_text())]
    assert len(modules) > 8
    assert [path.name for path in modules if not re.search("^pytestmark = .*mark.slow", path.read_text(), re.M)] == []


def test_vendored_protos_match_their_package() -> None:
    """Generators of other languages read the protos of googleapis-common-protos from third_party."""
    from importlib.resources import files

    expected = {
        "google.api": ["annotations.proto", "field_behavior.proto", "http.proto"],
        "google.rpc": ["code.proto", "error_details.proto", "status.proto"],
    }
    for package, names in expected.items():
        vendored = ROOT / "third_party/googleapis" / package.replace(".", "/")
        assert sorted(path.name for path in vendored.glob("*.proto")) == names
        for name in names:
            assert (vendored / name).read_text() == (files(package) / name).read_text()


def test_every_proto_names_its_go_package() -> None:
    """protoc-gen-go refuses a file without one."""
    option = 'option go_package = "audience.crm.appengine.internal/go/audience/v1;audiencev1";'
    assert [path.name for path in (ROOT / "protos").rglob("*.proto") if option not in path.read_text()] == []


def test_the_filter_language_is_documented_operator_by_operator() -> None:
    from audience_service.domain.filters.expressions import EXPRESSIONS
    from audience_service.domain.filters.operators import LOGICAL, OPERATORS, RECORD_OPERATORS

    page = (ROOT / "docs/reference/filters.md").read_text()
    for name in (*OPERATORS, *LOGICAL, *RECORD_OPERATORS, *EXPRESSIONS, "$not", "$elemMatch", "$options"):
        assert f"`{name}`" in page, name


def test_the_architecture_page_lists_every_repository() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    ports = re.findall(r"^class (\w+Repository)\(Protocol\)", "\n".join(path.read_text() for path in MODULES), re.M)
    assert ports
    assert [name for name in ports if name not in page] == []


def test_every_module_named_in_docs_and_comments_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "protos").rglob("*.proto"), *MODULES]
    named = {name for page in pages for name in re.findall(r"(?<![\w/.-])[a-z]\w*/[\w/]+\.py\b", page.read_text())}
    roots = [ROOT, ROOT / "audience_service", ROOT / "audience_service/domain", ROOT / "clients/python"]
    assert len(named) > 50
    assert sorted(name for name in named if not any((root / name).exists() for root in roots)) == []
    pages = [page for page in pages if "tests" not in page.relative_to(ROOT).parts]
    bare = {name for page in pages for name in re.findall(r"(?<![\w/.*-])[a-z]\w*\.py\b", page.read_text())}
    assert len(bare) > 20
    assert bare - {path.name for path in MODULES} == set(), "named without their package"


def test_the_packages_of_the_taxonomies_are_documented_in_their_versions_and_licensed() -> None:
    script = "".join(path.read_text() for path in (ROOT / "scripts/taxonomies").glob("*.py"))
    packages = re.findall(r'Package\(\s*"([\w.-]+)",\s*"([\d.]+)"', script)
    page = (ROOT / "docs/reference/taxonomies.md").read_text()
    licenses = {path.stem for path in (ROOT / "audience_service/domain/targeting/data/licenses").iterdir()}
    # An Unlicense asks for no copy of itself, and the package has none.
    unlicensed = {"tiktok-business-api-sdk-official"}
    assert len(packages) == 11
    assert {name for name, _ in packages} - unlicensed == licenses - {"babel-cldr"}
    for name, version in packages:
        assert re.search(rf"^\| {re.escape(name)} \((PyPI|npm)\) \| {re.escape(version)} \|", page, re.M), name
