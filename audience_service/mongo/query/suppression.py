"""Suppression by subscriber records, which store the consent status of an address on a channel.

An address is an email address or, for text messages, a phone number. Every address of a contact counts, at the paths
that exports and uploads read (addresses.py), and in its normal form.

A channel's subscribers are found in one of two ways, which exclude the same records:

1. Up to 20,000 are read, and the normal forms of their addresses are inlined into the filter.
2. Otherwise each record's addresses are looked up by the index. That finds the subscribers whose stored address is in
   normal form. The others, such as `mailto:Ann@X.org`, are unusual: only they are read and inlined.

An org with more unusual addresses gets an error, because it would reach people who unsubscribed.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pymongo.database import Database

from audience_service.domain.audiences.suppression import spellings_of
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidArgument, OutOfTime
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.emails import other_forms, trim
from audience_service.domain.identifiers.phones import e164
from audience_service.domain.identifiers.rows import readings_of, region_context_of
from audience_service.mongo.core.collections import SUBSCRIBERS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.addresses import PLAIN_EMAIL, email_addresses, phone_addresses, plain_phone
from audience_service.mongo.query.lookups import lookup_stages

_log = structlog.get_logger()
MAX_ADDRESSES, MAX_UNUSUAL_ADDRESSES = 20_000, 20_000
"""The most addresses of a channel that are read: all of them, or else the unusual ones."""
READ_TIMEOUT_SECONDS = 0.25
"""The limit of reading all addresses. A few thousand lookups take about the same time."""
_MIN_DIGITS = 7
"""The fewest digits of an invalid number that is also compared with and without a plus."""
_BATCH_SIZE = 5_000


@dataclass(frozen=True, slots=True)
class ChannelAddresses:
    """The addresses of a channel's suppressed subscribers to inline, by status.

    Unless `is_complete`, they are only the unusual ones, and the others are looked up.
    """

    by_status: Mapping[str, Sequence[str]]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class _Channel:
    field: str
    """The field of subscribers, and the identifier of contacts."""
    expression: Callable[[], Document]
    forms: Callable[[Mapping[str, Any]], Iterator[str]]
    """The forms of a subscriber's address, of which one equals an address of each contact that has it."""
    unusual: Callable[[], Document]
    """The match of subscribers whose address is not certainly in normal form."""
    is_plain: Callable[[str], object]
    """Whether the only form of a text is the text itself."""
    example: str

    @property
    def path(self) -> str:
        return f"data.{self.field}"


def _email_forms(record: Mapping[str, Any]) -> Iterator[str]:
    for reading in readings_of(record, "email"):
        email = trim(reading.value)
        if email:
            for form in (email, *other_forms(email)):
                yield from (form, unicodedata.normalize("NFD", form))
    for text in _texts(record["data"]["email"]):
        yield text.strip().lower()


def _phone_forms(record: Mapping[str, Any]) -> Iterator[str]:
    context = region_context_of(record)
    for reading in readings_of(record, "phone"):
        if number := e164(reading.value, context):
            yield number
    for text in _texts(record["data"]["phone"]):
        digits = "".join(char for char in text if char.isdecimal()).removeprefix("00")
        if len(digits) >= _MIN_DIGITS and digits.isascii():
            # Without a country, a number without plus has its country code.
            number = e164(f"+{digits}")
            if number or not context.country:
                yield from (number or f"+{digits}", digits)


def _texts(value: Any) -> list[str]:
    """The text or number of a value, or of a list of values."""
    values = value if isinstance(value, list) else [value]
    return [str(found) for found in values if isinstance(found, str | int) and not isinstance(found, bool)]


def _unusual_email() -> Document:
    return {"$or": [{"data.email": {"$not": {"$regex": PLAIN_EMAIL}}}, {"data.email": {"$type": "array"}}]}


def _unusual_phone() -> Document:
    has_country = {"$or": [{f"data.{path}": {"$nin": [None, ""]}} for path in ("country", "address.country")]}
    return {
        "$or": [
            {"data.phone": {"$not": {"$regex": plain_phone(r"\+?")}}},
            {"data.phone": {"$type": "array"}},
            {"data.phone": {"$regex": "^[0-9]"}, **has_country},
        ]
    }


_CHANNELS = {
    "email": _Channel(
        "email", email_addresses, _email_forms, _unusual_email, re.compile(PLAIN_EMAIL).match, "ann@example.com"
    ),
    "sms": _Channel("phone", phone_addresses, _phone_forms, _unusual_phone, lambda _: False, "+12025550100"),
}


def subscribers_field(channel: str) -> str:
    """Return the field for the results of `subscriber_lookup_stages`, as {status}."""
    return f"__subscribers_{channel}"


def addresses_field(channel: str) -> str:
    """Return the field for the results of `address_stage`."""
    return f"__address_{channel}"


def address_stage(channel: str) -> Document:
    """Return the stage that computes a record's addresses in normal form."""
    return {"$set": {addresses_field(channel): _CHANNELS[channel].expression()}}


def read_addresses(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    channel: str,
    statuses: Sequence[str],
    deadline: Deadline,
    max_bytes: int,
    *,
    unusual_only: bool = False,
) -> ChannelAddresses:
    """Return the addresses of subscribers with one of the statuses: all of them, or only the unusual ones.

    Archived subscribers are ignored. Only the unusual ones are read if all are too many or take too long.

    Raises InvalidArgument at `purpose` if the unusual ones are too many or take more than `max_bytes` of a filter;
    and what `with_deadline` raises.
    """
    if not unusual_only:
        try:
            found = _read(
                database, scope, org, channel, statuses, deadline.min_with(READ_TIMEOUT_SECONDS), MAX_ADDRESSES
            )
        except OutOfTime:
            deadline.check()
            found = None
        if found is not None and _size(found) <= max_bytes:
            return ChannelAddresses(found, is_complete=True)
    unusual_match = _CHANNELS[channel].unusual()
    unusual = _read(database, scope, org, channel, statuses, deadline, MAX_UNUSUAL_ADDRESSES, unusual_match)
    if unusual is None or _size(unusual) > max_bytes:
        example = _CHANNELS[channel].example
        raise InvalidArgument.at(
            "purpose",
            f"cannot be decided: more than {MAX_UNUSUAL_ADDRESSES:,} subscribers on channel {channel} have addresses in"
            f" unusual forms; store them in their normal form, such as {example}",
        )
    return ChannelAddresses(unusual, is_complete=False)


def _read(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    channel: str,
    statuses: Sequence[str],
    deadline: Deadline,
    max_count: int,
    *conditions: Document,
) -> dict[str, list[str]] | None:
    """The addresses by status; None if there are more subscribers than `max_count`."""
    kind = _CHANNELS[channel]
    projection = {"_id": 0, "data.status": 1, kind.path: 1, "data.country": 1, "data.address.country": 1}
    match = _status_match(scope, org, channel, statuses, {kind.path: {"$nin": [None, ""]}}, *conditions)
    limit = max_count + 1
    with with_deadline(database, deadline):
        rows = list(database[SUBSCRIBERS].find(match, projection, limit=limit, batch_size=_BATCH_SIZE))
    if len(rows) == limit:
        return None
    found: dict[str, dict[str, None]] = {status: {} for status in statuses}
    unreadable_count = 0
    for row in rows:
        text = row["data"][kind.field]
        if isinstance(text, str) and kind.is_plain(text):  # performance: most are, and the other forms take 50 us
            forms = {text: None}
        else:
            forms = dict.fromkeys(form for form in kind.forms(row) if form)
            unreadable_count += not any(map(_NORMALISE[channel], forms))
        for status in _texts(row["data"]["status"]):
            if status.lower() in found:
                found[status.lower()] |= forms
    if unreadable_count:
        _log.warning("subscriber addresses are not valid", org=org, channel=channel, count=unreadable_count)
    return {status: list(addresses) for status, addresses in found.items()}


_NORMALISE: dict[str, Callable[[str], str | None]] = {"email": trim, "sms": e164}


def _size(found: Mapping[str, Sequence[str]]) -> int:
    """The bytes that the addresses take in a filter."""
    return sum(14 + len(text.encode()) for texts in found.values() for text in texts)


def _status_match(
    scope: TenantScope, org: str, channel: str, statuses: Sequence[str], *conditions: Document
) -> Document:
    stored = [spelling for status in statuses for spelling in spellings_of(status)]
    return scope.match(org, {"data.channel": channel, "data.status": {"$in": stored}}, NOT_ARCHIVED_MATCH, *conditions)


def subscriber_lookup_stages(scope: TenantScope, org: str, channel: str, statuses: Sequence[str]) -> list[Document]:
    """Return the stages that join a record with the subscribers of its addresses that have one of the statuses.

    They follow `address_stage`. They find the subscribers with addresses in normal form.
    """
    values = f"{addresses_field(channel)}_values"
    status: Document = {"$cond": [{"$isArray": "$data.status"}, "$data.status", ["$data.status"]]}
    texts = {"$filter": {"input": status, "cond": {"$eq": [{"$type": "$$this"}, "string"]}}}
    return lookup_stages(
        values,
        f"${addresses_field(channel)}",
        {
            "from": SUBSCRIBERS,
            "localField": values,
            "foreignField": _CHANNELS[channel].path,
            "pipeline": [
                {"$match": _status_match(scope, org, channel, statuses)},
                {"$project": {"_id": 0, "status": {"$map": {"input": texts, "in": {"$toLower": "$$this"}}}}},
            ],
            "as": subscribers_field(channel),
        },
    )
