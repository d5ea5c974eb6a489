"""The workload of each RPC, which decides whose permits or slots it uses."""

from enum import Enum, auto


class Workload(Enum):
    """A kind of work. Calls of one kind share permits or slots, and never wait for those of another."""

    READ = auto()
    """Reads and writes of a few records by key, in milliseconds."""
    QUERY = auto()
    """Queries of an org's records, and writes that evaluate a filter."""
    ANALYSIS = auto()
    """Several queries, or one that groups or explains."""
    STREAM = auto()
    """Streams of members and rows, and uploads."""
    WATCH = auto()
    """Watch streams: open for hours, and mostly idle."""

    @property
    def label(self) -> str:
        """The name in metrics, such as `read`."""
        return self.name.lower()


WORKLOADS: dict[str, Workload] = {
    "RegisterUse": Workload.READ,
    "ReleaseUse": Workload.READ,
    "GetAudienceUsage": Workload.QUERY,
    "ListExports": Workload.READ,
    "EraseContact": Workload.ANALYSIS,
    "CreateCustomAudience": Workload.READ,
    "ListCustomAudiences": Workload.READ,
    "GetCustomAudience": Workload.READ,
    "UpdateCustomAudience": Workload.READ,
    "DeleteCustomAudience": Workload.READ,
    "RefreshCustomAudience": Workload.READ,
    "ListCustomAudienceTypes": Workload.READ,
    "UploadMembers": Workload.STREAM,
    "GetUpload": Workload.READ,
    "ListRejectedRows": Workload.READ,
    "StreamUnmatchedRows": Workload.STREAM,
    "GetLookalikeModel": Workload.READ,
    "ExplainFilter": Workload.ANALYSIS,
    "ListFields": Workload.ANALYSIS,
    "StreamMembers": Workload.STREAM,
    "CheckMembership": Workload.QUERY,
    "ListAudiencesOfContact": Workload.QUERY,
    "ExplainMembership": Workload.QUERY,
    "CreateSnapshot": Workload.READ,
    "GetSnapshot": Workload.READ,
    "ListSnapshots": Workload.READ,
    "DeleteSnapshot": Workload.READ,
    "DiffSnapshots": Workload.STREAM,
    "WatchMembership": Workload.WATCH,
    "ExportIdentifiers": Workload.STREAM,
    "CreateSync": Workload.READ,
    "GetSync": Workload.READ,
    "ListSyncs": Workload.READ,
    "UpdateSync": Workload.READ,
    "DeleteSync": Workload.READ,
    "ResetSync": Workload.QUERY,
    "StreamSyncChanges": Workload.STREAM,
    "AcknowledgeSyncBatch": Workload.QUERY,
    "EstimateReach": Workload.QUERY,
    "StreamReach": Workload.STREAM,
    "GetOverlap": Workload.ANALYSIS,
    "GetOverlapRegions": Workload.ANALYSIS,
    "GetInsights": Workload.ANALYSIS,
    "CreateSegment": Workload.QUERY,
    "GetSegment": Workload.READ,
    "ListSegments": Workload.READ,
    "UpdateSegment": Workload.QUERY,
    "DeleteSegment": Workload.QUERY,
    "UndeleteSegment": Workload.QUERY,
    "RollbackSegment": Workload.QUERY,
    "ListSegmentVersions": Workload.READ,
    "AddSegmentContacts": Workload.QUERY,
    "RemoveSegmentContacts": Workload.QUERY,
    "ListSegmentContacts": Workload.READ,
    "ListInterests": Workload.READ,
    "ListLocations": Workload.READ,
    "ListTargetingOptions": Workload.READ,
}
"""The workload of each RPC, by its name. The server does not start without an RPC's row."""
