"""Describes the types of custom audience that uploads fill."""

from audience_service.domain.custom_audiences.audience_types import TypeDescription, TypeField
from audience_service.domain.custom_audiences.model import CustomType
from audience_service.domain.identifiers.platforms import PLATFORM_RULES
from audience_service.domain.uploads.csv_reader import MAX_CELL_BYTES, MAX_ROW_BYTES
from audience_service.domain.uploads.model import (
    MAX_COLUMNS,
    MAX_CONTACTS_PER_IDENTIFIER,
    MAX_OPEN_TIME,
    MAX_REJECTIONS,
)
from audience_service.domain.uploads.stream_messages import MAX_CHUNK_BYTES

_COLUMNS = (
    TypeField("id", "a contact's id"),
    TypeField("email", "an email address"),
    TypeField("phone", "a phone number with its country code, or of the upload's default_region"),
)
_UPLOAD_LIMITS = {
    "max_chunk_bytes": str(MAX_CHUNK_BYTES),
    "max_row_bytes": str(MAX_ROW_BYTES),
    "max_cell_bytes": str(MAX_CELL_BYTES),
    "max_columns": str(MAX_COLUMNS),
    "max_open_days": str(MAX_OPEN_TIME.days),
    "max_returned_rejections": str(MAX_REJECTIONS),
    "max_contacts_per_identifier": str(MAX_CONTACTS_PER_IDENTIFIER),
}
_UPLOAD_RULES = (
    "A file is CSV in UTF-8, with or without a byte order mark.",
    "A row is matched by the first of its fields, in this order, that any contact has. Archived contacts do not count.",
    "All contacts with that value are added to the list, or removed from it.",
    f"A value of more than {MAX_CONTACTS_PER_IDENTIFIER:,} contacts matches none of them.",
    "Rows without a match are stored, and RefreshCustomAudience matches them again.",
    "The list is published in one write at the end of the upload. Readers see the old list or the new one.",
)

FILE_UPLOAD = TypeDescription(
    CustomType.FILE_UPLOAD,
    "File upload",
    "A list of contacts, from a file with their ids, email addresses or phone numbers.",
    _COLUMNS,
    _UPLOAD_RULES,
    _UPLOAD_LIMITS,
)

CUSTOMER_MATCH = TypeDescription(
    CustomType.CUSTOMER_MATCH,
    "Customer match",
    "A list of contacts, from a file with identifiers that were hashed by an ad platform's rules.",
    (
        *_COLUMNS,
        TypeField("email_sha256", "the SHA-256 of an email address by the rules, in hexadecimal digits"),
        TypeField("phone_sha256", "the SHA-256 of a phone number by the rules, in hexadecimal digits"),
    ),
    (
        *_UPLOAD_RULES,
        "A hash matches the contacts whose identifier has the same hash by the audience's rules_version.",
    ),
    _UPLOAD_LIMITS,
    tuple(rules.version for rules in PLATFORM_RULES),
)
