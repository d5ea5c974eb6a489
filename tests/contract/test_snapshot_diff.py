"""What DiffSnapshots promises, on every store."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.mongo.embedded import overrides
from audience_service.mongo.snapshots import rows
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def tagged(tag: str) -> dict[str, Any]:
    """The filter for those with a tag."""
    return {"datatype": "contact", "where": {"tags": tag}}


@pytest.fixture
def slice_size() -> int:
    """The most rows of each snapshot in a slice."""
    return 4


@pytest.fixture(autouse=True)
def _sliced(monkeypatch: pytest.MonkeyPatch, slice_size: int) -> None:
    """Every row is sampled, so that slices have their exact size."""
    monkeypatch.setattr(rows, "SAMPLED", 1)
    monkeypatch.setattr(rows, "SLICE_SIZE", slice_size)
    monkeypatch.setattr(overrides, "SAMPLED", 1)


@pytest.fixture
def two(client: Client, insert: Insert) -> tuple[str, str, list[str], list[str]]:
    """Two snapshots that lie across one another, and who came in and went out between them."""
    tags = [tag for tag in ("old", "both", "new") for _ in range(7)]
    ids = insert(
        [
            {"id": f"{n * 8 % 21:02}", "data": {"tags": [tag] if tag != "both" else ["old", "new"]}}
            for n, tag in enumerate(tags)
        ]
    )
    first, second = (client.snapshot(filter=tagged(tag)).id for tag in ("old", "new"))
    return first, second, sorted(ids[14:]), sorted(ids[:7])


def diff(client: Client, **request: Any) -> tuple[list[str], list[str], tuple[int, int, int]]:
    """The ids that entered, those that exited, and the totals of the last message."""
    *batches, last = client.call("DiffSnapshots", request)
    assert not any(batch.HasField("totals") for batch in batches)
    assert last.HasField("totals")
    assert not last.entered_ids
    assert not last.exited_ids
    totals = last.totals
    return (
        [found for batch in batches for found in batch.entered_ids],
        [found for batch in batches for found in batch.exited_ids],
        (totals.entered_count, totals.exited_count, totals.unchanged_count),
    )


@pytest.mark.parametrize("slice_size", [1, 2, 5, 100])
@pytest.mark.parametrize("batch_size", [0, 1, 3])
@pytest.mark.slow
def test_it_streams_entered_and_exited_members_in_order(
    client: Client,
    two: tuple[str, str, list[str], list[str]],
    batch_size: int,
) -> None:
    first, second, entered, exited = two
    forth = diff(client, fromSnapshotId=first, toSnapshotId=second, batchSize=batch_size)
    assert forth == (entered, exited, (7, 7, 7))
    assert diff(client, fromSnapshotId=second, toSnapshotId=first, batchSize=batch_size) == (exited, entered, (7, 7, 7))
    assert diff(client, fromSnapshotId=first, toSnapshotId=first) == ([], [], (0, 0, 14))


def test_each_command_compares_a_bounded_number_of_rows(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of each snapshot, also where all rows of one come before those of the other."""
    ranges: list[Any] = []

    def diff_stages(scope: Any, org: str, first: Any, second: Any, key_range: Any) -> Any:
        ranges.append(key_range)
        return stages(scope, org, first, second, key_range)

    stages = rows._diff_stages
    monkeypatch.setattr(rows, "_diff_stages", diff_stages)
    ids = insert([{"id": f"{n:02}", "data": {"tags": ["new" if n < 7 else "old"]}} for n in range(21)])
    first, second = (client.snapshot(filter=tagged(tag)).id for tag in ("old", "new"))
    found = diff(client, fromSnapshotId=first, toSnapshotId=second)
    assert found == (ids[:7], ids[7:], (7, 14, 0))
    lists = service.store.database["audience_member"]
    counts = [
        tuple(lists.count_documents({"audience": {"$regex": f"^{name}"}, **key_range}) for name in (first, second))
        for key_range in ranges
    ]
    assert [sum(column) for column in zip(*counts, strict=True)] == [14, 7]
    assert all(one <= 4 and other <= 4 for one, other in counts)


def test_it_compares_stored_rows_regardless_of_later_record_changes(
    client: Client, service: Service, two: tuple[str, str, list[str], list[str]]
) -> None:
    first, second, entered, exited = two
    service.store.database["contact"].delete_many({"pk": {"$in": [entered[0], exited[0]]}})
    assert diff(client, fromSnapshotId=first, toSnapshotId=second) == (entered, exited, (7, 7, 7))


def test_it_resumes_after_any_cursor(
    client: Client, two: tuple[str, str, list[str], list[str]], refused: Refused
) -> None:
    first, second, entered, exited = two
    seen: list[str] = []
    batches = list(client.call("DiffSnapshots", {"fromSnapshotId": first, "toSnapshotId": second, "batchSize": 2}))
    for batch in batches:
        seen += [*batch.entered_ids, *batch.exited_ids]
        came, went, totals = diff(client, fromSnapshotId=first, toSnapshotId=second, cursor=batch.cursor)
        assert sorted([*seen, *came, *went]) == sorted([*entered, *exited])
        assert totals == (7, 7, 7)
    wrong = {"fromSnapshotId": second, "toSnapshotId": first, "cursor": batches[0].cursor}
    assert refused(lambda: client.call("DiffSnapshots", wrong)).info.reason == "INVALID_PAGE_TOKEN"


def test_rows_that_are_missing_end_it_without_totals(
    client: Client, service: Service, two: tuple[str, str, list[str], list[str]], refused: Refused
) -> None:
    first, second, _, exited = two
    service.store.database["audience_member"].delete_one({"pk": exited[0], "audience": {"$regex": f"^{first}"}})
    refusal = refused(lambda: client.call("DiffSnapshots", {"fromSnapshotId": first, "toSnapshotId": second}))
    assert refusal.code.name == "INTERNAL"


@pytest.mark.parametrize("swept", [False, True])
def test_snapshots_deleted_midway_are_compared_completely_or_refused(
    client: Client,
    service: Service,
    two: tuple[str, str, list[str], list[str]],
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    swept: bool,
) -> None:
    first, second, entered, exited = two
    differences = type(service.store.snapshot_rows)
    original = differences.diff

    def delayed(*arguments: Any) -> Any:
        for snapshot in (first, second):
            client.call("DeleteSnapshot", {"id": snapshot})
        if swept:
            later = datetime.now(UTC) + timedelta(hours=2)
            service.store.snapshot_sweeper.sweep(later, later)
        yield from original(*arguments)

    monkeypatch.setattr(differences, "diff", delayed)
    if not swept:
        assert diff(client, fromSnapshotId=first, toSnapshotId=second) == (entered, exited, (7, 7, 7))
        return
    refusal = refused(lambda: client.call("DiffSnapshots", {"fromSnapshotId": first, "toSnapshotId": second}))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "SNAPSHOT_NOT_FOUND")


def test_incomparable_snapshots_are_refused_with_their_field_path(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    service.insert(org, [{}], "lead")
    contacts = client.snapshot(filter={"datatype": "contact", "where": {}}).id
    leads = client.snapshot(filter={"datatype": "lead", "where": {}}).id
    for request, reason, fields in (
        ({"fromSnapshotId": contacts}, "INVALID_FIELD", ["to_snapshot_id"]),
        ({"toSnapshotId": contacts}, "INVALID_FIELD", ["from_snapshot_id"]),
        ({"fromSnapshotId": contacts, "toSnapshotId": leads}, "INVALID_FIELD", ["to_snapshot_id"]),
        ({"fromSnapshotId": contacts, "toSnapshotId": contacts, "batchSize": -1}, "INVALID_FIELD", ["batch_size"]),
        ({"fromSnapshotId": contacts, "toSnapshotId": "snapshot-none"}, "SNAPSHOT_NOT_FOUND", []),
        ({"fromSnapshotId": contacts, "toSnapshotId": "segment-none"}, "SNAPSHOT_NOT_FOUND", []),
    ):
        refusal = refused(lambda request=request: client.call("DiffSnapshots", request))
        assert (refusal.info.reason, refusal.fields) == (reason, fields)
    other = service.client(f"{org}2")
    refusal = refused(lambda: other.call("DiffSnapshots", {"fromSnapshotId": contacts, "toSnapshotId": contacts}))
    assert refusal.info.reason == "SNAPSHOT_NOT_FOUND"
    service.store.database["audience_snapshot"].update_one({"pk": leads}, {"$set": {"state": "CREATING"}})
    refusal = refused(lambda: client.call("DiffSnapshots", {"fromSnapshotId": contacts, "toSnapshotId": leads}))
    assert refusal.info.reason == "SNAPSHOT_NOT_READY"
