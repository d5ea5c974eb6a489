"""Report the segments: their sizes, the overlap of the largest two, and the members of the largest as a CSV file."""

import os
from pathlib import Path

from audience_client import AudienceClient


def reports(client: AudienceClient, file: Path = Path("members.csv")) -> int:
    """The number of members in the file."""
    sizes = {segment.id: client.reach(segment.id).count for segment in client.segments(order_by="name")}
    largest, second = sorted(sizes, key=lambda segment_id: -sizes[segment_id])[:2]
    for region in client.overlap([largest, second]).regions:
        print(region.count, "contacts are in", " and ".join(region.audience_ids))
    return client.members(largest, fields=["email", "country", "tags"]).to_csv(file)


if __name__ == "__main__":
    address = os.environ.get("ADDRESS", "127.0.0.1:50051")
    with AudienceClient(address, org="demo", token=os.environ["TOKEN"]) as connected:
        print("members in the file:", reports(connected))
