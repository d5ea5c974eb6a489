"""Ad platforms' ids of nodes: one document for each platform, which an import replaces."""

from collections.abc import Mapping
from typing import Any

from bson import encode
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.targeting.platform_ids import ImportedIds
from audience_service.mongo.core.collections import PLATFORM_IDS
from audience_service.mongo.core.errors import with_deadline

_MAX_DOCUMENT_BYTES = 15 * 1024 * 1024
"""MongoDB limits documents to 16 MiB. All nodes of today's taxonomies, with ids of 40 characters, take 3 MiB."""


class MongoPlatformIds:
    """The PlatformIdRepository on MongoDB."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[PLATFORM_IDS]

    def versions(self, deadline: Deadline) -> Mapping[str, str]:
        """Read only the versions of the few documents."""
        with with_deadline(self._database, deadline):
            return {document["_id"]: document["version"] for document in self._collection.find({}, {"version": 1})}

    def load(self, platform: str, deadline: Deadline) -> ImportedIds | None:
        """Read the platform's document."""
        with with_deadline(self._database, deadline):
            document = self._collection.find_one({"_id": platform})
        return _read(document) if document else None

    def publish(self, imported: ImportedIds, deadline: Deadline) -> None:
        """Replace the document in one write."""
        document = {
            "_id": imported.platform,
            "version": imported.version,
            "imported_at": imported.imported_at,
            "files": list(imported.files),
            "ids": dict(imported.ids),
            "unlinked": imported.unmatched_count,
        }
        if len(encode(document)) > _MAX_DOCUMENT_BYTES:
            raise InvalidArgument.at(
                "files", f"contain more ids than fit the {_MAX_DOCUMENT_BYTES >> 20} MiB of a platform"
            )
        with with_deadline(self._database, deadline):
            self._collection.replace_one({"_id": imported.platform}, document, upsert=True)

    def remove(self, platform: str, deadline: Deadline) -> bool:
        """Delete the document."""
        with with_deadline(self._database, deadline):
            return bool(self._collection.delete_one({"_id": platform}).deleted_count)


def _read(document: Mapping[str, Any]) -> ImportedIds:
    return ImportedIds(
        platform=document["_id"],
        version=document["version"],
        imported_at=document["imported_at"],
        files=tuple(document["files"]),
        ids=document["ids"],
        unmatched_count=document["unlinked"],
    )
