"""An index of nodes by name: sorted lines, searched by bisection."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audience_service.domain.targeting.bitmap import Bitmap, bitmap


@dataclass(frozen=True, slots=True)
class Matches:
    """The nodes that a query finds. Each node is only in the first set that fits."""

    exact: Bitmap
    """Nodes with exactly this name."""
    prefix: Bitmap
    """Nodes with a name that starts with the query."""
    word_prefix: Bitmap
    """Nodes with a name in which the query starts at a later word."""


class NameIndex:
    """An index of normalised names.

    For example, node 7, "New York City", is in these lines (<tab> is a tab):

        names: new york city<tab>7
        words: city<tab>7
               york city<tab>7

    1. A line is a name, a tab and the numbers of its nodes, separated by spaces. Lines are in the order of their bytes.
    2. `names` has complete names. `words` has the rest of each name from every later word on.
    3. So a query finds consecutive words anywhere in a name.
    """

    def __init__(self, names: bytes, words: bytes, min_cached_lines: int = 256) -> None:
        """The matches of a prefix are cached if they take `min_cached_lines` lines or more."""
        self._names, self._words = (SortedLines(lines, min_cached_lines) for lines in (names, words))

    def find(self, normalised: str) -> Matches:
        """The nodes that a normalised query finds."""
        if not normalised:
            return Matches(0, 0, 0)
        exact, prefix = bitmap(self.find_exact(normalised)), self._names.find_prefix(normalised)
        return Matches(exact, prefix & ~exact, self._words.find_prefix(normalised) & ~prefix)

    def find_exact(self, normalised: str) -> set[int]:
        """The numbers of the nodes with exactly this normalised name."""
        return self._names.find_exact(normalised)

    def names(self) -> Iterator[tuple[str, set[int]]]:
        """Every normalised name, and the numbers of its nodes."""
        for line in self._names.lines:
            name, _, numbers = line.partition(b"\t")
            yield name.decode(), set(map(int, numbers.split()))


class SortedLines:
    """Sorted lines, as bytes. Only the lines that a query finds are parsed.

    A prefix of one to three letters finds thousands of lines. There are about 600 such prefixes, so the result of each
    is cached at its first use. All of them take 3 MB.
    """

    def __init__(self, text: bytes, min_cached_lines: int) -> None:
        self.lines = text.splitlines()
        self._min_cached_lines = min_cached_lines
        self._cache: dict[str, Bitmap] = {}

    def find_exact(self, normalised: str) -> set[int]:
        """The numbers in the line with exactly this text."""
        start = normalised.encode() + b"\t"
        at = bisect_left(self.lines, start)
        found = at < len(self.lines) and self.lines[at].startswith(start)
        return set(_numbers(self.lines[at : at + 1])) if found else set()

    def find_prefix(self, normalised: str) -> Bitmap:
        """The numbers in the lines that begin with this text."""
        if (cached := self._cache.get(normalised)) is not None:
            return cached
        start = normalised.encode()
        first = bisect_left(self.lines, start)
        # UTF-8 has no byte FF, so every line with this prefix sorts before `start` + FF.
        end = bisect_left(self.lines, start + b"\xff", first)
        found = bitmap(_numbers(self.lines[first:end]))
        if end - first >= self._min_cached_lines:
            self._cache[normalised] = found
        return found


def _numbers(lines: Iterable[bytes]) -> Iterable[int]:
    return map(int, b" ".join([line.partition(b"\t")[2] for line in lines]).split())
