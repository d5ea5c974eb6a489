"""The types of custom audience, as ListCustomAudienceTypes tells of them: a row for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from audience_service.domain.custom_audiences.model import CustomType
from audience_service.domain.custom_audiences.pixel import MAX_DAYS, MAX_EVENTS
from audience_service.domain.identifiers.platforms import PLATFORM_RULES
from audience_service.domain.lookalikes.features import MAX_FIELDS
from audience_service.domain.lookalikes.spec import MAX_SHARE
from audience_service.domain.lookalikes.training import MIN_SEED_SIZE
from audience_service.domain.lookalikes.weights import MAX_FACTORS
from audience_service.domain.uploads.csv_reader import MAX_CELL_BYTES, MAX_ROW_BYTES
from audience_service.domain.uploads.model import (
    MAX_COLUMNS,
    MAX_CONTACTS_PER_IDENTIFIER,
    MAX_OPEN_TIME,
    MAX_REJECTIONS,
)
from audience_service.domain.uploads.stream_messages import MAX_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class TypeField:
    """A column of an upload, or a field of a spec."""

    name: str
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """One type: the columns of its uploads or the fields of its spec, its limits by name, and what holds of it."""

    type: CustomType
    title: str
    description: str
    fields: tuple[TypeField, ...]
    rules: tuple[str, ...]
    limits: Mapping[str, str] = field(default_factory=dict)
    platform_rules: tuple[str, ...] = ()


_COLUMNS = (
    TypeField("id", "a contact's id"),
    TypeField("email", "an email address"),
    TypeField("phone", "a phone number, with its country code, or in a country that the upload names"),
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
    "A row is matched by the first of its fields that any contact in use has, in the order of the fields here.",
    "All contacts that have it are added to the list, or removed from it.",
    f"A value that more than {MAX_CONTACTS_PER_IDENTIFIER:,} contacts have matches none of them.",
    "Rows that match nobody are kept, and matched again by RefreshCustomAudience.",
    "The list is published whole at the end of the upload: readers see the one before or the one after.",
)

CUSTOM_TYPES = (
    TypeDescription(
        CustomType.FILE_UPLOAD,
        "File upload",
        "A list of contacts, from a file with their ids, email addresses or phone numbers.",
        _COLUMNS,
        _UPLOAD_RULES,
        _UPLOAD_LIMITS,
    ),
    TypeDescription(
        CustomType.CUSTOMER_MATCH,
        "Customer match",
        "A list of contacts, from a file with addresses that were hashed as an ad platform takes them.",
        (
            *_COLUMNS,
            TypeField("email_sha256", "the SHA-256 of an email address by the rules, in hexadecimal digits"),
            TypeField("phone_sha256", "the SHA-256 of a phone number by the rules, in hexadecimal digits"),
        ),
        (
            *_UPLOAD_RULES,
            "A hash matches the contacts whose address comes to the same by the audience's version of the rules.",
        ),
        _UPLOAD_LIMITS,
        tuple(rules.version for rules in PLATFORM_RULES),
    ),
    TypeDescription(
        CustomType.LOOKALIKE,
        "Lookalike",
        "Those of the org who are most like the members of another audience, by a model that can be looked into.",
        (
            TypeField("source_audience_id", "the audience whose members they are to be like", required=True),
            TypeField("share", "how many there are to be, as a part of the org's records; this or count"),
            TypeField("count", "how many there are to be"),
            TypeField("countries", "where they may be, as codes of two letters; default anywhere"),
            TypeField("include_source", "whether members of the source may be among them; default not"),
            TypeField("fields", "the paths that likeness is told by; default those that the docs list"),
            TypeField("exclude_fields", "paths that are left out of those"),
        ),
        (
            "Members are those with the highest scores above 0; GetLookalikeModel shows what they are made of.",
            "A fifth of the source's members is held out of the model, and recall and AUC are of them.",
            "Protected fields, and those that the source's filter asks about, are used only where `fields` names them.",
            "Modelled when it is made and whenever it is refreshed; between, the list stays as it is.",
        ),
        {
            "min_seed_size": str(MIN_SEED_SIZE),
            "max_share": str(MAX_SHARE),
            "max_fields": str(MAX_FIELDS),
            "max_factors_per_field": str(MAX_FACTORS),
        },
    ),
    TypeDescription(
        CustomType.RETARGETING_PIXEL,
        "Retargeting pixel",
        "Those of whom there are event records that match a rule and are not older than so many days.",
        (
            TypeField("where", "what an event has to match, in the filter language", required=True),
            TypeField("within_days", "how many days an event makes its contact a member for", required=True),
            TypeField("event_datatype", "the collection of the events; default event"),
            TypeField("date_field", "the event's field that says when it was; default createdate"),
            TypeField("contact_field", "the event's field that holds the contact's id; default contactId"),
            TypeField("min_events", "how many such events it takes; default 1"),
        ),
        (
            "A rule, evaluated at each use by the events that there are then: it has no list.",
            "An event counts from its date on until it is older than within_days times 24 hours.",
            "Events that are archived or deleted, or of another org, count for nobody.",
        ),
        {"max_within_days": str(MAX_DAYS), "max_min_events": str(MAX_EVENTS)},
    ),
)
"""All types."""
