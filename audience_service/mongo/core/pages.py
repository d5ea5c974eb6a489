"""Pages of an org's records, newest first."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo.collection import Collection

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.documents import Record
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.page_size import limit_page_bytes
from audience_service.mongo.core.scope import TenantScope

_NEWEST_FIRST = [("createdate", -1), ("sk", -1)]


def newest_page(
    collection: Collection[Record],
    scope: TenantScope,
    org: str,
    conditions: Sequence[Document],
    size: int,
    after: PageKey | None,
    deadline: Deadline,
    projection: Document | None = None,
) -> Page[Record]:
    """Return a page of the org's records that meet the conditions. Its key is (createdate, sk).

    It reads one record more than `size`, which shows whether another page follows.

    Raises StoreUnavailable, OutOfTime.
    """
    after_condition: Document = {}
    if after:
        created_at = datetime.fromisoformat(after[0])
        after_condition = {
            "$or": [{"createdate": {"$lt": created_at}}, {"createdate": created_at, "sk": {"$lt": after[1]}}]
        }
    with with_deadline(collection.database, deadline):
        total = collection.count_documents(scope.match(org, *conditions))
        found = collection.find(
            scope.match(org, *conditions, after_condition), projection, sort=_NEWEST_FIRST, limit=size + 1
        )
        with contextlib.closing(found) as records:
            page, next_record = limit_page_bytes(records, size)
    last_key = (page[-1]["createdate"].astimezone(UTC).isoformat(), page[-1]["sk"]) if next_record else None
    return Page(page, last_key, total)
