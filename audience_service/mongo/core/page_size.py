"""How many records fit an answer."""

from collections.abc import Iterable
from typing import Any

import bson

_MAX_PAGE_BYTES = 768 * 1024

Record = dict[str, Any]


def limit_page_bytes(records: Iterable[Record], size: int) -> tuple[list[Record], Record | None]:
    """The first records that fit an answer together, at least one and at most `size`, and the one behind them, if any.

    What a client takes is 4 MiB by default, and a filter can take four times its stored size on the wire. No more is
    read of the records than that.
    """
    page: list[Record] = []
    total = 0
    for record in records:
        total += len(bson.encode(record))
        if len(page) == size or (page and total > _MAX_PAGE_BYTES):
            return page, record
        page.append(record)
    return page, None
