"""Converters of syncs, their changes and receipts."""

from collections.abc import Sequence

from audience_service.domain.core.clock import now
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.pages import ListedPage
from audience_service.domain.syncs.changes import DEFAULT_LEASE, ChangesPart, ChangesRequest, ChangesTotals
from audience_service.domain.syncs.model import Batch, Receipt, Scan, Sync, SyncQuery, SyncSpec
from audience_service.pb.audience.v1 import sync_service_pb2 as pb
from audience_service.rpc.converters.exports import OPERATIONS
from audience_service.rpc.converters.structs import decode_duration, encode_timestamp


def decode_sync(message: pb.Sync) -> SyncSpec:
    """The fields of a sync that a caller may set. Raises InvalidArgument."""
    resend_after = None
    if message.HasField("resend_after"):
        resend_after = decode_duration(message.resend_after, "sync.resend_after")
    return SyncSpec(
        name=message.name,
        audience_ids=tuple(message.audience_ids),
        platform=message.platform,
        exclude_audience_ids=tuple(message.exclude_audience_ids),
        purpose=message.purpose,
        consent_fields=tuple(message.consent_fields),
        external_id=message.external_id,
        fields=tuple(message.fields),
        rules_version=message.rules_version,
        options=dict(message.options),
        default_region=message.default_region,
        phones_have_country_code=message.phones_have_country_code,
        resend_after=resend_after,
    )


def decode_sync_version(message: pb.Sync | pb.DeleteSyncRequest) -> int | None:
    """The version that a write expects, None for any version."""
    return message.version if message.HasField("version") else None


def decode_sync_query(message: pb.ListSyncsRequest) -> SyncQuery:
    """The criteria of a list of syncs."""
    return SyncQuery(message.platform, message.audience_id)


def decode_changes_request(message: pb.StreamSyncChangesRequest) -> ChangesRequest:
    """The request of a worker. Raises InvalidArgument."""
    lease = DEFAULT_LEASE
    if message.HasField("lease_duration"):
        lease = decode_duration(message.lease_duration, "lease_duration")
    return ChangesRequest(message.id, message.worker_id, message.max_batches, lease)


def decode_receipt(message: pb.AcknowledgeSyncBatchRequest) -> Receipt:
    """The platform's response to a batch, acknowledged now. Raises InvalidArgument."""
    for name in ("received_count", "invalid_count", "matched_count"):
        if getattr(message, name) < 0:
            raise InvalidArgument.at(name, "is negative; set the number that the platform returned")
    return Receipt(
        received_count=message.received_count,
        invalid_count=message.invalid_count,
        matched_count=message.matched_count if message.HasField("matched_count") else None,
        rejected_count=len(set(message.rejected_rows)),
        acknowledged_at=now(),
    )


def encode_sync(value: Sync, acknowledged: Sequence[Batch] = ()) -> pb.Sync:
    """The message of a sync, with the receipts of acknowledged batches."""
    spec = value.spec
    message = pb.Sync(
        id=value.id,
        name=spec.name,
        audience_ids=spec.audience_ids,
        exclude_audience_ids=spec.exclude_audience_ids,
        purpose=spec.purpose,
        consent_fields=spec.consent_fields,
        platform=spec.platform,
        external_id=spec.external_id,
        fields=spec.fields,
        rules_version=spec.rules_version,
        options=spec.options,
        default_region=spec.default_region,
        phones_have_country_code=spec.phones_have_country_code,
        version=value.version,
        create_time=encode_timestamp(value.created_at),
        update_time=encode_timestamp(value.updated_at),
        author=value.author,
        latest_scan=_encode_scan(value.latest_scan) if value.latest_scan else None,
        receipts=[encode_receipt(batch) for batch in acknowledged],
    )
    if spec.resend_after is not None:
        message.resend_after.FromTimedelta(spec.resend_after)
    return message


def encode_syncs(value: ListedPage[Sync]) -> pb.ListSyncsResponse:
    """The message of one page of syncs."""
    return pb.ListSyncsResponse(
        syncs=[encode_sync(sync) for sync in value.items],
        next_page_token=value.next_page_token,
        total_size=value.total,
    )


def encode_changes(value: ChangesPart | ChangesTotals) -> pb.StreamSyncChangesResponse:
    """The message of a batch, a part of a batch, or the totals."""
    if isinstance(value, ChangesTotals):
        totals = pb.SyncChangesTotals(
            batch_count=value.batch_count,
            open_batch_count=value.open_batch_count,
            blocked_count=value.blocked_count,
        )
        return pb.StreamSyncChangesResponse(totals=totals)
    message = pb.StreamSyncChangesResponse(
        batch_number=value.batch.number,
        operation=OPERATIONS[value.batch.operation],
        columns=value.format.columns,
        last_in_batch=value.ends_batch,
        rules_version=value.format.rules_version,
        options=value.format.options,
        lease_expire_time=encode_timestamp(value.batch.lease_until),
    )
    add = message.rows.add
    for row in value.rows:
        add().values.extend(row)
    return message


def encode_receipt(value: Batch) -> pb.SyncReceipt:
    """The message of an acknowledged batch."""
    receipt = value.receipt
    if receipt is None:
        raise ValueError("the batch is not acknowledged")
    return pb.SyncReceipt(
        batch_number=value.number,
        operation=OPERATIONS[value.operation],
        row_count=value.row_count,
        rejected_count=receipt.rejected_count,
        received_count=receipt.received_count,
        invalid_count=receipt.invalid_count,
        matched_count=receipt.matched_count,
        acknowledge_time=encode_timestamp(receipt.acknowledged_at),
    )


def _encode_scan(value: Scan) -> pb.SyncScan:
    return pb.SyncScan(
        start_time=encode_timestamp(value.started_at),
        end_time=encode_timestamp(value.ended_at),
        member_count=value.member_count,
        consented_count=value.consented_count,
        valid_count=value.valid_count,
        rules_version=value.rules_version,
    )
