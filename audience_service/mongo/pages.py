"""Pages through the records of an org, the newest first."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo.collection import Collection

from audience_service.domain.caller import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.mongo.documents import Record
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import scoped
from audience_service.mongo.sizes import within_bytes

_NEWEST_FIRST = [("createdate", -1), ("sk", -1)]


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `last` is the key (date, sk) to go on after, None on the last page; `total` is of all pages."""

    records: Sequence[Record]
    last: tuple[str, str] | None
    total: int


def newest(
    collection: Collection[Record],
    org: str,
    conditions: Sequence[Document],
    size: int,
    after: tuple[str, str] | None,
    deadline: Deadline,
    projection: Document | None = None,
) -> Page:
    """A page of those that meet the conditions. One more is read, to know whether there is another page.

    Raises StoreUnavailable, OutOfTime.
    """
    behind: Document = {}
    if after:
        moment = datetime.fromisoformat(after[0])
        behind = {"$or": [{"createdate": {"$lt": moment}}, {"createdate": moment, "sk": {"$lt": after[1]}}]}
    with limited(collection.database, deadline):
        total = collection.count_documents(scoped(org, *conditions))
        found = collection.find(scoped(org, *conditions, behind), projection, sort=_NEWEST_FIRST, limit=size + 1)
        with contextlib.closing(found) as records:
            page, more = within_bytes(records, size)
    last = (page[-1]["createdate"].astimezone(UTC).isoformat(), page[-1]["sk"]) if more else None
    return Page(page, last, total)
