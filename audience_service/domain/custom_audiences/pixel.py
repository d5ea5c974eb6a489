"""A retargeting pixel as a filter: who has so many events of a kind that are not older than so many days."""

from audience_service.domain.custom_audiences.model import PixelSpec
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
