"""A client of audience-service, the service of audiences and segmentation.

with AudienceClient("127.0.0.1:50051", org="demo", token=get_token) as client:
    for member in client.members("segment-...", fields=["email"]):
        ...
"""

from audience_client.aio import AsyncAudienceClient, AsyncMembers, AsyncWatchState
from audience_client.errors import AudienceError, FieldViolation
from audience_client.mirrors import IdentifierBatch, Mirror
from audience_client.records import Member
from audience_client.selection import Audience
from audience_client.sync import AudienceClient, Members, WatchState
from audience_client.watches import StopWatch

__all__ = [
    "AsyncAudienceClient",
    "AsyncMembers",
    "AsyncWatchState",
    "Audience",
    "AudienceClient",
    "AudienceError",
    "FieldViolation",
    "IdentifierBatch",
    "Member",
    "Members",
    "Mirror",
    "StopWatch",
    "WatchState",
]
