"""The loads of `make robustness`, each in a process of its own.

A load gets a pipe. It sends a message when it is in place, and ends when it receives one. Some then send a result.
"""

import asyncio
import itertools
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc
import psutil
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pymongo import MongoClient

from audience_service.pb.audience.v1 import membership_service_pb2, reach_service_pb2, resources_pb2
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub

Metadata = tuple[tuple[str, str], ...]
ALL: Any = {"datatype": "contact", "where": {}}
HELD_CALLS, _HELD_CONNECTIONS = 10_000, 20
_REACH = "/audience.v1.ReachService/EstimateReach"
_SLOW_CONDITIONS, _SLOW_FILTERS = 300, 1_500
_WAITING, _WAITING_SECONDS = b"this waits", 2.0
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Load:
    """A load that runs. `begun` is its first message."""

    pipe: Connection
    process: psutil.Process
    begun: Any


@contextmanager
def run_load(target: Callable[..., None], *arguments: Any) -> Iterator[Load]:
    """Run a load, which is in place when this returns."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    try:
        yield Load(ours, psutil.Process(process.pid), begun=ours.recv())
    finally:
        with suppress(OSError):
            ours.send("end")
        process.join(10)
        process.kill()
        process.join()


def hold_calls(pipe: Connection, address: str, metadata: Metadata) -> None:
    """Open calls that never send their request, on several connections. Counts those that the server has ended."""
    host, _, port = address.rpartition(":")
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _REACH),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    )
    block = b"".join(b"\0" + _hpack(name) + _hpack(value) for name, value in headers)
    per_connection = HELD_CALLS // _HELD_CONNECTIONS
    ended: list[set[int]] = [set() for _ in range(_HELD_CONNECTIONS)]
    sockets = [socket.create_connection((host, int(port))) for _ in range(_HELD_CONNECTIONS)]

    def receive(number: int) -> None:
        for kind, flags, stream in _frames(sockets[number]):
            if kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
                ended[number].add(stream)

    for number, connection in enumerate(sockets):
        threading.Thread(target=receive, args=(number,), daemon=True).start()
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS) + _frame(_SETTINGS, _ACK))
    for call in range(per_connection):
        for connection in sockets:
            connection.sendall(_frame(_HEADERS, _END_HEADERS, 2 * call + 1, block))
    pipe.send("begun")
    pipe.recv()
    pipe.send(sum(map(len, ended)))


_HEADERS, _RST_STREAM, _SETTINGS = 1, 3, 4
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, int]]:
    """The kind, the flags and the stream of each frame that the server sends."""
    with connection.makefile("rb") as stream, suppress(OSError):
        while len(header := stream.read(9)) == 9:
            stream.read(int.from_bytes(header[:3], "big"))
            yield header[3], header[4], int.from_bytes(header[5:], "big")


def _hpack(text: str) -> bytes:
    """A string literal of HPACK without Huffman coding (RFC 7541, sections 5.1 and 5.2)."""
    raw = text.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, prefix = len(raw) - 127, bytearray([127])
    while rest > 127:
        prefix.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*prefix, rest]) + raw


def slow_condition(number: int) -> dict[str, Any]:
    """A filter that the database evaluates slowly. No two numbers have the same one."""
    first = number * _SLOW_CONDITIONS
    patterns = range(first, first + _SLOW_CONDITIONS)
    return {"$or": [{"text": {"$regex": f".*a.*b.*c.*={pattern}"}} for pattern in patterns]}


def waiting_condition(number: int) -> dict[str, Any]:
    """A filter as large as a slow one. `delay_commands` delays it, and few records make it cheap."""
    where = slow_condition(number)
    where["$or"][0] = {"text": {"$regex": _WAITING.decode()}}
    return where


def delay_commands(pipe: Connection, host: str, port: int) -> None:
    """A way to the database on which commands with a waiting condition take 2 s longer. Sends its port."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await source.read(65_536):
                if _WAITING in data:
                    await asyncio.sleep(_WAITING_SECONDS)
                sink.write(data)
                await sink.drain()
        sink.close()

    async def connect(near: asyncio.StreamReader, near_sink: asyncio.StreamWriter) -> None:
        far, far_sink = await asyncio.open_connection(host, port)
        with suppress(asyncio.CancelledError):  # the load ends; asyncio would print it as an error
            await asyncio.gather(pump(near, far_sink), pump(far, near_sink))

    async def run() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(run())


def count_slowly(
    pipe: Connection,
    address: str,
    metadata: Metadata,
    concurrency: int,
    *,
    is_patient: bool,
    condition: Callable[[int], dict[str, Any]] = slow_condition,
) -> None:
    """Keep this many slow counts open, each with a filter of its own. Sends how many ended with each code.

    A patient client waits for the delay of RetryInfo after a refusal. The others call again at once. The requests exist
    before the load begins, so that it measures the service and not the making of requests.
    """
    filters: list[Any] = [{"datatype": "contact", "where": condition(n)} for n in range(_SLOW_FILTERS)]
    requests = [reach_service_pb2.EstimateReachRequest(filter=one).SerializeToString() for one in filters]
    numbers, is_over = itertools.count(), threading.Event()
    codes: list[str] = []

    def run() -> None:
        with grpc.insecure_channel(address, _OWN_CONNECTION) as channel:
            call: Any = channel.unary_unary(_REACH)
            while not is_over.is_set():
                try:
                    call(requests[next(numbers) % len(requests)], metadata=metadata, timeout=10)
                    codes.append("OK")
                except grpc.RpcError as error:
                    codes.append(error.code().name)
                    if is_patient:
                        is_over.wait(_retry_delay(error))

    with ThreadPoolExecutor(concurrency) as pool:
        for _ in range(concurrency):
            pool.submit(run)
        time.sleep(2)  # the first calls came together, which no later ones do
        pipe.send("begun")
        pipe.recv()
        is_over.set()
    pipe.send({code: codes.count(code) for code in sorted(set(codes))})


def _retry_delay(error: Any) -> float:
    """The delay of RetryInfo in seconds, 0 without one."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return 0.0


def count_by_driver(pipe: Connection, uri: str, database: str, org: str, concurrency: int) -> None:
    """Keep this many slow counts running in the database, without the service."""
    is_over, numbers = threading.Event(), itertools.count()

    def run() -> None:
        while not is_over.is_set():
            conditions = slow_condition(next(numbers))["$or"]
            where = {"$or": [{f"data.{path}": test for path, test in condition.items()} for condition in conditions]}
            scope = {"sk": {"$gte": f"{org}/contact/", "$lt": f"{org}/contact0"}}
            list(client[database]["contact"].aggregate([{"$match": {**scope, **where}}, {"$count": "count"}]))

    with MongoClient[dict[str, Any]](uri) as client, ThreadPoolExecutor(concurrency) as pool:
        for _ in range(concurrency):
            pool.submit(run)
        time.sleep(1)
        pipe.send("begun")
        pipe.recv()
        is_over.set()


def read_nothing(pipe: Connection, address: str, metadata: Metadata, count: int) -> None:
    """Open streams of large records, take one message of each, and then receive nothing."""
    request = membership_service_pb2.StreamMembersRequest(
        filter=ALL, batch_size=10_000, fields=[f"data.field{n}" for n in range(50)]
    )
    streams = []
    for _ in range(count):
        channel = grpc.insecure_channel(address, _OWN_CONNECTION)
        streams.append(MembershipServiceStub(channel).StreamMembers(request, metadata=metadata))
        next(streams[-1])
    pipe.send("begun")
    pipe.recv()


def send_large_requests(pipe: Connection, address: str, metadata: Metadata, count: int) -> None:
    """Send this many requests of 4 MB at once, once the pipe has a message. Sends how many ended with each code."""
    where = Struct()
    where.update({"$or": [{"a": 1}] * 200_000})
    request = reach_service_pb2.EstimateReachRequest(filter=resources_pb2.Filter(datatype="contact", where=where))
    raw = request.SerializeToString()
    pipe.send("begun")
    pipe.recv()
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(_REACH)
        calls = [call.future(raw, metadata=metadata, timeout=60) for _ in range(count)]
        errors = [one.exception() for one in calls]
    codes = ["OK" if error is None else error.code().name for error in errors]
    pipe.send({code: codes.count(code) for code in sorted(set(codes))})


def watch(pipe: Connection, address: str, metadata: Metadata, audience_ids: Sequence[str], count: int) -> None:
    """Open this many watches of the audiences. Sends the time of each watch's first event (`time.monotonic`)."""

    async def run() -> None:
        begun, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)
        times: list[float] = []

        async def receive(channel: grpc.aio.Channel, audience_id: str) -> None:
            request = membership_service_pb2.WatchMembershipRequest(audience_id=audience_id)
            stub: Any = MembershipServiceStub(channel)
            first = True
            async for message in stub.WatchMembership(request, metadata=metadata):
                if first:
                    begun.release()
                    first = False
                if message.events:
                    times.append(time.monotonic())
                    ended.release()
                    return

        channels = [grpc.aio.insecure_channel(address, _OWN_CONNECTION) for _ in range(10)]
        tasks = [
            asyncio.ensure_future(receive(channels[n % 10], audience_ids[n % len(audience_ids)])) for n in range(count)
        ]
        for _ in range(count):
            await begun.acquire()
        pipe.send("begun")
        for _ in range(count):
            await ended.acquire()
        pipe.send(times)
        await asyncio.to_thread(pipe.recv)
        await asyncio.gather(*tasks)
        for channel in channels:
            await channel.close()

    asyncio.run(run())
