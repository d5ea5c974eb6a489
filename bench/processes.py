"""The server processes of a run, with their CPU time and memory as measured by Linux."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from bson import json_util
from pymongo import MongoClient
from pymongo.database import Database

KEY = secrets.token_hex(32)
_START_SECONDS, _STOP_SECONDS = 30, 20
_BARE_THREADS = 32


@dataclass(frozen=True)
class Server:
    """A server in its own process."""

    address: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """The CPU seconds since its start."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def reset_peak(self) -> None:
        """Reset the peak of its memory."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_megabytes(self) -> float:
        """The peak of its memory since the reset, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


@contextmanager
def audience_service(uri: str, database: str, **changes: str) -> Iterator[Server]:
    """The service on a database, as one process unless the changed settings say otherwise."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    settings = {
        "AUDIENCE_LISTEN": "127.0.0.1:0",
        "AUDIENCE_MONGODB_URI": uri,
        "AUDIENCE_DATABASE": database,
        "AUDIENCE_JWT_KEY": KEY,
        "AUDIENCE_SEALING_KEY": KEY,
        "AUDIENCE_AUDIT_LOG": "off",  # stdout is for results
        "AUDIENCE_INSIGHTS_MIN_BUCKET_SIZE": "0",  # the references suppress nothing
        **changes,
    }
    command = [sys.executable, "-m", "audience_service", "serve"]
    with _run_process(command, {**environment, **settings}, r"serving .*address=(\S+)") as server:
        yield server


@contextmanager
def http_gateway(service: str) -> Iterator[Server]:
    """The HTTP gateway in front of a service at an address of this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    settings = {"AUDIENCE_LISTEN": service, "AUDIENCE_HTTP_LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "audience_service", "gateway"]
    with _run_process(command, {**environment, **settings}, r"serving HTTP .*address=http://(\S+)") as server:
        yield server


@dataclass(frozen=True)
class Command:
    """A read of the driver: `find_one` and `find` have a filter, `aggregate` has stages."""

    collection: str
    method: str
    argument: Any

    def run(self, database: Database[dict[str, Any]]) -> None:
        """Read all results."""
        found = getattr(database[self.collection], self.method)(self.argument)
        if self.method != "find_one":
            list(found)


@contextmanager
def bare_server(answer: bytes, uri: str = "", database: str = "", commands: Sequence[Command] = ()) -> Iterator[Server]:
    """A grpcio server that runs these commands for each call, and answers with these bytes. It does no other work."""
    job = {"answer": answer.hex(), "uri": uri, "database": database, "commands": [asdict(one) for one in commands]}
    command = [sys.executable, "-m", "bench.processes", json_util.dumps(job)]
    with _run_process(command, dict(os.environ), r"bare server on (\S+)") as server:
        yield server


@contextmanager
def _run_process(command: list[str], environment: dict[str, str], ready_pattern: str) -> Iterator[Server]:
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stderr  # noqa: S101
    drain = ThreadPoolExecutor(1)
    try:
        printed = ""
        for line in process.stderr:
            printed += line
            if found := re.search(ready_pattern, line):
                break
        else:
            raise RuntimeError(f"a server did not start; its output:\n{printed}")
        drain.submit(process.stderr.read)  # a full pipe would block the server
        _wait_for_port(found[1])
        yield Server(found[1], psutil.Process(process.pid))
    finally:
        process.terminate()  # a supervisor ends its workers
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        drain.shutdown()


def _wait_for_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=_START_SECONDS).close()


def _serve_bare(job: dict[str, Any]) -> None:
    answer, commands = bytes.fromhex(job["answer"]), [Command(**one) for one in job["commands"]]
    client = MongoClient[dict[str, Any]](job["uri"] or None, tz_aware=True, connect=bool(commands))
    database = client[job["database"] or "none"]

    def answer_call(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        for command in commands:
            command.run(database)
        return answer

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer_call)
    server = grpc.server(ThreadPoolExecutor(_BARE_THREADS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Bare", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stderr.write(f"bare server on 127.0.0.1:{port}\n")
    sys.stderr.flush()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    _serve_bare(json_util.loads(sys.argv[1]))
