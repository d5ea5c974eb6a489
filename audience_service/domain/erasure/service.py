"""The use case EraseContact.

    find the contacts ──> store a tombstone ──> wait until every process has read it ──> remove ──> report
                              │
                              └── the sweep repeats the removal until no writer from before can still run

1. From the wait on, no query of any process returns the contacts: every scope excludes their sort keys.
2. A call that fails after the tombstone is stored has still erased: the sweep removes, and the call can be repeated.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import phonenumbers

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.erased import ErasedKeys, id_key
from audience_service.domain.core.errors import ErasureNotConfigured, InvalidArgument
from audience_service.domain.core.record import Record
from audience_service.domain.erasure.model import ErasureReport, Person, Tombstone
from audience_service.domain.erasure.repository import ErasureRepository
from audience_service.domain.erasure.sealing import PersonSealer
from audience_service.domain.identifiers.emails import other_forms
from audience_service.domain.identifiers.match_keys import EMAIL, KEY_RULES, PHONE, KeyRule
from audience_service.domain.identifiers.rows import readings_of, region_context_of
from audience_service.domain.uploads.repository import IdentifierRepository

PROPAGATION_SECONDS = 4.0
"""How long EraseContact waits after it stored a tombstone.

Every process reads new tombstones once per second. A read that began before may take up to 3 s, and fails after that.
"""

SWEEP_DURATION = timedelta(hours=3)
"""How long the removal is repeated: longer than an upload, a snapshot or a refresh runs by default."""

_MAX_CONTACTS = 1_000
_ID = r"(?:{})-[A-Za-z0-9_-]{{1,128}}"
"""The ids of the platform's records. A shorter text would be replaced wherever it is a word of a name."""


@dataclass(frozen=True, slots=True)
class ContactSelector:
    """Whom to erase: exactly one of a contact's id, an email address and a phone number with its country code."""

    contact_id: str = ""
    email: str = ""
    phone: str = ""


class Erasures:
    """Erases people."""

    def __init__(
        self,
        erasures: ErasureRepository,
        identifiers: IdentifierRepository,
        datatypes: Sequence[str],
        secret: bytes | None,
        erased: ErasedKeys,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._erasures = erasures
        self._identifiers = identifiers
        self._datatypes = datatypes
        self._secret = secret
        self._erased = erased
        self._wait = wait

    def erase(self, ctx: RequestContext, selector: ContactSelector) -> ErasureReport:
        """Erase the contacts of the selector, also if the platform has deleted them before.

        Raises InvalidArgument, ErasureNotConfigured, StoreUnavailable, OutOfTime.
        """
        if self._secret is None:
            raise ErasureNotConfigured("erasure needs a key that is kept; set AUDIENCE_HASH_KEY")
        record = self._check(selector)
        self._erased.keys(ctx.org)  # it raises if this process has another key than earlier erasures of the org
        ids = [selector.contact_id] if selector.contact_id else self._find_ids(ctx, record)
        records = self._erasures.find_records(ctx.org, self._datatypes, ids, ctx.deadline)
        # Rows may name a contact whose record the platform has deleted.
        sks = tuple(sorted({*(str(found["sk"]) for found in records), *(_sk(ctx.org, name) for name in ids)}))
        sources = [record, *records]
        shared = self._find_shared(ctx, sources, sks)
        name = "\0".join([*sorted(ids), selector.email, selector.phone])
        tombstone_id = hmac.digest(self._secret, name.encode(), "sha256").hex()
        sealer = PersonSealer(self._secret)
        person = _describe(ids, sks, sources, shared)
        if sealed := self._erasures.find_sealed(ctx.org, tombstone_id, ctx.deadline):
            # The platform may have deleted the record since, with the addresses.
            person = person.union(sealer.unseal(sealed))
        erased_at = now()
        tombstone = Tombstone(
            tombstone_id,
            self._keys(ids, sources, shared),
            sealer.seal(person),
            erased_at,
            erased_at + SWEEP_DURATION,
        )
        self._erasures.store(ctx.org, tombstone, ctx.deadline)
        self._wait(PROPAGATION_SECONDS)
        removal = self._erasures.remove(ctx.org, person, erased_at, ctx.deadline)
        remaining = self._erasures.remainders(ctx.org, self._datatypes, person, removal, ctx.deadline)
        return ErasureReport(len(records), removal, len(shared), remaining)

    def _check(self, selector: ContactSelector) -> Record:
        """A record with the address or number of a selector. Raises InvalidArgument."""
        given = [name for name in ("contact_id", "email", "phone") if getattr(selector, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise InvalidArgument.at("contact_id", f"email and phone exclude each other; set exactly one, not {found}")
        if selector.contact_id and not re.fullmatch(_ID.format("|".join(self._datatypes)), selector.contact_id):
            raise InvalidArgument.at("contact_id", "is no id of a contact; write it like contact-1f3870be")
        record: Record = {"data": {name: getattr(selector, name) for name in given if name != "contact_id"}}
        for rule in (EMAIL, PHONE):
            if rule.field in given and not list(_normalised(record, rule)):
                hint = "write it as name@domain" if rule is EMAIL else "write it with + and its country code"
                raise InvalidArgument.at(rule.field, f"is not valid; {hint}")
        return record

    def _rules(self, rules: Sequence[KeyRule]) -> list[KeyRule]:
        assert self._secret is not None  # noqa: S101 - `erase` has checked it
        return [rule.with_secret(self._secret) for rule in rules]

    def _find_ids(self, ctx: RequestContext, record: Record) -> list[str]:
        """The ids of the contacts with an address or number. Raises InvalidArgument if there are too many."""
        found: dict[str, None] = {}
        for datatype in self._datatypes:
            for rule in self._rules([EMAIL, PHONE]):
                if keys := rule.keys_from_record(datatype, record):
                    self._identifiers.update(ctx.org, datatype, rule, ctx.deadline)
                    by_key = self._identifiers.find(ctx.org, keys, _MAX_CONTACTS, ctx.deadline)
                    found.update((contact.pk, None) for contacts in by_key.values() for contact in contacts)
                    # The index has only records that are neither archived nor deleted.
                    paths = rule.record_paths
                    for inactive in self._erasures.find_inactive(ctx.org, datatype, paths, ctx.deadline):
                        if not {*keys}.isdisjoint(rule.keys_from_record(datatype, inactive)):
                            found[str(inactive["pk"])] = None
        if len(found) > _MAX_CONTACTS:
            field = "email" if record["data"].get("email") else "phone"
            raise InvalidArgument.at(
                field,
                f"is that of more than {_MAX_CONTACTS:,} contacts, so it identifies no person; erase by contact_id",
            )
        return list(found)

    def _find_shared(self, ctx: RequestContext, sources: Sequence[Record], sks: Sequence[str]) -> frozenset[str]:
        """The normalised addresses and numbers that contacts other than these also have."""
        shared = set()
        for rule in self._rules([EMAIL, PHONE]):
            values = {value for source in sources for value in _normalised(source, rule)}
            for datatype in self._datatypes if values else ():
                self._identifiers.update(ctx.org, datatype, rule, ctx.deadline)
                keys = {key: value for value in values if (key := rule.key_from_value(datatype, value))}
                found = self._identifiers.find(ctx.org, list(keys), len(sks) + 1, ctx.deadline)
                shared |= {
                    keys[key] for key, contacts in found.items() if any(contact.sk not in sks for contact in contacts)
                }
        return frozenset(shared)

    def _keys(self, ids: Sequence[str], sources: Sequence[Record], shared: frozenset[str]) -> frozenset[bytes]:
        """The keyed hashes of the ids, and of the addresses and numbers in the form of every rule and datatype."""
        assert self._secret is not None  # noqa: S101 - `erase` has checked it
        keys = {id_key(self._secret, contact_id) for contact_id in ids}
        for rule in self._rules(KEY_RULES):
            for source in sources:
                for value in _normalised(source, rule, shared):
                    for datatype in self._datatypes:
                        keys |= {key for form in _forms(rule, value) if (key := rule.key_from_value(datatype, form))}
        return frozenset(keys)


def _sk(org: str, contact_id: str) -> str:
    """The sort key that the platform gives to the record of an id."""
    datatype, _, key = contact_id.partition("-")
    return f"{org}/{datatype}/{key}"


def _normalised(record: Record, rule: KeyRule, shared: frozenset[str] = frozenset()) -> Iterator[str]:
    """The values of a record by a rule, without those that are shared in the form of the plain rule."""
    context = region_context_of(record)
    plain = EMAIL if rule.field == "email" else PHONE
    for reading in readings_of(record, rule.field):
        value = None if reading.problem else rule.normalise(reading.value, context)
        if value and plain.normalise(reading.value, context) not in shared:
            yield value


def _forms(rule: KeyRule, value: str) -> tuple[str, ...]:
    return (value, *(other_forms(value) if rule.field == "email" else ()))


def _describe(ids: Sequence[str], sks: Sequence[str], sources: Sequence[Record], shared: frozenset[str]) -> Person:
    """The person, with every form of their addresses and numbers that a stored value may contain."""
    emails: dict[str, None] = {}
    numbers: dict[str, None] = {}
    digests: dict[str, None] = {}
    for source in sources:
        for rule in KEY_RULES:
            for value in _normalised(source, rule, shared):
                digests.update((hashlib.sha256(form.encode()).hexdigest(), None) for form in _forms(rule, value))
        emails.update((form, None) for value in _normalised(source, EMAIL, shared) for form in _forms(EMAIL, value))
        for value in _normalised(source, PHONE, shared):
            numbers[str(_national(value))] = None
    return Person(tuple(sorted(ids)), tuple(sks), tuple(emails), tuple(numbers), tuple(digests))


def _national(number: str) -> Any:
    """The national number of one in E.164, which everybody who writes it down writes down."""
    return phonenumbers.parse(number, None).national_number
