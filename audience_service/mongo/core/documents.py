"""What records of every kind share: their type, and the keys of their unique indexes."""

import json
from typing import Any

from audience_service.domain.core.idempotency import IdempotencyKey

Record = dict[str, Any]


def name_key(org: str, name: str) -> str:
    """Return the key that makes a name unique among the org's records of one kind that are not deleted."""
    return f"{org}/{name}"


def request_key(org: str, key: IdempotencyKey) -> str:
    """Return the key that makes a request id unique per org and caller."""
    return json.dumps([org, key.subject, key.request_id], ensure_ascii=False)
