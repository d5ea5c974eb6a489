"""Which nodes have which name: sorted lines, looked up by bisection."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matches:
    """The numbers of the nodes that a query finds, each in the first of the sets that fits it."""

    exact: set[int]
    """Those with exactly this name."""
    beginning: set[int]
    """Those with a name that begins so."""
    within: set[int]
    """Those with a name in which a later word begins so."""


class NameIndex:
    """An immutable index of folded names.

    A line is a name, a tab and the numbers of the nodes that have it, parted by spaces; lines are in the order of their
    bytes. `names` has whole names, `words` what is left of them from each later word on: of "new york city" also "york
    city" and "city", so that the words of a query are found wherever they stand next to one another. The lines stay the
    bytes that they were read as: what a query does not touch is never taken apart.
    """

    def __init__(self, names: bytes, words: bytes) -> None:
        self._names, self._words = names.splitlines(), words.splitlines()

    def find(self, folded: str) -> Matches:
        """The nodes that a folded query finds."""
        query = folded.encode()
        exact, beginning = self.named(folded), _numbers(_beginning(self._names, query)) if query else set[int]()
        within = _numbers(_beginning(self._words, query)) if query else set[int]()
        beginning -= exact
        return Matches(exact, beginning, within - beginning - exact)

    def named(self, folded: str) -> set[int]:
        """The nodes that have exactly this folded name."""
        start = folded.encode() + b"\t"
        at = bisect_left(self._names, start)
        found = at < len(self._names) and self._names[at].startswith(start)
        return _numbers((self._names[at],)) if found else set()


def _beginning(lines: list[bytes], query: bytes) -> list[bytes]:
    # No byte of UTF-8 is as high as FF, so this is the end of what begins with the query.
    return lines[bisect_left(lines, query) : bisect_left(lines, query + b"\xff")]


def _numbers(lines: Iterable[bytes]) -> set[int]:
    return set(map(int, b" ".join([line.partition(b"\t")[2] for line in lines]).split()))
