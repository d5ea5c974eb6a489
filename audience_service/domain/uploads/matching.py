"""Matching rows to contacts, many at a time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.custom.audience import CustomAudience, CustomerMatchSpec, CustomType
from audience_service.domain.custom.errors import NotUploadable
from audience_service.domain.identifiers import choose_rules
from audience_service.domain.identifiers.keys import EMAIL, PHONE, KeyRule, hashed_rules
from audience_service.domain.uploads.columns import Layout
from audience_service.domain.uploads.ports import Contact, IdentifierRepository
from audience_service.domain.uploads.rows import Row, RowReader
from audience_service.domain.uploads.upload import MAX_SHARING

_AT_ONCE = 5_000
_FRESH_FOR = timedelta(hours=1)

Item = TypeVar("Item")


def matching_rules(audience: CustomAudience) -> Mapping[str, KeyRule]:
    """What the columns of an audience's files are matched by, the id aside, in order. Raises NotUploadable."""
    rules = {"email": EMAIL, "phone": PHONE}
    if audience.type is CustomType.FILE_UPLOAD:
        return rules
    if not isinstance(audience.spec, CustomerMatchSpec):
        raise NotUploadable.of(audience.type)
    spec = audience.spec
    hashed = hashed_rules(choose_rules(spec.platform, spec.rules, spec.options, ()))
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
        self._shared = set[str | bytes]()
        """Keys that more contacts have than may; each has a thousand of the org's records, so that they are few."""

    def reader(self, layout: Layout, default_region: str) -> RowReader:
        """What reads rows of a file that is laid out like this."""
        return RowReader(layout, self._rules, self._datatype, default_region)

    def prepare(self, call: Call, layout: Layout, checked_at: datetime | None) -> datetime:
        """Bring the index up to date for what a file is matched by, unless that was a short while ago or done here.

        Answers with when it was. Whoever is matched had the identifier then or later.
        """
        moment = now()
        if checked_at and moment - checked_at < _FRESH_FOR:
            return checked_at
        for rule in (self._rules[field] for field, _ in layout.places if field in self._rules):
            if rule not in self._prepared:
                self._identifiers.update(call.org, self._datatype, rule, call.deadline)
                self._prepared.add(rule)
        return moment

    def match(self, call: Call, rows: Sequence[Row]) -> list[Sequence[Contact] | None]:
        """Whom each row is about: all who have the first of its candidates that anybody has; nobody where none has.

        None for a row that would be about more contacts than one address may have.
        """
        found: list[Sequence[Contact]] = [()] * len(rows)
        waiting: Collection[int] = range(len(rows))
        turn = 0
        while waiting := [index for index in waiting if not found[index] and turn < len(rows[index].candidates)]:
            known = self._look(call, {rows[index].candidates[turn] for index in waiting} - self._shared)
            for index in waiting:
                found[index] = known.get(rows[index].candidates[turn], ())
            turn += 1
        return [
            contacts or (() if self._shared.isdisjoint(row.candidates) else None)
            for contacts, row in zip(found, rows, strict=True)
        ]

    def _look(self, call: Call, candidates: Collection[str | bytes]) -> Mapping[str | bytes, Sequence[Contact]]:
        known: dict[str | bytes, Sequence[Contact]] = {}
        for ids in _chunks([candidate for candidate in candidates if isinstance(candidate, str)]):
            known.update(self._identifiers.find_ids(call.org, self._datatype, ids, call.deadline).items())
        for keys in _chunks([candidate for candidate in candidates if isinstance(candidate, bytes)]):
            for key, contacts in self._identifiers.find(call.org, keys, MAX_SHARING, call.deadline).items():
                if len(contacts) > MAX_SHARING:
                    self._shared.add(key)
                else:
                    known[key] = contacts
        return known


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
