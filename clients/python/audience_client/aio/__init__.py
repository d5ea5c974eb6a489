"""The client for asyncio. It is the source of `audience_client.sync`, which `scripts/python_client.py` generates."""

from audience_client.aio.client import AsyncAudienceClient
from audience_client.aio.members import AsyncMembers
from audience_client.aio.watch import AsyncWatchState

__all__ = ["AsyncAudienceClient", "AsyncMembers", "AsyncWatchState"]
