"""Idempotent creation: new ids, and keys that make a creation safe to repeat."""

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
    """The state of background work: the creation of a resource, or its refresh."""

    CREATING = "CREATING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Makes a creation safe to repeat: the caller, the caller's request_id, and a digest of the request."""

    subject: str
    request_id: str
    digest: str


def new_id(prefix: str) -> str:
    """A new id in the platform's form: the prefix and 21 random characters (125 bits)."""
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(21))


def new_list_version_id(audience_id: str) -> str:
    """A new id for the rows of a custom audience's list: the audience's id, a dot and 8 random characters."""
    return f"{audience_id}." + "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


def idempotency_key(ctx: RequestContext, request_id: str, payload: list[Any]) -> IdempotencyKey | None:
    """The key of a creation, None without a request_id; `payload` is everything that the request sets.

    Raises InvalidArgument.
    """
    if not request_id:
        return None
    if len(request_id) > _MAX_REQUEST_ID_LENGTH or not request_id.isprintable():
        limit = _MAX_REQUEST_ID_LENGTH
        raise InvalidArgument.at(
            "request_id", f"is too long or not printable; use at most {limit} printable characters"
        )
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
