"""Matches rows to contacts, in batches.

    candidates of a row, in order:   id "contact-1" │ emails ann@x.example, a.b@y.example │ phone +1 415 555 0100
    step 1   look up the candidates of the first field of every row
    step 2   look up those of the second field of every row still without a match, and so on

All contacts with any candidate of the first matching field are the match.

All of them match, because an excluded list must exclude every record of a person. A value that too many contacts have
is a placeholder, such as a switchboard's number, and matches none.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeVar

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.erased import ErasedKeys, id_key
from audience_service.domain.custom_audiences.errors import NotUploadable
from audience_service.domain.custom_audiences.model import CustomAudience, CustomerMatchSpec, CustomType
from audience_service.domain.identifiers import choose_rules
from audience_service.domain.identifiers.match_keys import EMAIL, PHONE, KeyRule, hashed_rules
from audience_service.domain.identifiers.region_context import RegionContext
from audience_service.domain.uploads.columns import ColumnLayout
from audience_service.domain.uploads.model import COUNTRY, MAX_CONTACTS_PER_IDENTIFIER, UploadHeader
from audience_service.domain.uploads.repository import Contact, IdentifierRepository
from audience_service.domain.uploads.rows import Row, RowReader

_BATCH_SIZE = 5_000
_INDEX_TTL = timedelta(hours=1)

Item = TypeVar("Item")


def matching_rules(audience: CustomAudience) -> Mapping[str, KeyRule]:
    """The match keys of an audience's columns except the id, in the order of matching. Raises NotUploadable."""
    rules = {"email": EMAIL, "phone": PHONE}
    if audience.type is CustomType.FILE_UPLOAD:
        return rules
    if not isinstance(audience.spec, CustomerMatchSpec):
        raise NotUploadable.of(audience.type)
    spec = audience.spec
    hashed = hashed_rules(choose_rules(spec.platform, spec.rules_version, spec.options, ()))
    return rules | {f"{field}_sha256": rule for field, rule in hashed.items()}


def uploadable_fields(audience: CustomAudience) -> tuple[str, ...]:
    """The fields that the columns of an audience's files may have, in the order of matching, and the country.

    Raises NotUploadable.
    """
    return ("id", *matching_rules(audience), COUNTRY)


class Matcher:
    """Matches the rows of one audience's files."""

    def __init__(
        self, identifiers: IdentifierRepository, audience: CustomAudience, hash_secret: bytes, erased: ErasedKeys
    ) -> None:
        self._identifiers = identifiers
        self._erased = erased
        self._hash_secret = hash_secret
        self._datatype = audience.datatype
        self._rules = {name: rule.with_secret(hash_secret) for name, rule in matching_rules(audience).items()}
        self._prepared: set[KeyRule] = set()
        self._ambiguous = set[str | bytes]()
        """Keys with too many contacts to match. Each has more than 1,000 of the org's records, so the set is small."""

    def reader(self, layout: ColumnLayout, header: UploadHeader) -> RowReader:
        """A reader for the rows of a file with this layout."""
        default = RegionContext(None, header.default_region or None, header.phones_have_country_code)
        return RowReader(layout, self._rules, self._datatype, default)

    def prepare(self, ctx: RequestContext, layout: ColumnLayout, checked_at: datetime | None) -> datetime:
        """Update the identifier index for the columns of a file, and return the time of the update.

        It is not updated again within an hour, nor twice by one matcher. A matched contact had its identifier at the
        returned time or later.
        """
        timestamp = now()
        if checked_at and timestamp - checked_at < _INDEX_TTL:
            return checked_at
        fields = dict.fromkeys(field for field, _ in layout.field_indexes)
        # A plain column of a customer match can contain hashes as well.
        names = dict.fromkeys(name for field in fields for name in (field, f"{field}_sha256"))
        for rule in (self._rules[name] for name in names if name in self._rules):
            if rule not in self._prepared:
                self._identifiers.update(ctx.org, self._datatype, rule, ctx.deadline)
                self._prepared.add(rule)
        return timestamp

    def is_erased(self, ctx: RequestContext, row: Row) -> bool:
        """Whether a candidate of the row is that of a person who was erased. Raises StoreUnavailable."""
        erased = self._erased.keys(ctx.org)
        return bool(erased) and any(
            (candidate if isinstance(candidate, bytes) else id_key(self._hash_secret, candidate)) in erased
            for candidate in chain.from_iterable(row.candidates)
        )

    def match(self, ctx: RequestContext, rows: Sequence[Row]) -> list[Sequence[Contact] | None]:
        """The contacts of each row: all that have any value of its first field with a match; empty if it has none.

        None for a row whose only matches have too many contacts.
        """
        found: list[Sequence[Contact]] = [()] * len(rows)
        pending: Collection[int] = range(len(rows))
        position = 0
        while pending := [index for index in pending if not found[index] and position < len(rows[index].candidates)]:
            requested = {candidate for index in pending for candidate in rows[index].candidates[position]}
            known = self._lookup(ctx, requested - self._ambiguous)
            for index in pending:
                contacts = (known.get(candidate, ()) for candidate in rows[index].candidates[position])
                found[index] = list(dict.fromkeys(chain.from_iterable(contacts)))
            position += 1
        return [
            contacts or (() if self._ambiguous.isdisjoint(chain.from_iterable(row.candidates)) else None)
            for contacts, row in zip(found, rows, strict=True)
        ]

    def _lookup(
        self, ctx: RequestContext, candidates: Collection[str | bytes]
    ) -> Mapping[str | bytes, Sequence[Contact]]:
        known: dict[str | bytes, Sequence[Contact]] = {}
        for ids in _chunks([candidate for candidate in candidates if isinstance(candidate, str)]):
            known.update(self._identifiers.find_ids(ctx.org, self._datatype, ids, ctx.deadline).items())
        for keys in _chunks([candidate for candidate in candidates if isinstance(candidate, bytes)]):
            for key, contacts in self._identifiers.find(
                ctx.org, keys, MAX_CONTACTS_PER_IDENTIFIER, ctx.deadline
            ).items():
                if len(contacts) > MAX_CONTACTS_PER_IDENTIFIER:
                    self._ambiguous.add(key)
                else:
                    known[key] = contacts
        return known


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]
