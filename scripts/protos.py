"""Generate the code of service and Python client from protos/, or check that it is up to date.

    python scripts/protos.py           write the code
    python scripts/protos.py --check   exit with 1 and list the files that differ from the checked-in code

protoc writes imports relative to the root of the protos (`from audience.v1 import ...`). The code is inside the
package, so the script adds the package's prefix to the imports. Descriptors keep the names in the protos.
"""

import argparse
import filecmp
import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTOS, VENDORED = ROOT / "protos", ROOT / "third_party" / "googleapis"
PACKAGES = {
    "audience_service.pb": ROOT / "audience_service" / "pb",
    "audience_client.pb": ROOT / "clients" / "python" / "audience_client" / "pb",
}
"""The packages of generated code, and their directories."""


def generate(package: str, out: Path) -> None:
    """Write the message, service and stub modules of all protos, as modules of `package`, to the directory `out`."""
    out.mkdir(parents=True, exist_ok=True)
    arguments = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
    arguments += [f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")]
    _protoc(*arguments)
    for path in (*out.rglob("*.py"), *out.rglob("*.pyi")):
        text = path.read_text()
        if "_pb2_grpc" in path.name and "_to_server" not in text:
            path.unlink()  # protoc writes an empty module for a proto without a service
            continue
        path.write_text(re.sub(r"^(from|import) audience\b", rf"\1 {package}.audience", text, flags=re.M))
    for folder in {out, *(path.parent for path in out.rglob("*_pb2.py")), out / "audience"}:
        (folder / "__init__.py").write_text('"""Generated from protos/ by `make protos`; never edited."""\n')


def write_descriptors(out: Path, *, with_comments: bool = False) -> None:
    """Write the descriptors of all protos to one file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    options = ["--include_imports", *["--include_source_info"] * with_comments]
    _protoc(f"--descriptor_set_out={out}", *options, "google/rpc/error_details.proto")


def _protoc(*arguments: str) -> None:
    """Run protoc on all protos. Raises SystemExit if it fails."""
    sources = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    roots = [f"-I{root}" for root in (PROTOS, VENDORED, files("grpc_tools") / "_proto")]
    if protoc.main(["protoc", *roots, *arguments, *sources]) != 0:
        sys.exit("protoc failed; see its output above")


def differences(fresh: Path, checked_in: Path) -> list[str]:
    """The relative paths of the files that are missing, superfluous or different in `checked_in`."""

    def names(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.rglob("*.py*") if path.suffix in {".py", ".pyi"}}

    all_names = names(fresh) | names(checked_in)
    return sorted(
        str(name)
        for name in all_names
        if not (fresh / name).exists()
        or not (checked_in / name).exists()
        or not filecmp.cmp(fresh / name, checked_in / name, shallow=False)
    )


def main() -> None:
    """Parse the command line and generate or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    stale_files = []
    for package, out in PACKAGES.items():
        if not arguments.check:
            for stale in out.rglob("*_pb2*"):
                stale.unlink()
            generate(package, out)
            continue
        with tempfile.TemporaryDirectory() as folder:
            generate(package, Path(folder))
            stale_files += [f"{package}: {name}" for name in differences(Path(folder), out)]
    if stale_files:
        sys.exit("generated files are out of date; run `make protos`:\n  " + "\n  ".join(stale_files))


if __name__ == "__main__":
    main()
