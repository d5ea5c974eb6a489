"""Keep a list on Meta equal to an audience. Each run after the first sends the differences only."""

import os
from pathlib import Path

from audience_client import AudienceClient, IdentifierBatch

STATE = Path("meta-vips.snapshot")


def upload(batch: IdentifierBatch) -> None:
    """Stands for a request to the platform."""
    print("remove" if batch.is_removal else "add", len(batch.rows), "rows with", ", ".join(batch.columns))


def ads(client: AudienceClient, state: Path = STATE) -> int:
    """The number of members that the platform can use."""
    segment = client.segment("VIPs")
    since = state.read_text() if state.exists() else ""
    mirror = client.mirror(segment.id, "meta", upload, since=since, fields=["email", "phone"], default_region="US")
    state.write_text(mirror.snapshot_id)
    return mirror.readiness.valid_count


if __name__ == "__main__":
    address = os.environ.get("ADDRESS", "127.0.0.1:50051")
    with AudienceClient(address, org="demo", token=os.environ["TOKEN"]) as connected:
        print("members on the platform:", ads(connected))
