"""Matching rows to contacts, many at a time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.custom_audiences.errors import NotUploadable
from audience_service.domain.custom_audiences.model import CustomAudience, CustomerMatchSpec, CustomType
from audience_service.domain.identifiers import choose_rules
from audience_service.domain.identifiers.match_keys import EMAIL, PHONE, KeyRule, hashed_rules
from audience_service.domain.uploads.columns import Layout
from audience_service.domain.uploads.model import MAX_CONTACTS_PER_IDENTIFIER
from audience_service.domain.uploads.repository import Contact, IdentifierRepository
from audience_service.domain.uploads.rows import Row, RowReader

_BATCH_SIZE = 5_000
_INDEX_TTL = timedelta(hours=1)

Item = TypeVar("Item")


def matching_rules(audience: CustomAudience) -> Mapping[str, KeyRule]:
    """What the columns of an audience's files are matched by, the id aside, in order. Raises NotUploadable."""
    rules = {"email": EMAIL, "phone": PHONE}
    if audience.type is CustomType.FILE_UPLOAD:
        return rules
    if not isinstance(audience.spec, CustomerMatchSpec):
        raise NotUploadable.of(audience.type)
    spec = audience.spec
    hashed = hashed_rules(choose_rules(spec.platform, spec.rules_version, spec.options, ()))
    return rules | {f"{field}_sha256": rule for field, rule in hashed.items()}


def uploadable_fields(audience: CustomAudience) -> tuple[str, ...]:
    """What the columns of an audience's files may hold, in the order of matching. Raises NotUploadable."""
    return ("id", *matching_rules(audience))


class Matcher:
    """Matches the rows of one audience's files."""

    def __init__(self, identifiers: IdentifierRepository, audience: CustomAudience) -> None:
        self._identifiers = identifiers
        self._datatype = audience.datatype
        self._rules = matching_rules(audience)
        self._prepared: set[KeyRule] = set()
        self._ambiguous = set[str | bytes]()
        """Keys that more contacts have than may; each has a thousand of the org's records, so that they are few."""

    def reader(self, layout: Layout, default_region: str) -> RowReader:
        """What reads rows of a file that is laid out like this."""
        return RowReader(layout, self._rules, self._datatype, default_region)

    def prepare(self, ctx: RequestContext, layout: Layout, checked_at: datetime | None) -> datetime:
        """Bring the index up to date for what a file is matched by, unless that was a short while ago or done here.

        Answers with when it was. Whoever is matched had the identifier then or later.
        """
        timestamp = now()
        if checked_at and timestamp - checked_at < _INDEX_TTL:
            return checked_at
        for rule in (self._rules[field] for field, _ in layout.field_indexes if field in self._rules):
            if rule not in self._prepared:
                self._identifiers.update(ctx.org, self._datatype, rule, ctx.deadline)
                self._prepared.add(rule)
        return timestamp

    def match(self, ctx: RequestContext, rows: Sequence[Row]) -> list[Sequence[Contact] | None]:
        """Whom each row is about: all who have the first of its candidates that anybody has; nobody where none has.

        None for a row that would be about more contacts than one address may have.
        """
        found: list[Sequence[Contact]] = [()] * len(rows)
        pending: Collection[int] = range(len(rows))
        position = 0
        while pending := [index for index in pending if not found[index] and position < len(rows[index].candidates)]:
            known = self._lookup(ctx, {rows[index].candidates[position] for index in pending} - self._ambiguous)
            for index in pending:
                found[index] = known.get(rows[index].candidates[position], ())
            position += 1
        return [
            contacts or (() if self._ambiguous.isdisjoint(row.candidates) else None)
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
