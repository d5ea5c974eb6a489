"""The embedded store's index of identifiers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.match_keys import KeyRule
from audience_service.domain.uploads.repository import Contact
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.identifiers.repository import MongoIdentifiers


class EmbeddedIdentifiers(MongoIdentifiers):
    """MongoIdentifiers that keeps an org's keys in memory, and rebuilds them in each update.

    The embedded store has no hash that reveals changed records. Stored keys would also be slow: on every insert, it
    scans all documents that can expire.
    """

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        super().__init__(database, scope)
        self._keys: dict[tuple[str, str, str], Mapping[bytes, Sequence[Contact]]] = {}

    def update(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        """Rebuild the keys. Concurrent reads find the previous ones."""
        keys: dict[bytes, list[Contact]] = {}
        after = ""
        while records := self._read(org, datatype, rule, {"sk": {"$gt": after}}, deadline):
            for record in records:
                for key in rule.keys_from_record(datatype, record):
                    keys.setdefault(key, []).append(Contact(record["pk"], record["sk"]))
            after = records[-1]["sk"]
        self._keys[org, datatype, rule.name] = keys

    def find(
        self,
        org: str,
        keys: Collection[bytes],
        limit: int,
        deadline: Deadline,  # noqa: ARG002 - the keys are in memory
    ) -> Mapping[bytes, Sequence[Contact]]:
        """Find the keys among the org's."""
        indexes = [found for (owner, *_), found in tuple(self._keys.items()) if owner == org]
        erased = self._scope.erased_sks(org)
        return {
            key: [contact for contact in found[key] if contact.sk not in erased][: limit + 1]
            for found in indexes
            for key in keys
            if key in found
        }

    def _source_hash(self, rule: KeyRule) -> Document:  # noqa: ARG002
        return {"$literal": 0}
