"""The servicer of TargetingService."""

import grpc

from audience_service.domain.targeting.service import NodeQuery, Targeting
from audience_service.pb.audience.v1 import targeting_service_pb2 as pb
from audience_service.pb.audience.v1.targeting_service_pb2_grpc import TargetingServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.paging import decode_page
from audience_service.rpc.converters.targeting import decode_languages, encode_targeting_node


class TargetingServicer(TargetingServiceServicer):
    """Implements TargetingService."""

    def __init__(self, targeting: Targeting) -> None:
        self._targeting = targeting

    def ListInterests(
        self, request: pb.ListInterestsRequest, context: grpc.ServicerContext
    ) -> pb.ListInterestsResponse:
        """One page of interests."""
        requested = decode_page(request.page_size, request.page_token, default=20, maximum=200)
        query = NodeQuery(
            query=request.query,
            platform=request.platform,
            parent_id=request.parent_id,
            kind=request.kind,
            top_level=request.top_level,
        )
        page = self._targeting.list(current_context(), "interests", query, requested)
        return pb.ListInterestsResponse(
            nodes=[encode_targeting_node(node, ids) for node, ids in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )

    def ListLocations(
        self, request: pb.ListLocationsRequest, context: grpc.ServicerContext
    ) -> pb.ListLocationsResponse:
        """One page of places or languages."""
        requested = decode_page(request.page_size, request.page_token, default=20, maximum=200)
        languages = decode_languages(request.languages)
        query = NodeQuery(
            query=request.query,
            platform=request.platform,
            parent_id=request.parent_id,
            country=request.country,
            kind=request.kind,
            top_level=request.top_level,
        )
        page = self._targeting.list(current_context(), "places", query, requested)
        return pb.ListLocationsResponse(
            nodes=[encode_targeting_node(node, ids, languages) for node, ids in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )

    def ListTargetingOptions(
        self, request: pb.ListTargetingOptionsRequest, context: grpc.ServicerContext
    ) -> pb.ListTargetingOptionsResponse:
        """One page of facets and options."""
        requested = decode_page(request.page_size, request.page_token, default=20, maximum=200)
        query = NodeQuery(
            query=request.query, platform=request.platform, parent_id=request.parent_id, kind=request.kind
        )
        page = self._targeting.list(current_context(), "options", query, requested)
        return pb.ListTargetingOptionsResponse(
            nodes=[encode_targeting_node(node, ids) for node, ids in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )
