"""Custom audiences that cannot be made, each refused with its place."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.support.client import Client, Refusal

Refused = Callable[..., Refusal]


@pytest.mark.parametrize(
    ("written", "field_path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"description": "x" * 2_001}, "description"),
        ({"type": ""}, "type"),
        ({"type": "segment"}, "type"),
        ({"datatype": "passwords"}, "datatype"),
        ({"customerMatch": {"platform": "meta"}}, "customer_match"),
        ({"type": "customer_match"}, "customer_match"),
        ({"type": "customer_match", "customerMatch": {}}, "customer_match.platform"),
        (
            {"type": "customer_match", "customerMatch": {"platform": "meta", "rulesVersion": "x"}},
            "customer_match.rules_version",
        ),
        (
            {"type": "customer_match", "customerMatch": {"platform": "tiktok", "options": {"nope": "x"}}},
            "customer_match.options.nope",
        ),
        ({"type": "lookalike", "retargetingPixel": {}}, "lookalike"),
        ({"type": "retargeting_pixel", "retargetingPixel": {"withinDays": 1}}, "retargeting_pixel.where"),
        ({"type": "retargeting_pixel", "retargetingPixel": {"where": {}}}, "retargeting_pixel.within_days"),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {}, "withinDays": 541}},
            "retargeting_pixel.within_days",
        ),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {}, "withinDays": 1, "minEvents": 1001}},
            "retargeting_pixel.min_events",
        ),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {"a": {"$no": 1}}, "withinDays": 1}},
            "retargeting_pixel.where.a.$no",
        ),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {"$inAudience": "x"}, "withinDays": 1}},
            "retargeting_pixel.where.$inAudience",
        ),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {}, "withinDays": 1, "eventDatatype": "x"}},
            "retargeting_pixel.event_datatype",
        ),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {}, "withinDays": 1, "dateField": "$x"}},
            "retargeting_pixel.date_field",
        ),
        (
            {"type": "retargeting_pixel", "retargetingPixel": {"where": {}, "withinDays": 1, "contactField": "$x"}},
            "retargeting_pixel.contact_field",
        ),
    ],
)
def test_an_invalid_draft_is_refused_with_its_field_path(
    client: Client, refused: Refused, written: dict[str, Any], field_path: str
) -> None:
    refusal = refused(lambda: client.custom(**{"name": "x", **written}))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == [f"custom_audience.{field_path}"]
    assert client.call("ListCustomAudiences").total_size == 0


@pytest.mark.parametrize(
    ("value", "ends"),
    [(2**60, "may have rounded"), ({"a": 1, "b": 2}, "does not keep it; name the inner fields, like address.city")],
)
def test_pixel_errors_do_not_recommend_where_json(client: Client, refused: Refused, value: Any, ends: str) -> None:
    rule = {"where": {"a": value}, "withinDays": 1}
    refusal = refused(lambda: client.custom(name="x", type="retargeting_pixel", retargetingPixel=rule))
    assert refusal.message.endswith(ends)
