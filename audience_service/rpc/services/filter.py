"""The servicer of FilterService."""

import grpc

from audience_service.domain.explain.filter_explanation import FilterExplainer
from audience_service.domain.schema.service import FieldCatalog
from audience_service.pb.audience.v1 import filter_service_pb2 as pb
from audience_service.pb.audience.v1.filter_service_pb2_grpc import FilterServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.audiences import decode_selection
from audience_service.rpc.converters.explain import decode_analyze, encode_fields, encode_filter_explanation


class FilterServicer(FilterServiceServicer):
    """Implements FilterService."""

    def __init__(self, explanations: FilterExplainer, catalog: FieldCatalog) -> None:
        self._explanations = explanations
        self._catalog = catalog

    def ExplainFilter(
        self, request: pb.ExplainFilterRequest, context: grpc.ServicerContext
    ) -> pb.ExplainFilterResponse:
        """Explain a filter: its description, its query plan, and a recommended index."""
        selection = decode_selection(request)
        explanation = self._explanations.explain(current_context(), selection, analyze=decode_analyze(request))
        return encode_filter_explanation(explanation)

    def ListFields(self, request: pb.ListFieldsRequest, context: grpc.ServicerContext) -> pb.ListFieldsResponse:
        """The fields that filters can use."""
        return encode_fields(self._catalog.list(current_context(), request.datatype, request.prefix))
