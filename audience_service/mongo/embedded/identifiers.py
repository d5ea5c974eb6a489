"""The index of identifiers of the embedded store, in the process's own memory."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.match_keys import KeyRule
from audience_service.domain.uploads.repository import Contact
from audience_service.mongo.identifiers.repository import MongoIdentifiers


class EmbeddedIdentifiers(MongoIdentifiers):
    """MongoIdentifiers that keep the keys of an org themselves, made anew by each update.

    The embedded store has no hash to tell a change by, and looks through all that may expire at every insert.
    """

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        super().__init__(database)
        self._keys: dict[tuple[str, str, str], Mapping[bytes, Sequence[Contact]]] = {}

    def update(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        """Whoever looks meanwhile finds those of before."""
        keys: dict[bytes, list[Contact]] = {}
        after = ""
        while records := self._read(org, datatype, rule, {"sk": {"$gt": after}}, deadline):
            for record in records:
                if key := rule.key_in(datatype, record):
                    keys.setdefault(key, []).append(Contact(record["pk"], record["sk"]))
            after = records[-1]["sk"]
        self._keys[org, datatype, rule.name] = keys

    def find(
        self,
        org: str,
        keys: Collection[bytes],
        limit: int,
        deadline: Deadline,  # noqa: ARG002 - it does not wait
    ) -> Mapping[bytes, Sequence[Contact]]:
        """Among those of the org."""
        indexes = [found for (owner, *_), found in tuple(self._keys.items()) if owner == org]
        return {key: found[key][: limit + 1] for found in indexes for key in keys if key in found}

    def _source_hash(self, rule: KeyRule) -> Document:  # noqa: ARG002
        return {"$literal": 0}
