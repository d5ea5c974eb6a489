"""Custom audiences in the platform's `custom` collection."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceNotFound, NameTaken, RequestIdReused, StaleVersion
from audience_service.domain.core.idempotency import CreationState, IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.custom_audiences.model import (
    CustomAudience,
    CustomAudienceQuery,
    Work,
    WorkKind,
)
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import CUSTOM_AUDIENCES
from audience_service.mongo.core.documents import Record, name_key, request_key
from audience_service.mongo.core.errors import retry_read, with_deadline
from audience_service.mongo.core.pages import newest_page
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.custom_audiences.documents import (
    DELETED,
    RELEASE,
    custom_audience_sk,
    ended_work,
    new_custom_audience,
    new_work,
    orphaned_list,
    publication_update,
    read_custom_audience,
    renamed_custom,
    running_work,
)
from audience_service.mongo.snapshots.rows import RETENTION_GRACE

_WITHOUT_PUBLICATION: Document = {"data.publication": 0}
"""Pages omit the publication: a lookalike's model takes up to 100 kB."""
_NOT_DELETED: Document = {"state": {"$ne": DELETED}}


class MongoCustomAudiences:
    """The CustomAudienceRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection: Collection[dict[str, Any]] = database[CUSTOM_AUDIENCES]

    def insert(
        self,
        org: str,
        audience: CustomAudience,
        key: IdempotencyKey | None,
        deadline: Deadline,
        lease: Lease | None = None,
    ) -> None:
        """Insert. If a deleted record still reserves the name or the request_id, release it and retry."""
        record = new_custom_audience(org, audience, key, lease)
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_one(record)
        except DuplicateKeyError as error:
            if self._release_unique_keys(org, record["data"]["unique"], deadline):
                self.insert(org, audience, key, deadline, lease)
            elif "data.unique.request" in ((error.details or {}).get("keyPattern") or {}):
                raise RequestIdReused("this request_id has already created a custom audience; use a new one") from None
            else:
                raise NameTaken.of(audience.name, "custom audience") from None

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[CustomAudience, str] | None:
        """Find by the key of the request."""
        record = self._find(org, {"data.unique.request": request_key(org, key), **_NOT_DELETED}, deadline)
        return (read_custom_audience(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, audience_id: str, deadline: Deadline) -> CustomAudience:
        """Find by key."""
        record = self._find(
            org, {"_id": custom_audience_sk(org, audience_id), "pk": audience_id, **_NOT_DELETED}, deadline
        )
        if record is None:
            raise AudienceNotFound.of(audience_id)
        return read_custom_audience(record)

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """Count on the primary, up to `limit`."""
        match = self._scope.match(org, _NOT_DELETED)
        return retry_read(self._database, deadline, lambda: self._collection.count_documents(match, limit=limit))

    def page(
        self, org: str, query: CustomAudienceQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[CustomAudience]:
        """Return a page, newest first."""
        conditions: list[Document] = [_NOT_DELETED]
        if query.type:
            conditions.append({"data.type": query.type})
        if query.name:
            conditions.append({"name": {"$regex": re.escape(query.name), "$options": "i"}})
        page = newest_page(self._collection, self._scope, org, conditions, size, after, deadline, _WITHOUT_PUBLICATION)
        return page.map(read_custom_audience)

    def is_name_taken(self, org: str, name: str, deadline: Deadline, except_id: str = "") -> bool:
        """Find by the key of the name."""
        condition = {"data.unique.name": name_key(org, name), "pk": {"$ne": except_id}, **_NOT_DELETED}
        return self._find(org, condition, deadline) is not None

    def save(self, org: str, audience: CustomAudience, deadline: Deadline) -> CustomAudience:
        """Compare-and-set on the version. Concurrent changes of orphaned lists do not matter."""
        key = name_key(org, audience.name)
        while True:
            record = self._get_not_deleted(org, audience.id, deadline)
            if record["version"] != audience.version or record["state"] != audience.state:
                raise _stale_version_error(record)
            written = replace(
                read_custom_audience(record),
                name=audience.name,
                description=audience.description,
                external=audience.external,
                version=audience.version + 1,
                updated_at=now(),
            )
            changes = {"$set": {**renamed_custom(written), "data.unique.name": key}}
            try:
                if self._write(org, record, changes, deadline):
                    return written
            except DuplicateKeyError:
                if not self._release_unique_keys(org, {"name": key}, deadline):
                    raise NameTaken.of(audience.name, "custom audience") from None

    def reserve(self, org: str, audience_id: str, list_version_id: str, until: datetime, deadline: Deadline) -> None:
        """Compare-and-set on the orphaned lists and the version. Retry after a conflict."""
        while True:
            record = self._get_not_deleted(org, audience_id, deadline)
            if record["data"]["list_version_id"] == list_version_id:
                return
            reservation = _find_reservation(record, list_version_id, optional=True)
            orphans = [
                *(each for each in record["orphaned_lists"] if each != reservation),
                orphaned_list(list_version_id, until),
            ]
            if self._write(org, record, {"$set": {"orphaned_lists": orphans}}, deadline):
                return

    def start_work(self, org: str, audience_id: str, lease: Lease, deadline: Deadline) -> CustomAudience | None:
        """Compare-and-set on the previous attempt."""
        while True:
            record = self._get_not_deleted(org, audience_id, deadline)
            audience = read_custom_audience(record)
            if audience.is_working:
                return None
            before = audience.work.attempt if audience.work else None
            is_ready = audience.creation_state is CreationState.READY
            kind = WorkKind.REFRESH if is_ready else WorkKind.CREATION
            work = Work(kind, (before or 0) + 1, now())
            same = {"_id": record["_id"], "state": record["state"], "work.attempt": before}
            with with_deadline(self._database, deadline):
                changes = {"$set": new_work(work, lease)}
                if self._collection.update_one(self._scope.match(org, same), changes).matched_count:
                    return replace(audience, work=work)

    def renew_work(self, org: str, audience: CustomAudience, lease: Lease, progress: int, deadline: Deadline) -> bool:
        """Compare-and-set on the attempt and its owner."""
        changes = {"$set": {"lease_until": lease.expires_at}, "$max": {"work.progress": progress}}
        return self._change_work(org, audience, changes, deadline, {"work.owner": lease.owner})

    def end_work(self, org: str, audience: CustomAudience, error: str, deadline: Deadline) -> bool:
        """Compare-and-set on the attempt."""
        return self._change_work(org, audience, ended_work(error, now()), deadline)

    def publish(
        self,
        org: str,
        audience: CustomAudience,
        list_version_id: str,
        publication: Mapping[str, Any],
        deadline: Deadline,
        *,
        ends_work: bool = False,
    ) -> CustomAudience:
        """Replace the list in one update, which also registers the previous list as an orphan."""
        published_at = now()
        while True:
            record = self._get_not_deleted(org, audience.id, deadline)
            if record["data"]["list_version_id"] != audience.list_version_id or record["state"] != audience.state:
                raise _stale_version_error(record)
            current = read_custom_audience(record)
            if ends_work and not _is_running(current, audience):
                raise _stale_version_error(record)
            updated = replace(
                current,
                # The first list of a lookalike belongs to its creation.
                version=current.version + (current.creation_state is CreationState.READY),
                updated_at=published_at,
                refreshed_at=published_at,
                list_version_id=list_version_id,
                publication=publication,
            )
            reservation = _find_reservation(record, list_version_id)
            orphans = [each for each in record["orphaned_lists"] if each != reservation]
            if audience.list_version_id:
                orphans.append(orphaned_list(audience.list_version_id, published_at + RETENTION_GRACE))
            changes: Document = {"$set": {**publication_update(updated), "orphaned_lists": orphans}}
            if not ends_work:
                if self._write(org, record, changes, deadline):
                    return updated
                continue
            ended = ended_work("", published_at)
            changes = {"$set": {**changes["$set"], **ended["$set"]}, "$unset": ended["$unset"]}
            if self._write(org, record, changes, deadline, running_work(audience.work, now())):
                return self.get(org, audience.id, deadline)

    def remove(self, org: str, audience: CustomAudience, deadline: Deadline) -> None:
        """Mark the audience as deleted. The cleanup deletes its rows, and then the record."""
        while True:
            record = self._get_not_deleted(org, audience.id, deadline)
            if record["version"] != audience.version or record["state"] != audience.state:
                raise _stale_version_error(record)
            # Also without a list: the orphan keeps the record for as long as `restore` is possible.
            orphan = orphaned_list(audience.contacts.list_id, now() + RETENTION_GRACE)
            mark: Document = {
                "$set": {
                    "state": DELETED,
                    "modifydate": now(),
                    "orphaned_lists": [*record["orphaned_lists"], orphan],
                    "data.list_version_id": "",
                    "data.deleted_unique": record["data"].get("unique", {}),
                },
                "$unset": {"data.unique": ""},
            }
            if self._write(org, record, mark, deadline):
                return

    def restore(self, org: str, audience: CustomAudience, deadline: Deadline) -> bool:
        """Remove the mark, and remove the restored list from the orphans."""
        deleted_match: Document = {
            "_id": custom_audience_sk(org, audience.id),
            "version": audience.version,
            "state": DELETED,
        }
        while record := self._find(org, deleted_match, deadline):
            orphans = [
                each for each in record["orphaned_lists"] if each["list_version_id"] != audience.contacts.list_id
            ]
            changes: Document = {
                "$set": {
                    "state": audience.state,
                    "orphaned_lists": orphans,
                    "data.list_version_id": audience.list_version_id,
                    "data.unique": record["data"]["deleted_unique"],
                },
                "$unset": {"data.deleted_unique": ""},
            }
            try:
                if self._write(org, record, changes, deadline):
                    return True
            except DuplicateKeyError:
                break
        return False

    def _get_not_deleted(self, org: str, audience_id: str, deadline: Deadline) -> Record:
        record = self._find(org, {"_id": custom_audience_sk(org, audience_id), **_NOT_DELETED}, deadline)
        if record is None:
            raise AudienceNotFound.of(audience_id)
        return record

    def _write(
        self, org: str, record: Record, changes: Document, deadline: Deadline, extra: Document | None = None
    ) -> bool:
        """Compare-and-set on everything that the service writes, except work. Return whether it succeeded."""
        expected = {name: record[name] for name in ("_id", "version", "state", "orphaned_lists")}
        with with_deadline(self._database, deadline):
            return self._collection.update_one(self._scope.match(org, expected, extra or {}), changes).matched_count > 0

    def _change_work(
        self, org: str, audience: CustomAudience, changes: Document, deadline: Deadline, extra: Document | None = None
    ) -> bool:
        """Update the work of an audience if it is still running. Return whether it was."""
        same = {
            "_id": custom_audience_sk(org, audience.id),
            **_NOT_DELETED,
            **running_work(audience.work, now()),
            **(extra or {}),
        }
        with with_deadline(self._database, deadline):
            return self._collection.update_one(self._scope.match(org, same), changes).matched_count > 0

    def _release_unique_keys(self, org: str, unique: Mapping[str, str], deadline: Deadline) -> bool:
        """Release the name and the request_id of records that the platform has deleted."""
        same_keys = [{f"data.unique.{name}": unique[name]} for name in ("name", "request") if name in unique]
        with with_deadline(self._database, deadline):
            released = self._collection.update_many(
                self._scope.match(org, {"$or": same_keys}, {"state": DELETED}), RELEASE
            )
        return released.modified_count > 0

    def _find(self, org: str, condition: Document, deadline: Deadline) -> Record | None:
        return retry_read(
            self._database, deadline, lambda: self._collection.find_one(self._scope.match(org, condition))
        )


def _is_running(current: CustomAudience, audience: CustomAudience) -> bool:
    """Return whether the work that was read before is still running."""
    attempts = [each.work.attempt if each.work else 0 for each in (current, audience)]
    return current.is_working and attempts[0] == attempts[1]


def _find_reservation(record: Record, list_version_id: str, *, optional: bool = False) -> Record | None:
    """Return the reservation of a list. Raises StaleVersion if it has expired, since the rows may be deleted."""
    reservation: Record | None = next(
        (each for each in record["orphaned_lists"] if each["list_version_id"] == list_version_id), None
    )
    if reservation["is_deleting"] if reservation else not optional:
        raise _stale_version_error(record)
    return reservation


def _stale_version_error(record: Record) -> StaleVersion:
    return StaleVersion(
        "the custom audience has changed, or its list exceeded the reserved time; read it and try again",
        metadata={"current_version": str(record["version"])},
    )
