"""The members of an audience, as an iterator and as tables."""

import csv
from collections.abc import AsyncIterator, Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from audience_client.aio.connection import AsyncConnection
from audience_client.pb.audience.v1 import membership_service_pb2 as pb
from audience_client.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_client.records import Member, columns, read_member, row

if TYPE_CHECKING:
    import polars
    import pyarrow


class AsyncMembers:
    """The members that a request selects. Each iteration reads them from the beginning, each member once.

    `totals` is set at the end of an iteration: the number of members, and of records that were left out, by reason.
    """

    def __init__(self, connection: AsyncConnection, request: pb.StreamMembersRequest) -> None:
        self._connection = connection
        self._request = request
        self.totals: pb.StreamTotals | None = None

    async def __aiter__(self) -> AsyncIterator[Member]:
        async for batch in self.batches():
            for member in batch:
                yield member

    async def batches(self) -> AsyncIterator[list[Member]]:
        """The members in batches, as the service sends them. Raises AudienceError."""
        self.totals = None
        stub = MembershipServiceStub(self._connection.channel)
        is_last: Callable[[pb.StreamMembersResponse], bool] = lambda response: response.HasField("totals")  # noqa: E731
        async for response in self._connection.stream(stub.StreamMembers, self._request, is_last):
            if response.members:
                yield [read_member(member) for member in response.members]
            if response.HasField("totals"):
                self.totals = response.totals

    async def ids(self) -> set[str]:
        """The ids of the members. Raises AudienceError."""
        return {member.id async for member in self}

    async def to_arrow(self) -> "pyarrow.Table":
        """A table of the members: `id`, then the requested fields. It needs the extra `arrow`.

        A column with values of several types, or with objects, is text. Raises AudienceError.
        """
        import pyarrow

        return pyarrow.table(await self._columns())

    async def to_polars(self) -> "polars.DataFrame":
        """A data frame of the members, with the columns of to_arrow. It needs the extra `polars`."""
        import polars

        return polars.DataFrame(await self._columns(), strict=False)

    async def to_csv(self, path: str | PathLike[str]) -> int:
        """Write a CSV file of the members: `id`, then the requested fields. Returns the number of members.

        It needs memory for one batch only. Lists and objects are JSON, a missing value is empty. Raises AudienceError,
        OSError. The file is incomplete after an error.
        """
        count = 0
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", *self._request.fields])
            async for batch in self.batches():
                writer.writerows(row(member, self._request.fields) for member in batch)
                count += len(batch)
        return count

    async def _columns(self) -> dict[str, list[Any]]:
        return columns([member async for member in self], self._request.fields)
