"""The imports of ad platforms: the ids of nodes, and the platforms' own trees.

One small document for each platform publishes a version; every search reads it. The ids, which may take megabytes, are
a document among those of the version.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bson import encode
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidArgument, StoreUnavailable
from audience_service.domain.targeting.platform_ids import ImportedIds
from audience_service.domain.targeting.platform_tree import Content, TreeInfo, TreeKey, TreeVersion
from audience_service.mongo.core.collections import PLATFORM_IDS, PLATFORM_TREES
from audience_service.mongo.core.errors import with_deadline

_MAX_DOCUMENT_BYTES = 15 * 1024 * 1024
"""MongoDB limits documents to 16 MiB. All nodes of today's taxonomies, with ids of 40 characters, take 3 MiB."""


class MongoPlatformIds:
    """The PlatformIdRepository on MongoDB."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[PLATFORM_IDS]
        self._contents = database[PLATFORM_TREES]

    def versions(self, deadline: Deadline) -> Mapping[str, str]:
        """Read only the versions of the few documents."""
        with with_deadline(self._database, deadline):
            return {document["_id"]: document["version"] for document in self._collection.find({}, {"version": 1})}

    def load(self, platform: str, deadline: Deadline) -> ImportedIds | None:
        """Read the platform's document, and the ids of its version."""
        with with_deadline(self._database, deadline):
            while document := self._collection.find_one({"_id": platform}):
                if found := self._contents.find_one({"_id": _ids_key(platform, document["version"])}):
                    return _read(document, found["ids"])
                if self._collection.find_one({"_id": platform, "version": document["version"]}, {"_id": 1}):
                    raise StoreUnavailable(f"the import of {platform} is incomplete; import its export again")
                # Another import has replaced it meanwhile.
        return None

    def publish(self, imported: ImportedIds, replaced_version: str | None, deadline: Deadline) -> None:
        """Write the ids, then replace the document in one write, by compare-and-set on the version."""
        document = {
            "_id": imported.platform,
            "version": imported.version,
            "imported_at": imported.imported_at,
            "files": list(imported.files),
            "unlinked": imported.unmatched_count,
            "trees": {name: {"size": tree.size, "kinds": list(tree.kinds)} for name, tree in imported.trees.items()},
        }
        ids = {"_id": _ids_key(imported.platform, imported.version), "ids": dict(imported.ids)}
        if len(encode(ids)) > _MAX_DOCUMENT_BYTES:
            raise InvalidArgument.at(
                "files", f"contain more ids than fit the {_MAX_DOCUMENT_BYTES >> 20} MiB of a platform"
            )
        with with_deadline(self._database, deadline):
            self._contents.insert_one(ids)
            if replaced_version is None:
                is_published = self._insert(document)
            else:
                match = {"_id": imported.platform, "version": replaced_version}
                is_published = bool(self._collection.replace_one(match, document).matched_count)
        if not is_published:
            raise InvalidArgument.at("files", "were overtaken by another import; import them again")

    def remove(self, platform: str, deadline: Deadline) -> bool:
        """Delete the document."""
        with with_deadline(self._database, deadline):
            return bool(self._collection.delete_one({"_id": platform}).deleted_count)

    def _insert(self, document: dict[str, Any]) -> bool:
        try:
            self._collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True


class MongoPlatformTrees:
    """The PlatformTreeRepository on MongoDB. The prefix of `_id` is the tree, so `_id` is the only index."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._imports = database[PLATFORM_IDS]
        self._collection = database[PLATFORM_TREES]

    def current(self, platform: str, deadline: Deadline) -> TreeVersion | None:
        """Read the version and the sizes alone."""
        with with_deadline(self._database, deadline):
            document = self._imports.find_one({"_id": platform}, {"version": 1, "trees": 1})
        return TreeVersion(document["version"], _read_trees(document)) if document else None

    def find(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> Mapping[str, Content]:
        """Find by `_id`."""
        prefix = _prefix(tree)
        with with_deadline(self._database, deadline):
            found = self._collection.find({"_id": {"$in": [prefix + key for key in keys]}})
            return {document["_id"].removeprefix(prefix): document for document in found}

    def find_longest(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> tuple[str, Content] | None:
        """Find by `_id`, from the last one."""
        prefix = _prefix(tree)
        with with_deadline(self._database, deadline):
            found = self._collection.find({"_id": {"$in": [prefix + key for key in keys]}})
            for document in found.sort("_id", -1).limit(1):
                return document["_id"].removeprefix(prefix), document
        return None

    def write(self, tree: TreeKey, documents: Sequence[tuple[str, Content]], deadline: Deadline) -> None:
        """Insert them."""
        prefix = _prefix(tree)
        with with_deadline(self._database, deadline):
            self._collection.insert_many([{"_id": prefix + key, **content} for key, content in documents])

    def count(self, platform: str, version: str, deadline: Deadline) -> int:
        """Count the range of `_id`."""
        with with_deadline(self._database, deadline):
            return self._collection.count_documents(_version_range(platform, version))

    def versions(self, platform: str, deadline: Deadline) -> Sequence[str]:
        """Seek from one version to the next."""
        versions: list[str] = []
        after = f"{platform}/"
        with with_deadline(self._database, deadline):
            while found := self._collection.find_one(
                {"_id": {"$gte": after, "$lt": platform + _AFTER_SLASH}}, {"_id": 1}, sort=[("_id", 1)]
            ):
                versions.append(found["_id"].split("/")[1])
                after = f"{platform}/{versions[-1]}{_AFTER_SLASH}"
        return versions

    def delete(self, platform: str, version: str, deadline: Deadline) -> None:
        """Delete the range of `_id`."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(_version_range(platform, version))


_AFTER_SLASH = "0"
"""The character after the slash. A range up to it has every key with the slash."""


def _ids_key(platform: str, version: str) -> str:
    return f"{platform}/{version}/ids"


def _prefix(tree: TreeKey) -> str:
    return f"{tree.platform}/{tree.version}/{tree.taxonomy}/"


def _version_range(platform: str, version: str) -> dict[str, Any]:
    return {"_id": {"$gte": f"{platform}/{version}/", "$lt": f"{platform}/{version}{_AFTER_SLASH}"}}


def _read_trees(document: Mapping[str, Any]) -> dict[str, TreeInfo]:
    trees = document.get("trees", {})
    return {name: TreeInfo(tree["size"], tuple(tree["kinds"])) for name, tree in trees.items()}


def _read(document: Mapping[str, Any], ids: Mapping[str, str]) -> ImportedIds:
    return ImportedIds(
        platform=document["_id"],
        version=document["version"],
        imported_at=document["imported_at"],
        files=tuple(document["files"]),
        ids=ids,
        unmatched_count=document["unlinked"],
        trees=_read_trees(document),
    )
