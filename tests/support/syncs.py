"""A platform's list, and a worker that keeps it equal to an audience."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from audience_service.domain.identifiers import IdentifierExtractor, choose_rules
from audience_service.pb.audience.v1.membership_service_pb2 import ExportOperation
from tests.support.client import Client

Key = tuple[str, ...]
"""The name of a key and its values: what identifies a person on a platform."""


class PlatformList:
    """The identifiers on a platform's list. Adding and removing can be repeated, as on the real ones."""

    def __init__(self, platform: str, fields: Sequence[str] = ()) -> None:
        self._extractor = IdentifierExtractor(choose_rules(platform, "", {}, fields))
        self.keys: set[Key] = set()
        self.rows = 0

    def keys_of(self, rows: Iterable[Sequence[str]]) -> set[Key]:
        """The complete keys of rows."""
        found: set[Key] = set()
        for row in rows:
            for name, indexes in self._extractor.keys:
                values = [row[index] for index in indexes]
                if all(values):
                    found.add((name, *values))
        return found

    def apply(self, is_addition: bool, rows: Sequence[Sequence[str]]) -> None:
        """Add or remove rows."""
        self.rows += len(rows)
        if is_addition:
            self.keys |= self.keys_of(rows)
        else:
            self.keys -= self.keys_of(rows)


def is_addition(message: Any) -> bool:
    """Whether the rows of a message are to be added."""
    return bool(message.operation == ExportOperation.EXPORT_OPERATION_ADD)


def batches(client: Client, sync_id: str, **request: Any) -> tuple[list[tuple[Any, list[list[str]]]], Any]:
    """Each batch of a stream, as its last message and all of its rows, and the totals."""
    found: list[tuple[Any, list[list[str]]]] = []
    rows: list[list[str]] = []
    for message in client.call("StreamSyncChanges", {"id": sync_id, "workerId": "worker", **request}):
        if message.HasField("totals"):
            return found, message.totals
        rows += [list(row.values) for row in message.rows]
        if message.last_in_batch:
            found.append((message, rows))
            rows = []
    raise AssertionError("the stream has no totals")


def mirror(client: Client, sync_id: str, platform: PlatformList, received: Callable[[Any], None] = print) -> None:
    """Send and acknowledge batches until the list equals the audience."""
    for _ in range(20):
        found, totals = batches(client, sync_id)
        for message, rows in found:
            received(message)
            platform.apply(is_addition(message), rows)
            acknowledge(client, sync_id, message.batch_number, receivedCount=len(rows))
        if not found and not totals.open_batch_count:
            return
    raise AssertionError("the sync has changes without end")


def acknowledge(client: Client, sync_id: str, number: int, **receipt: Any) -> Any:
    """The receipt of a batch."""
    return client.call("AcknowledgeSyncBatch", {"id": sync_id, "batchNumber": number, **receipt})


def exported(client: Client, platform: PlatformList, request: dict[str, Any]) -> set[Key]:
    """The keys that an export of the same members has."""
    return platform.keys_of(exported_rows(client, request))


def exported_rows(client: Client, request: dict[str, Any]) -> list[list[str]]:
    """The rows of an export."""
    return [list(row.values) for message in client.call("ExportIdentifiers", request) for row in message.rows]
