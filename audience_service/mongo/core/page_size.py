"""Pages limited by bytes."""

from collections.abc import Iterable
from typing import Any

import bson

_MAX_PAGE_BYTES = 768 * 1024

Record = dict[str, Any]


def limit_page_bytes(records: Iterable[Record], size: int) -> tuple[list[Record], Record | None]:
    """Return the first records that together fit one response, and the next record, if any.

    A page has between 1 and `size` records. It takes up to 768 KiB, unless its only record is larger.

    gRPC clients accept 4 MiB by default, and a filter can take four times its stored size on the wire. The function
    reads only one record beyond the page.
    """
    page: list[Record] = []
    total = 0
    for record in records:
        total += len(bson.encode(record))
        if len(page) == size or (page and total > _MAX_PAGE_BYTES):
            return page, record
        page.append(record)
    return page, None
