"""A retargeting pixel as a filter on contacts: at least n matching events in the last d days.

A pixel with where {"page": "pricing"}, within_days 30 and min_events 2 becomes

    {"$related": {"datatype": "event", "on": {"local": "pk", "foreign": "contactId"}, "count": {"$gte": 2},
                  "where": {"$and": [{"page": "pricing"}, {"createdate": {"$gte": 30 days ago, "$lte": now}}]}}}
"""

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
"""The field of the spec for each field path of the filter. Errors are reported at the former."""


def pixel_filter(datatype: str, spec: PixelSpec) -> Filter:
    """The filter of the pixel. Its relative dates are evaluated at each use.

    An event counts from its date on, for `within_days` times 24 hours, both ends included. An event dated in the
    future, by a wrong clock, counts only from that date on. Otherwise its contact would stay a member for too long.
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
    "Contacts with event records that match a filter and are not older than a number of days.",
    (
        TypeField("where", "the filter that an event has to match", required=True),
        TypeField("within_days", "the number of days that an event makes its contact a member for", required=True),
        TypeField("event_datatype", "the collection of the events; default event"),
        TypeField("date_field", "the event's field with its date; default createdate"),
        TypeField("contact_field", "the event's field with the contact's id; default contactId"),
        TypeField("min_events", "the least number of such events; default 1"),
    ),
    (
        "The audience has no list: each use evaluates the events that are stored then.",
        "An event counts from its date on until it is older than within_days times 24 hours.",
        "Archived and deleted events, and events of other orgs, do not count.",
    ),
    {"max_within_days": str(MAX_DAYS), "max_min_events": str(MAX_EVENTS)},
)
