"""Checks deploy/monitoring with promtool and with a Prometheus that scrapes a running service.

`make check-monitoring` runs it. It needs promtool and prometheus, and a MongoDB in AUDIENCE_TEST_MONGODB_URI, in which
it creates a database and drops it. It prints each query of the dashboard with the number of its time series.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from pymongo import MongoClient

from audience_service.cli.token import mint
from audience_service.settings import Settings
from scripts.protos import ROOT

FOLDER = ROOT / "deploy/monitoring"
_LOAD_SECONDS = 25
_FAILURES_ONLY = ("connection_failures",)
"""Metrics without a series while nothing fails."""


def main() -> None:
    """Check the files. Exits with 1 if a check fails."""
    uri = os.environ.get("AUDIENCE_TEST_MONGODB_URI")
    if not uri or not shutil.which("promtool") or not shutil.which("prometheus"):
        sys.exit("needs promtool, prometheus, and AUDIENCE_TEST_MONGODB_URI")
    subprocess.run(["promtool", "check", "rules", str(FOLDER / "alerts.yaml")], check=True)  # noqa: S603, S607
    subprocess.run(["promtool", "check", "config", str(FOLDER / "prometheus.yaml")], check=True)  # noqa: S603, S607
    database = f"check_monitoring_{secrets.token_hex(4)}"
    try:
        with _service(uri, database) as (address, metrics_port, key), _prometheus(metrics_port) as prometheus:
            _load(address, key)
            empty = _run_queries(prometheus)
    finally:
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(database)
    if empty:
        sys.exit("queries without a time series:\n  " + "\n  ".join(empty))


@contextmanager
def _service(uri: str, database: str) -> Iterator[tuple[str, int, str]]:
    port, metrics_port, key = _free_port(), _free_port(), secrets.token_hex(32)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")},
        "AUDIENCE_LISTEN": f"127.0.0.1:{port}",
        "AUDIENCE_METRICS_LISTEN": f"127.0.0.1:{metrics_port}",
        "AUDIENCE_METRICS_ORGS": "demo",
        "AUDIENCE_MONGODB_URI": uri,
        "AUDIENCE_DATABASE": database,
        "AUDIENCE_JWT_KEY": key,
        "AUDIENCE_SEALING_KEY": secrets.token_hex(32),
        "AUDIENCE_LOG_LEVEL": "error",
        "AUDIENCE_AUDIT_LOG": "off",
    }
    command = [sys.executable, "-m", "audience_service"]
    for arguments in (["indexes"], ["seed", "--org", "demo", "--count", "2000"]):
        subprocess.run([*command, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    process = subprocess.Popen([*command, "serve"], env=environment)  # noqa: S603
    try:
        yield f"127.0.0.1:{port}", metrics_port, key
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _prometheus(metrics_port: int) -> Iterator[str]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = (FOLDER / "prometheus.yaml").read_text()
        config = config.replace("127.0.0.1:9464", f"127.0.0.1:{metrics_port}").replace("15s", "1s")
        (Path(folder) / "prometheus.yaml").write_text(config)
        shutil.copy(FOLDER / "alerts.yaml", folder)
        process = subprocess.Popen(  # noqa: S603
            [  # noqa: S607
                "prometheus",
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _load(address: str, key: str) -> None:
    """Call the service for some seconds, with a watch open."""
    from audience_service.pb.audience.v1 import membership_service_pb2 as membership
    from audience_service.pb.audience.v1 import reach_service_pb2 as reach
    from audience_service.pb.audience.v1 import segment_service_pb2 as segments
    from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
    from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
    from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub

    settings = Settings(jwt_key=key)
    metadata = (("authorization", f"Bearer {mint(settings, org='demo', subject='check')}"), ("orgid", "demo"))
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        stubs: tuple[Any, ...] = SegmentServiceStub(channel), ReachServiceStub(channel), MembershipServiceStub(channel)
        segment_stub, reach_stub, member_stub = stubs
        request = segments.CreateSegmentRequest()
        request.segment.name = "in the US"
        request.segment.filter.datatype = "contact"
        request.segment.filter.where.update({"country": "US"})
        segment = segment_stub.CreateSegment(request, metadata=metadata, timeout=30)
        watch = member_stub.WatchMembership(
            membership.WatchMembershipRequest(audience_id=segment.id), metadata=metadata, timeout=600
        )
        threading.Thread(target=_drain, args=(watch,), daemon=True).start()
        until = time.monotonic() + _LOAD_SECONDS
        while time.monotonic() < until:
            reach_stub.EstimateReach(reach.EstimateReachRequest(audience_id=segment.id), metadata=metadata, timeout=30)
            list(
                member_stub.StreamMembers(
                    membership.StreamMembersRequest(audience_id=segment.id), metadata=metadata, timeout=30
                )
            )
            member_stub.CreateSnapshot(
                membership.CreateSnapshotRequest(audience_id=segment.id), metadata=metadata, timeout=30
            )
            reach_stub.GetInsights(
                reach.GetInsightsRequest(audience_id=segment.id, dimensions=["country"]), metadata=metadata, timeout=30
            )
            with suppress(grpc.RpcError):
                segment_stub.GetSegment(segments.GetSegmentRequest(id="segment-none"), metadata=metadata, timeout=30)
            time.sleep(0.5)
        watch.cancel()


def _drain(call: Any) -> None:
    with suppress(grpc.RpcError):
        for _ in call:
            pass


def _run_queries(prometheus: str) -> list[str]:
    """Run each query of the dashboard. Returns those without a time series."""
    empty = []
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "20s")
            url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - a constant scheme
                count = len(json.load(response)["data"]["result"])
            print(f"{count:4}  {panel['title']}")  # noqa: T201
            if not count and not any(name in query for name in _FAILURES_ONLY):
                empty.append(query)
    return empty


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
