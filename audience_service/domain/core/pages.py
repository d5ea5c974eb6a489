"""Pages of lists. Every list of the API returns its pages through `TokenCodec.page`.

A repository reads one page after a key, and the token of the next page contains the last key:

    request(size=2)              ──> read(None)  ──> Page(items=[a, b], last_key=[b])  ──> token of [b]
    request(size=2, token of [b]) ──> read([b])  ──> Page(items=[c], last_key=None)    ──> "", the last page
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Converted = TypeVar("Converted")

PageKey = Sequence[Any]
"""JSON values after which a page begins."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page that a caller requests: up to `size` items. `token` is that of the page before, "" for the first page."""

    size: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Items of a list. The next page begins after `last_key`, None on the last page.

    `total` counts the items of all pages; 0 if the list does not count them.
    """

    items: Sequence[Item]
    last_key: PageKey | None
    total: int = 0

    @classmethod
    def cut(cls, items: Sequence[Item], size: int, key: Callable[[Item], Any], total: int) -> "Page[Item]":
        """The first `size` of up to `size + 1` items. The item beyond the page shows that another page follows."""
        page = items[:size]
        return cls(page, [key(page[-1])] if len(items) > size else None, total)

    def map(self, convert: Callable[[Item], Converted]) -> "Page[Converted]":
        """The page with each item converted."""
        return Page(tuple(map(convert, self.items)), self.last_key, self.total)


@dataclass(frozen=True, slots=True)
class ListedPage(Generic[Item]):
    """A page as callers see it. The token is empty on the last page. `total` counts the items of all pages."""

    items: Sequence[Item]
    next_page_token: str
    total: int
