"""Between messages and the domain's dataclasses."""

from typing import Any

import pytest

from audience_service.domain.filters import Filter
from audience_service.domain.segments.model import Segment, SegmentType
from audience_service.domain.segments.version import SegmentVersion
from audience_service.pb.audience.v1.segment_service_pb2 import ListSegmentsResponse, ListSegmentVersionsResponse
from audience_service.rpc.converters.segments import encode_segment, encode_segment_version


@pytest.mark.parametrize("lists", range(6))
def test_a_filter_of_any_depth_can_be_read_from_every_answer(lists: int) -> None:
    value: Any = 1
    for _ in range(lists):
        value = [value]
    where: Any = {"tags": {"$eq": value}}
    for _ in range(22):
        where = {"$and": [where]}
        segment = Segment("segment-1", "deep", "", SegmentType.DYNAMIC, Filter("contact", where))
        page = ListSegmentsResponse(segments=[encode_segment(segment)])
        assert ListSegmentsResponse.FromString(page.SerializeToString()) == page
        versions = ListSegmentVersionsResponse(versions=[encode_segment_version(SegmentVersion(segment, ()))])
        assert ListSegmentVersionsResponse.FromString(versions.SerializeToString()) == versions
