"""The services of this package, as their protos describe them."""

from google.protobuf.descriptor import ServiceDescriptor

from audience_service.pb.audience.v1 import (
    audience_service_pb2,
    custom_audience_service_pb2,
    filter_service_pb2,
    membership_service_pb2,
    reach_service_pb2,
    segment_service_pb2,
    sync_service_pb2,
    targeting_service_pb2,
)

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for module in (
        segment_service_pb2,
        filter_service_pb2,
        audience_service_pb2,
        custom_audience_service_pb2,
        reach_service_pb2,
        membership_service_pb2,
        sync_service_pb2,
        targeting_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)
"""The descriptors of all services of this package."""
