"""Suppression by subscriber records, which store the consent status of an address on a channel.

An address is a contact's email address or, for text messages, its phone number. The join uses it both as stored and in
normalised form. An email address is normalised by trimming and lower case, a number by removing blanks and punctuation.

If an org has few suppressed addresses, they are read and inlined into the filter, in every form that a record may have:
as stored, and as uploads normalise it. Otherwise each record's addresses are looked up. A lookup finds a subscriber
only by its stored address, so that must be in plain form.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from pymongo.database import Database

from audience_service.domain.audiences.suppression import spellings_of
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.emails import trim
from audience_service.domain.identifiers.phones import e164
from audience_service.mongo.core.collections import SUBSCRIBERS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_match
from audience_service.mongo.query.lookups import lookup_stages, text_values, values_at

_PUNCTUATION = " -()./\t\u00a0\u202f\u2011"
_WITHOUT_PUNCTUATION = str.maketrans("", "", _PUNCTUATION)
_MIN_DIGITS = 7
"""The fewest digits of a number that is also compared with and without a plus."""
_log = structlog.get_logger()
MAX_ADDRESSES = 20_000
READ_TIMEOUT_SECONDS = 0.25
"""Limits of reading a channel's addresses. A few thousand lookups take about the same time."""


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
"""Per channel: the path of the address, which contacts and subscribers share, and its normalisation."""


def subscribers_field(channel: str) -> str:
    """Return the field for the results of `subscriber_lookup_stages`, as {status}."""
    return f"__subscribers_{channel}"


def addresses_field(channel: str) -> str:
    """Return the field for the results of `address_stage`."""
    return f"__address_{channel}"


def address_stage(channel: str) -> Document:
    """Return the stage that computes a record's addresses, as stored and normalised."""
    path, normalise = _ADDRESS_RULES[channel]
    values = values_at(f"${path}")
    stored_and_normalised = {
        "$concatArrays": [values, {"$map": {"input": text_values(values), "in": normalise("$$this")}}]
    }
    # The usual case, in half the time.
    is_text = {"$eq": [{"$type": f"${path}"}, "string"]}
    return {
        "$set": {
            addresses_field(channel): {"$cond": [is_text, [f"${path}", normalise(f"${path}")], stored_and_normalised]}
        }
    }


def read_addresses(
    database: Database[dict[str, Any]], org: str, channel: str, statuses: Sequence[str], deadline: Deadline
) -> dict[str, list[str]] | None:
    """Return the addresses of subscribers with one of the statuses, by status. Archived subscribers are ignored.

    Returns None if there are too many, or if the query takes too long. It also returns None if an address is not a
    string: then the database must compare them. Raises what `with_deadline` raises, except OutOfTime.
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
    unreadable_count = 0
    for row in rows:
        status, address = row.get("status"), row.get("address")
        if address is None:
            continue  # no contact has it
        if not (isinstance(status, str) and isinstance(address, str)):
            return None
        forms, is_readable = _FORMS[channel](address)
        unreadable_count += not is_readable
        found[status.lower()] |= dict.fromkeys(forms)
    if unreadable_count:
        _log.warning("subscriber addresses are not valid", org=org, channel=channel, count=unreadable_count)
    return {status: list(addresses) for status, addresses in found.items()}


def _email_forms(address: str) -> tuple[list[str], bool]:
    """The forms in which a record may have an email address, and whether the address is valid."""
    normalised = trim(address)
    return [address, *filter(None, (address.strip().lower(), normalised))], normalised is not None


def _phone_forms(address: str) -> tuple[list[str], bool]:
    """The forms in which a record may have a number, with and without plus, and whether the number is valid."""
    plain = address.translate(_WITHOUT_PUNCTUATION)
    digits = re.sub(r"^(\+|00)", "", plain)
    normalised = e164(address) or e164(f"+{digits}")
    digits = normalised[1:] if normalised else digits
    forms = [f"+{digits}", digits, f"00{digits}"] if digits.isdecimal() and len(digits) >= _MIN_DIGITS else []
    return [address, *filter(None, (plain, *forms))], normalised is not None


_FORMS: dict[str, Callable[[str], tuple[list[str], bool]]] = {"email": _email_forms, "sms": _phone_forms}


def _status_match(org: str, channel: str, statuses: Sequence[str]) -> Document:
    stored = [spelling for status in statuses for spelling in spellings_of(status)]
    return org_match(org, {"data.channel": channel, "data.status": {"$in": stored}}, NOT_ARCHIVED_MATCH)


def subscriber_lookup_stages(org: str, channel: str, statuses: Sequence[str]) -> list[Document]:
    """Return the stages that join a record with the subscribers of its addresses that have one of the statuses."""
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
                {"$project": {"_id": 0, "status": {"$toLower": "$data.status"}}},
            ],
            "as": subscribers_field(channel),
        },
    )
