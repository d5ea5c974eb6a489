"""Converters of exports."""

from collections.abc import Mapping

from audience_service.domain.exports.batches import ADD, REMOVE, ExportPart
from audience_service.domain.exports.readiness import Readiness, Removals
from audience_service.domain.exports.service import ExportRequest
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.converters.audiences import decode_selection
from audience_service.rpc.converters.membership import encode_exclusions

OPERATIONS = {
    "": pb.EXPORT_OPERATION_UNSPECIFIED,
    ADD: pb.EXPORT_OPERATION_ADD,
    REMOVE: pb.EXPORT_OPERATION_REMOVE,
}
"""The wire's number of each operation; "" is that of a message without rows."""


def decode_export(message: pb.ExportIdentifiersRequest) -> ExportRequest:
    """The export that a request describes. Raises InvalidFilter."""
    return ExportRequest(
        selection=decode_selection(message),
        platform=message.platform,
        fields=tuple(message.fields),
        rules_version=message.rules_version,
        options=dict(message.options),
        default_region=message.default_region,
        phones_have_country_code=message.phones_have_country_code,
        consent_fields=tuple(message.consent_fields),
        since_snapshot_id=message.since_snapshot_id,
        cursor=message.cursor,
    )


def encode_export(value: ExportPart) -> pb.ExportIdentifiersResponse:
    """The message of a batch, a part of a batch, or the readiness."""
    message = pb.ExportIdentifiersResponse(
        columns=value.columns,
        operation=OPERATIONS[value.operation],
        rules_version=value.rules.version,
        options=value.rules.chosen,
        batch_index=value.batch,
        last_in_batch=value.ends_batch,
        cursor=value.cursor,
        readiness=None if value.readiness is None else _encode_readiness(value.readiness),
    )
    add = message.rows.add
    for row in value.rows:
        add().values.extend(row)
    return message


def _encode_readiness(value: Readiness) -> pb.ExportReadiness:
    removals = value.removals or Removals(0, 0, 0)
    return pb.ExportReadiness(
        member_count=value.members,
        exclusions=encode_exclusions(value.exclusions),
        consented_count=value.consented,
        with_identifier_count=value.with_identifiers,
        valid_count=value.valid,
        distinct_count=value.distinct,
        invalid=[
            pb.InvalidIdentifiers(field=name, count=count, problems=_counts_of(name, value.problems))
            for name, count in value.invalid.items()
        ],
        minimum_count=value.min_list_size,
        minimum_met=value.minimum_met,
        removed_count=removals.removed,
        retained_count=removals.retained,
        unremovable_count=removals.unremovable,
        changed=[
            pb.ChangedIdentifiers(field=name, change=change, count=count)
            for (name, change), count in sorted(value.changes.items())
        ],
    )


def _counts_of(field: str, problems: Mapping[tuple[str, str], int]) -> dict[str, int]:
    return {problem: count for (name, problem), count in problems.items() if name == field}
