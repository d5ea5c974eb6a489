"""Stream all members of an org from a running service, and check completeness, order and memory use.

    python scripts/stream_memory.py --address 127.0.0.1:50051 --org big --pid PID [--fields email,country]

PID is the server's. The script reads its resident memory from /proc (Linux) after a tenth of the stream and at the end.
A difference under 30 MB counts as constant. The AUDIENCE_JWT_* settings of the environment sign the token.
"""

import argparse
import sys
import time
from pathlib import Path

import grpc
from google.protobuf.struct_pb2 import Struct

from audience_service.cli.token import mint
from audience_service.pb.audience.v1.membership_service_pb2 import StreamMembersRequest
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.pb.audience.v1.reach_service_pb2 import EstimateReachRequest
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.resources_pb2 import Filter
from audience_service.settings import Settings

MAX_GROWTH_MB = 30
EVERYONE = Filter(datatype="contact", where=Struct())


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Stream, check and print the results. Exits with 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--org", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--fields", default="")
    arguments = parser.parse_args()
    metadata = (
        ("authorization", f"Bearer {mint(Settings.load(), org=arguments.org, subject='check')}"),
        ("orgid", arguments.org),
    )
    fields = [field for field in arguments.fields.split(",") if field]
    with grpc.insecure_channel(arguments.address) as channel:
        reach = ReachServiceStub(channel).EstimateReach(EstimateReachRequest(filter=EVERYONE), metadata=metadata)
        started_at = time.monotonic()
        request = StreamMembersRequest(filter=EVERYONE, fields=fields)
        count, last, is_ordered, early_mb, total, sent = 0, "", True, 0.0, -1, 0
        for message in MembershipServiceStub(channel).StreamMembers(request, metadata=metadata):
            sent += message.ByteSize()
            for member in message.members:
                is_ordered = is_ordered and member.id > last
                last = member.id
                count += 1
            if not early_mb and count >= reach.count / 10:
                early_mb = resident_mb(arguments.pid)
            total = message.totals.member_count if message.HasField("totals") else total
        seconds, late_mb = time.monotonic() - started_at, resident_mb(arguments.pid)
    is_complete = count == total == reach.count
    print(  # noqa: T201
        f"members {count:,}, total {total:,}, reach {reach.count:,}: {'complete' if is_complete else 'NOT COMPLETE'}\n"
        f"order: {'ascending' if is_ordered else 'NOT ASCENDING'}\n"
        f"{seconds:.1f} s, {count / seconds:,.0f} members per second, {sent / 2**20:.1f} MiB\n"
        f"resident memory of the server: {early_mb:.1f} MB after a tenth, {late_mb:.1f} MB at the end, "
        f"{late_mb - early_mb:+.1f} MB: {'constant' if late_mb - early_mb < MAX_GROWTH_MB else 'NOT CONSTANT'}"
    )
    sys.exit(not (is_complete and is_ordered and late_mb - early_mb < MAX_GROWTH_MB))


if __name__ == "__main__":
    main()
