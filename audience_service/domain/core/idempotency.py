"""What creations share: new ids, and requests that are safe to repeat."""

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import InvalidArgument, RequestIdReused
from audience_service.domain.core.page_tokens import digest

_MAX_REQUEST_ID_LENGTH = 64
_ID_ALPHABET = string.ascii_letters + string.digits

Record = TypeVar("Record")


class CreationState(StrEnum):
    """How far work in the background is: the creation of a resource, or a refresh of it."""

    CREATING = "CREATING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What makes a creation safe to repeat: the subject's own id for it and a digest of what it asks."""

    subject: str
    request_id: str
    digest: str


def new_id(prefix: str) -> str:
    """As the platform makes ids: the datatype and 21 characters, of which 125 bits are chance."""
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(21))


def new_list_version_id(audience_id: str) -> str:
    """What the rows of a new list of a custom audience carry: its id, a dot and 8 random characters."""
    return f"{audience_id}." + "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


def idempotency_key(ctx: RequestContext, request_id: str, payload: list[Any]) -> IdempotencyKey | None:
    """The request that a creation can be told by, None without a request_id; `asked` is all that it asks for.

    Raises InvalidArgument.
    """
    if not request_id:
        return None
    if len(request_id) > _MAX_REQUEST_ID_LENGTH or not request_id.isprintable():
        raise InvalidArgument.at("request_id", f"has at most {_MAX_REQUEST_ID_LENGTH} printable characters")
    return IdempotencyKey(ctx.caller.subject, request_id, digest(payload))


def find_existing(
    ctx: RequestContext,
    key: IdempotencyKey | None,
    find_by_key: Callable[[str, IdempotencyKey, Deadline], tuple[Record, str] | None],
) -> Record | None:
    """The record that an earlier request with this key created; None if there is none, or no key.

    `find_by_key` returns the record and the digest of that request. Raises RequestIdReused if the digest differs.
    """
    found = find_by_key(ctx.org, key, ctx.deadline) if key else None
    if key is None or found is None:
        return None
    record, stored_digest = found
    if stored_digest != key.digest:
        raise RequestIdReused(
            "this request_id belongs to an earlier request with other content; send a new request_id",
            metadata={"request_id": key.request_id},
        )
    return record
