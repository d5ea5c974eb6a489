"""Converters of erasures."""

from audience_service.domain.erasure.model import ErasureReport
from audience_service.domain.erasure.service import ContactSelector
from audience_service.pb.audience.v1 import audience_service_pb2 as pb

_MAX_LISTED = 1_000


def decode_contact_selector(message: pb.EraseContactRequest) -> ContactSelector:
    """Whom a request erases."""
    return ContactSelector(message.contact_id, message.email, message.phone)


def encode_erasure(value: ErasureReport) -> pb.EraseContactResponse:
    """The message of a report."""
    return pb.EraseContactResponse(
        contact_count=value.contact_count,
        removed_counts=dict(value.removal.counts),
        rewritten_ids=list(value.removal.rewritten)[:_MAX_LISTED],
        rewritten_count=len(value.removal.rewritten),
        shared_identifier_count=value.shared_count,
        remaining=[
            pb.ErasureRemainder(system=found.system, description=found.description, count=found.count)
            for found in value.remaining
        ],
    )
