"""A retargeting pixel as a filter: who has so many events of a kind that are not older than so many days."""

from audience_service.domain.custom_audiences.audience_types import TypeDescription, TypeField
from audience_service.domain.custom_audiences.model import CustomType, PixelSpec
from audience_service.domain.filters import Filter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.relative_dates import NOW

MAX_DAYS, MAX_EVENTS = 540, 1_000

SPEC_FIELDS = {
    "where.$related.where.$and[0]": "where",
    "where.$related.where.$and[1]": "date_field",
    "where.$related.datatype": "event_datatype",
    "where.$related.on.foreign": "contact_field",
}
"""Which field of the spec stands at a place of the filter."""


def pixel_filter(datatype: str, spec: PixelSpec) -> Filter:
    """The filter of the pixel: evaluated at each use, by its relative dates.

    An event counts from its date on, for `within_days` times 24 hours, both ends included. One that is dated ahead, by
    a clock that is wrong, does not count until then, or it would keep its contact for longer than the retention.
    """
    date_condition = {spec.date_field: {"$gte": _days_ago(spec.within_days), "$lte": _days_ago(0)}}
    related = {
        "datatype": spec.event_datatype,
        "on": {"local": "pk", "foreign": spec.contact_field},
        "where": {"$and": [spec.where or {}, date_condition]},
        "count": {"$gte": spec.min_events},
    }
    return Filter(datatype, {"$related": related}, exact=False)


def _days_ago(days: int) -> Document:
    return {"$dateSubtract": {"startDate": NOW, "unit": "day", "amount": days}}


RETARGETING_PIXEL = TypeDescription(
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
)
