"""What a mirror of an audience on an ad platform sends and returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from audience_client.pb.audience.v1 import membership_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class IdentifierBatch:
    """The rows of one request to an ad platform, in the form that it accepts.

    `columns` are the platform's names for the values of a row. `is_removal` is whether the rows must be removed from
    the platform's list; otherwise they must be added.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_removal: bool

    @classmethod
    def read(cls, last: pb.ExportIdentifiersResponse, rows: Sequence[Sequence[str]]) -> Self:
        """The batch that a message completes."""
        return cls(list(last.columns), rows, last.operation == pb.EXPORT_OPERATION_REMOVE)


@dataclass(frozen=True, slots=True)
class Mirror:
    """The state of a platform's list: it equals this snapshot. `readiness` counts the usable members."""

    snapshot_id: str
    readiness: pb.ExportReadiness
