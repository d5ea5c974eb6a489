"""Subscriber records, which hold whether an address may be reached on a channel.

An address is a contact's email, or its phone number for text messages. It is looked for as it stands in the contact and
in the plain form that subscriber records have it in: an email trimmed and in lower case, a number without blanks and
punctuation.

Where few subscribers of an org may not be reached, their addresses are read and put into the filter; else each record's
are looked up. Either way by the same equality of the same values.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import SUBSCRIBERS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.lookups import lookup_stages, text_values, values_at

_PUNCTUATION = " -().\u00a0"
MAX_ADDRESSES = 20_000
READ_TIMEOUT_SECONDS = 0.25
"""How many addresses of a channel are read at most, and for how long, which a few thousand looks take as well."""


def _normalise_email(text: str) -> Document:
    return {"$toLower": {"$trim": {"input": text}}}


def _normalise_phone(text: str) -> Any:
    plain: Any = text
    for character in _PUNCTUATION:
        plain = {"$replaceAll": {"input": plain, "find": character, "replacement": ""}}
    return plain


_ADDRESS_RULES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "email": ("data.email", _normalise_email),
    "sms": ("data.phone", _normalise_phone),
}
"""Of each channel, where both a contact and a subscriber have the address, and its plain form."""


def subscribers_field(channel: str) -> str:
    """The field that subscriber_stages put what they find into, as {status}."""
    return f"__subscribers_{channel}"


def addresses_field(channel: str) -> str:
    """The field that address_stage puts a record's addresses into."""
    return f"__address_{channel}"


def address_stage(channel: str) -> Document:
    """What brings the addresses of a record: as it has them, and in plain form."""
    path, normalise = _ADDRESS_RULES[channel]
    values = values_at(f"${path}")
    stored_and_normalised = {
        "$concatArrays": [values, {"$map": {"input": text_values(values), "in": normalise("$$this")}}]
    }
    # As it nearly always is, in half the time.
    is_text = {"$eq": [{"$type": f"${path}"}, "string"]}
    return {
        "$set": {
            addresses_field(channel): {"$cond": [is_text, [f"${path}", normalise(f"${path}")], stored_and_normalised]}
        }
    }


def read_addresses(
    database: Database[dict[str, Any]], org: str, channel: str, statuses: Sequence[str], deadline: Deadline
) -> dict[str, list[str]] | None:
    """The addresses of the subscriber records in use that have one of the statuses, by status.

    None where there are many, where finding them takes long, or where any is not text, which is left to the database to
    compare. Raises what `limited` raises, but OutOfTime.
    """
    path, _ = _ADDRESS_RULES[channel]
    projection = {"_id": 0, "status": "$data.status", "address": f"${path}"}
    limit = MAX_ADDRESSES + 1
    try:
        with with_deadline(database, deadline.min_with(READ_TIMEOUT_SECONDS)):
            match = _status_match(org, channel, statuses)
            rows = list(database[SUBSCRIBERS].find(match, projection, limit=limit, batch_size=limit))
    except OutOfTime:
        return None
    if len(rows) == limit:
        return None
    found: dict[str, dict[str, None]] = {status: {} for status in statuses}
    for row in rows:
        status, address = row.get("status"), row.get("address")
        if address is None:
            continue  # of no contact
        if not (isinstance(status, str) and isinstance(address, str)):
            return None
        found[status][address] = None
    return {status: list(addresses) for status, addresses in found.items()}


def _status_match(org: str, channel: str, statuses: Sequence[str]) -> Document:
    return tenant_match(org, {"data.channel": channel, "data.status": {"$in": list(statuses)}}, NOT_ARCHIVED_MATCH)


def subscriber_lookup_stages(org: str, channel: str, statuses: Sequence[str]) -> list[Document]:
    """The stages that bring the subscriber records in use of a record's address that have one of the statuses."""
    path, _ = _ADDRESS_RULES[channel]
    addresses = addresses_field(channel)
    return lookup_stages(
        addresses,
        address_stage(channel)["$set"][addresses],
        {
            "from": SUBSCRIBERS,
            "localField": addresses,
            "foreignField": path,
            "pipeline": [
                {"$match": _status_match(org, channel, statuses)},
                {"$project": {"_id": 0, "status": "$data.status"}},
            ],
            "as": subscribers_field(channel),
        },
    )
