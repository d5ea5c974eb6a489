"""Subscriber records, which hold whether an address may be reached on a channel.

An address is a contact's email, or its phone number for text messages. It is looked for as it stands in the contact and
in the plain form that subscriber records have it in: an email trimmed and in lower case, a number without blanks and
punctuation.
"""

from collections.abc import Callable, Sequence
from typing import Any

from audience_service.domain.filters.compile import LIVING
from audience_service.domain.filters.filter import Document
from audience_service.mongo.collections import SUBSCRIBERS
from audience_service.mongo.lookups import looked_up_by, texts_of, values_at
from audience_service.mongo.scope import scoped

_PUNCTUATION = " -().\u00a0"


def _plain_email(text: str) -> Document:
    return {"$toLower": {"$trim": {"input": text}}}


def _plain_number(text: str) -> Any:
    plain: Any = text
    for character in _PUNCTUATION:
        plain = {"$replaceAll": {"input": plain, "find": character, "replacement": ""}}
    return plain


_ADDRESSES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "email": ("data.email", _plain_email),
    "sms": ("data.phone", _plain_number),
}
"""Of each channel, where both a contact and a subscriber have the address, and its plain form."""


def found_subscribers(channel: str) -> str:
    """The field that subscriber_stages put what they find into, as {status}."""
    return f"__subscribers_{channel}"


def subscriber_stages(org: str, channel: str, statuses: Sequence[str]) -> list[Document]:
    """The stages that bring the subscriber records in use of a record's address that have one of the statuses."""
    path, plain = _ADDRESSES[channel]
    match = scoped(org, {"data.channel": channel, "data.status": {"$in": list(statuses)}}, LIVING)
    values = values_at(f"${path}")
    both = {"$concatArrays": [values, {"$map": {"input": texts_of(values), "in": plain("$$this")}}]}
    return looked_up_by(
        f"__address_{channel}",
        both,
        {
            "from": SUBSCRIBERS,
            "localField": f"__address_{channel}",
            "foreignField": path,
            "pipeline": [{"$match": match}, {"$project": {"_id": 0, "status": "$data.status"}}],
            "as": found_subscribers(channel),
        },
    )
