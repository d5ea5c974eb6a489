"""Keys: every way in which a platform may be sent an address has one, and records and hashes meet in it."""

import hashlib
import itertools
from typing import Any

import pytest

from audience_service.domain.identifiers.match_keys import EMAIL, KEY_RULES, KeyRule, hashed_rules
from audience_service.domain.identifiers.platforms import PLATFORM_RULES
from audience_service.domain.identifiers.rows import IdentifierExtractor
from audience_service.domain.identifiers.rules import PlatformRules

HASHING_RULES = [rules for rules in PLATFORM_RULES if any(rule.hashed for rule in rules.fields)]
RECORD = {"data": {"email": " Do.T+x@gmail.com", "phone": "(415) 555-2671", "country": "US"}}


@pytest.mark.parametrize("rules", HASHING_RULES, ids=[rules.version for rules in HASHING_RULES])
def test_exported_identifiers_match_the_record_on_upload(rules: PlatformRules) -> None:
    for choices in itertools.product(*(option.choices for option in rules.options)):
        chosen = rules.with_options(dict(zip((option.name for option in rules.options), choices, strict=True)))
        sent = IdentifierExtractor(chosen).identify(RECORD).row
        assert sent
        keys = hashed_rules(chosen)
        assert "email" in keys
        for field, rule in keys.items():
            digest = bytes.fromhex(sent[[each.field for each in chosen.fields].index(field)])
            assert [rule.key_from_digest("contact", digest)] == rule.keys_from_record("contact", RECORD)


def test_keys_of_two_rules_or_datatypes_never_meet() -> None:
    digest = hashlib.sha256(b"same").digest()
    assert len({rule.key_from_digest(kind, digest) for rule in KEY_RULES for kind in ("contact", "lead")}) == 2 * len(
        KEY_RULES
    )
    assert len({rule.name for rule in KEY_RULES}) == len(KEY_RULES)


@pytest.mark.parametrize("rule", KEY_RULES, ids=[rule.name for rule in KEY_RULES])
def test_a_record_without_a_valid_value_has_no_key(rule: KeyRule) -> None:
    wrong: list[Any] = [None, "", " ", 7.5, [], {}, ["x"], "none", "\ud800@example.com", "x" * 2_000]
    for value in wrong:
        assert rule.keys_from_record("contact", {"data": {rule.field: value}}) == []
    assert rule.keys_from_record("contact", {}) == []


def test_a_key_cannot_be_found_without_the_secret() -> None:
    """Neither the bare digest nor the key of another secret occurs in it, and the names of the rules differ."""
    digest = hashlib.sha256(b"ann@example.com").digest()
    rules = [EMAIL.with_secret(secret) for secret in (b"one", b"two")]
    keys = [rule.key_from_value("contact", "ann@example.com") for rule in rules]
    assert all(key and digest[:4] not in key for key in keys)
    assert len(set(keys)) == len({rule.name for rule in rules}) == 2
    assert "one" not in repr(rules[0])
