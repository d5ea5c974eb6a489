"""The custom audiences of an org, in the platform's `custom` collection."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.creation import CreationState
from audience_service.domain.custom.audience import CustomAudience, CustomPage, CustomQuery, Work, WorkKind
from audience_service.domain.errors import AudienceNotFound, NameTaken, RequestIdReused, StaleVersion
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import CreateRequest
from audience_service.domain.snapshots.ports import Lease
from audience_service.mongo.collections import CUSTOM
from audience_service.mongo.custom_documents import (
    DELETED,
    RELEASE,
    custom_sk,
    ended_work,
    leftover,
    new_custom,
    new_work,
    published_custom,
    read_custom,
    renamed_custom,
    running_work,
)
from audience_service.mongo.documents import Record, name_key, request_key
from audience_service.mongo.failures import limited
from audience_service.mongo.pages import newest
from audience_service.mongo.scope import scoped
from audience_service.mongo.snapshot_rows import OUTLIVE

_WITHOUT_PUBLISHED: Document = {"data.published": 0}
"""A lookalike's model is up to 100 kB, which nobody wants of fifty at once."""
_NOT_DELETED: Document = {"state": {"$ne": DELETED}}


class MongoCustomAudiences:
    """The CustomAudienceRepository on MongoDB; domain/custom/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection: Collection[dict[str, Any]] = database[CUSTOM]

    def insert(
        self,
        org: str,
        audience: CustomAudience,
        request: CreateRequest | None,
        deadline: Deadline,
        lease: Lease | None = None,
    ) -> None:
        """Store, once more where something that is no longer there has the name or the request_id still."""
        record = new_custom(org, audience, request, lease)
        try:
            with limited(self._database, deadline):
                self._collection.insert_one(record)
        except DuplicateKeyError as error:
            if self._release(org, record["data"]["unique"], deadline):
                self.insert(org, audience, request, deadline, lease)
            elif "data.unique.request" in ((error.details or {}).get("keyPattern") or {}):
                raise RequestIdReused("this request_id has made a custom audience already") from None
            else:
                raise NameTaken.of(audience.name, "custom audience") from None

    def find_request(self, org: str, request: CreateRequest, deadline: Deadline) -> tuple[CustomAudience, str] | None:
        """By the key of the request."""
        record = self._find(org, {"data.unique.request": request_key(org, request), **_NOT_DELETED}, deadline)
        return (read_custom(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, audience_id: str, deadline: Deadline) -> CustomAudience:
        """By key."""
        record = self._find(org, {"_id": custom_sk(org, audience_id), "pk": audience_id, **_NOT_DELETED}, deadline)
        if record is None:
            raise AudienceNotFound.of(audience_id)
        return read_custom(record)

    def page(
        self, org: str, query: CustomQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> CustomPage:
        """Newest first."""
        conditions: list[Document] = [_NOT_DELETED]
        if query.type:
            conditions.append({"data.type": query.type})
        if query.name:
            conditions.append({"name": {"$regex": re.escape(query.name), "$options": "i"}})
        page = newest(self._collection, org, conditions, size, after, deadline, _WITHOUT_PUBLISHED)
        return CustomPage(tuple(read_custom(record) for record in page.records), page.last, page.total)

    def is_name_taken(self, org: str, name: str, deadline: Deadline, except_id: str = "") -> bool:
        """By the key of the name."""
        condition = {"data.unique.name": name_key(org, name), "pk": {"$ne": except_id}, **_NOT_DELETED}
        return self._find(org, condition, deadline) is not None

    def save(self, org: str, audience: CustomAudience, deadline: Deadline) -> CustomAudience:
        """Compare-and-set on the version; leftovers that change meanwhile do not matter."""
        key = name_key(org, audience.name)
        while True:
            record = self._not_deleted(org, audience.id, deadline)
            if record["version"] != audience.version or record["state"] != audience.state:
                raise _stale(record)
            written = replace(
                read_custom(record),
                name=audience.name,
                description=audience.description,
                version=audience.version + 1,
                update_time=now(),
            )
            changes = {"$set": {**renamed_custom(written), "data.unique.name": key}}
            try:
                if self._write(org, record, changes, deadline):
                    return written
            except DuplicateKeyError:
                if not self._release(org, {"name": key}, deadline):
                    raise NameTaken.of(audience.name, "custom audience") from None

    def reserve(self, org: str, audience_id: str, rows_id: str, until: datetime, deadline: Deadline) -> None:
        """Compare-and-set on what is noted and on the version, again where somebody else was first."""
        while True:
            record = self._not_deleted(org, audience_id, deadline)
            if record["data"]["rows"] == rows_id:
                return
            noted = _reserved(record, rows_id, optional=True)
            left = [*(each for each in record["leftovers"] if each != noted), leftover(rows_id, until)]
            if self._write(org, record, {"$set": {"leftovers": left}}, deadline):
                return

    def start_work(self, org: str, audience_id: str, lease: Lease, deadline: Deadline) -> CustomAudience | None:
        """Compare-and-set on the attempt before."""
        while True:
            record = self._not_deleted(org, audience_id, deadline)
            audience = read_custom(record)
            if audience.is_working:
                return None
            before = audience.work.attempt if audience.work else None
            is_ready = audience.creation_state is CreationState.READY
            kind = WorkKind.REFRESH if is_ready else WorkKind.CREATION
            work = Work(kind, (before or 0) + 1, now())
            same = {"_id": record["_id"], "state": record["state"], "work.attempt": before}
            with limited(self._database, deadline):
                changes = {"$set": new_work(work, lease)}
                if self._collection.update_one(scoped(org, same), changes).matched_count:
                    return replace(audience, work=work)

    def renew_work(self, org: str, audience: CustomAudience, lease: Lease, progress: int, deadline: Deadline) -> bool:
        """Compare-and-set on the attempt and its owner."""
        changes = {"$set": {"lease_until": lease.until}, "$max": {"work.progress": progress}}
        return self._change_work(org, audience, changes, deadline, {"work.owner": lease.owner})

    def end_work(self, org: str, audience: CustomAudience, error: str, deadline: Deadline) -> bool:
        """Compare-and-set on the attempt."""
        return self._change_work(org, audience, ended_work(error, now()), deadline)

    def publish(
        self,
        org: str,
        audience: CustomAudience,
        rows_id: str,
        published: Mapping[str, Any],
        deadline: Deadline,
        *,
        ends_work: bool = False,
    ) -> CustomAudience:
        """One update, in which the list before takes the place of the new one among the leftovers."""
        moment = now()
        while True:
            record = self._not_deleted(org, audience.id, deadline)
            if record["data"]["rows"] != audience.rows_id or record["state"] != audience.state:
                raise _stale(record)
            current = read_custom(record)
            if ends_work and not _is_running(current, audience):
                raise _stale(record)
            written = replace(
                current,
                # The first list of a lookalike is a part of its creation.
                version=current.version + (current.creation_state is CreationState.READY),
                update_time=moment,
                refresh_time=moment,
                rows_id=rows_id,
                published=published,
            )
            reserved = _reserved(record, rows_id)
            left = [each for each in record["leftovers"] if each != reserved]
            if audience.rows_id:
                left.append(leftover(audience.rows_id, moment + OUTLIVE))
            changes: Document = {"$set": {**published_custom(written), "leftovers": left}}
            if not ends_work:
                if self._write(org, record, changes, deadline):
                    return written
                continue
            ended = ended_work("", moment)
            changes = {"$set": {**changes["$set"], **ended["$set"]}, "$unset": ended["$unset"]}
            if self._write(org, record, changes, deadline, running_work(audience.work, now())):
                return self.get(org, audience.id, deadline)

    def remove(self, org: str, audience: CustomAudience, deadline: Deadline) -> None:
        """Marked, so that nobody finds it any more; its rows are swept, and then the mark."""
        while True:
            record = self._not_deleted(org, audience.id, deadline)
            if record["version"] != audience.version or record["state"] != audience.state:
                raise _stale(record)
            # Also where there is no list: what is left keeps the mark for as long as it may be taken back.
            rows = leftover(audience.contacts.audience_id, now() + OUTLIVE)
            mark: Document = {
                "$set": {
                    "state": DELETED,
                    "modifydate": now(),
                    "leftovers": [*record["leftovers"], rows],
                    "data.rows": "",
                    "data.freed": record["data"].get("unique", {}),
                },
                "$unset": {"data.unique": ""},
            }
            if self._write(org, record, mark, deadline):
                return

    def restore(self, org: str, audience: CustomAudience, deadline: Deadline) -> bool:
        """Undo the mark, and take what is the list again off the leftovers."""
        marked: Document = {"_id": custom_sk(org, audience.id), "version": audience.version, "state": DELETED}
        while record := self._find(org, marked, deadline):
            left = [each for each in record["leftovers"] if each["rows"] != audience.contacts.audience_id]
            back: Document = {
                "$set": {
                    "state": audience.state,
                    "leftovers": left,
                    "data.rows": audience.rows_id,
                    "data.unique": record["data"]["freed"],
                },
                "$unset": {"data.freed": ""},
            }
            try:
                if self._write(org, record, back, deadline):
                    return True
            except DuplicateKeyError:
                break
        return False

    def _not_deleted(self, org: str, audience_id: str, deadline: Deadline) -> Record:
        record = self._find(org, {"_id": custom_sk(org, audience_id), **_NOT_DELETED}, deadline)
        if record is None:
            raise AudienceNotFound.of(audience_id)
        return record

    def _write(
        self, org: str, record: Record, changes: Document, deadline: Deadline, also: Document | None = None
    ) -> bool:
        """Compare-and-set on all that the service writes of a record, work aside; whether it was the same still."""
        same = {name: record[name] for name in ("_id", "version", "state", "leftovers")}
        with limited(self._database, deadline):
            return self._collection.update_one(scoped(org, same, also or {}), changes).matched_count > 0

    def _change_work(
        self, org: str, audience: CustomAudience, changes: Document, deadline: Deadline, also: Document | None = None
    ) -> bool:
        """Change the work of an audience that is not deleted, if it is running still; whether it was."""
        same = {
            "_id": custom_sk(org, audience.id),
            **_NOT_DELETED,
            **running_work(audience.work, now()),
            **(also or {}),
        }
        with limited(self._database, deadline):
            return self._collection.update_one(scoped(org, same), changes).matched_count > 0

    def _release(self, org: str, unique: Mapping[str, str], deadline: Deadline) -> bool:
        """Release the name and the request_id of a record that the platform has deleted."""
        held = [{f"data.unique.{name}": unique[name]} for name in ("name", "request") if name in unique]
        with limited(self._database, deadline):
            released = self._collection.update_many(scoped(org, {"$or": held}, {"state": DELETED}), RELEASE)
        return released.modified_count > 0

    def _find(self, org: str, condition: Document, deadline: Deadline) -> Record | None:
        with limited(self._database, deadline):
            return self._collection.find_one(scoped(org, condition))


def _is_running(current: CustomAudience, audience: CustomAudience) -> bool:
    """Whether the work of an audience, as it was read before, is running still."""
    attempts = [each.work.attempt if each.work else 0 for each in (current, audience)]
    return current.is_working and attempts[0] == attempts[1]


def _reserved(record: Record, rows_id: str, *, optional: bool = False) -> Record | None:
    """What is noted of reserved rows. Raises StaleVersion where they were given up, and may be gone."""
    noted: Record | None = next((each for each in record["leftovers"] if each["rows"] == rows_id), None)
    if noted["swept"] if noted else not optional:
        raise _stale(record)
    return noted


def _stale(record: Record) -> StaleVersion:
    return StaleVersion(
        "the custom audience was written meanwhile, or this took longer than the time reserved for it",
        metadata={"current_version": str(record["version"])},
    )
