"""Which nodes have which name: sorted lines, looked up by bisection."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from audience_service.domain.targeting.bitmap import Bitmap, bitmap


@dataclass(frozen=True, slots=True)
class Matches:
    """The nodes that a query finds, each in the first of the sets that fits it."""

    exact: Bitmap
    """Those with exactly this name."""
    prefix: Bitmap
    """Those with a name that begins so."""
    word_prefix: Bitmap
    """Those with a name in which a later word begins so."""


class NameIndex:
    """An index of folded names.

    A line is a name, a tab and the numbers of the nodes that have it, parted by spaces; lines are in the order of their
    bytes. `names` has whole names, `words` what is left of them from each later word on: of "new york city" also "york
    city" and "city", so that the words of a query are found wherever they stand next to one another.
    """

    def __init__(self, names: bytes, words: bytes, min_cached_lines: int = 256) -> None:
        """The matches of a beginning are cached if they take `min_cached_lines` lines or more."""
        self._names, self._words = _Lines(names, min_cached_lines), _Lines(words, min_cached_lines)

    def find(self, normalised: str) -> Matches:
        """The nodes that a folded query finds."""
        if not normalised:
            return Matches(0, 0, 0)
        exact, prefix = bitmap(self.find_exact(normalised)), self._names.find_prefix(normalised)
        return Matches(exact, prefix & ~exact, self._words.find_prefix(normalised) & ~prefix)

    def find_exact(self, normalised: str) -> set[int]:
        """The numbers of the nodes that have exactly this folded name."""
        return self._names.find_exact(normalised)


class _Lines:
    """Sorted lines, which stay the bytes that they were read as until a query meets them.

    A beginning of a letter or three meets thousands. There are some six hundred such beginnings, so what each finds is
    kept from the first time that it is asked for (3 MB, once all have been).
    """

    def __init__(self, text: bytes, min_cached_lines: int) -> None:
        self._lines = text.splitlines()
        self._min_cached_lines = min_cached_lines
        self._cache: dict[str, Bitmap] = {}

    def find_exact(self, normalised: str) -> set[int]:
        start = normalised.encode() + b"\t"
        at = bisect_left(self._lines, start)
        found = at < len(self._lines) and self._lines[at].startswith(start)
        return set(_numbers(self._lines[at : at + 1])) if found else set()

    def find_prefix(self, normalised: str) -> Bitmap:
        if (cached := self._cache.get(normalised)) is not None:
            return cached
        start = normalised.encode()
        first = bisect_left(self._lines, start)
        # No byte of UTF-8 is as high as FF, so this is the end of what begins so.
        end = bisect_left(self._lines, start + b"\xff", first)
        found = bitmap(_numbers(self._lines[first:end]))
        if end - first >= self._min_cached_lines:
            self._cache[normalised] = found
        return found


def _numbers(lines: Iterable[bytes]) -> Iterable[int]:
    return map(int, b" ".join([line.partition(b"\t")[2] for line in lines]).split())
