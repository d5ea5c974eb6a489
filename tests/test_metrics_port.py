"""The port of the metrics: one process serves its own, and the parent of workers serves their sum."""

import re
import urllib.request
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import pytest

from tests.support.command import free_port, held_port, run, run_server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def scrape(port: int) -> dict[str, float]:
    """The samples that the port serves, by name and labels. Empty while it does not serve."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=40) as response:
        text = response.read().decode()
        return {name: float(number) for name, number in re.findall(r"^([^#\s].*) ([\d.e+-]+)$", text, re.M)}
    return {}


def refuse(address: str, times: int) -> None:
    """Send calls without a token, each on a connection of its own, so that any worker may get it."""
    for _ in range(times):
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call: Any = channel.unary_unary("/audience.v1.SegmentService/ListSegments")
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                call(b"", timeout=40)


def test_workers_are_summed() -> None:
    handled = (
        'grpc_server_handled_total{grpc_code="UNAUTHENTICATED",grpc_method="ListSegments",'
        'grpc_service="audience.v1.SegmentService",grpc_type="unary"}'
    )
    settings = {
        "AUDIENCE_LISTEN": f"127.0.0.1:{free_port()}",
        "AUDIENCE_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "AUDIENCE_MONGODB_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100",
        "AUDIENCE_JWT_KEY": "k" * 32,
        "AUDIENCE_SEALING_KEY": "s" * 32,
        "AUDIENCE_WORKERS": "2",
    }
    served = int(settings["AUDIENCE_METRICS_LISTEN"].rpartition(":")[2])
    with run_server(**settings) as (_, address, _printed):
        refuse(address, 8)
        eventually(partial(_has, served, handled, 8))
        assert scrape(served)["audience_database_reachable"] == 0


def _has(port: int, name: str, expected: float) -> bool:
    return scrape(port).get(name) == expected


def test_a_port_in_use_stops_the_start() -> None:
    with held_port() as port:
        import socket

        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            taken = f"127.0.0.1:{listener.getsockname()[1]}"
            done = run("serve", "--dev", AUDIENCE_METRICS_LISTEN=taken, AUDIENCE_LISTEN=f"127.0.0.1:{port}")
    assert done.returncode != 0
    assert f"AUDIENCE_METRICS_LISTEN: cannot serve on {taken}" in done.stderr
