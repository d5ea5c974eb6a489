"""`python -m bench.traffic --uri URI`: the bytes between the service and its database during snapshot creation.

A proxy between them counts the bytes. If the count does not grow with the members, the database does the work itself.
"""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import click
import grpc
from google.protobuf.json_format import ParseDict
from rich.console import Console

from audience_service.pb.audience.v1 import resources_pb2 as resources
from bench.dataset import LARGE, prepare
from bench.processes import audience_service
from bench.reference import Document
from bench.rows import Client
from bench.snapshots import create, delete, diff
from bench.table import Table


class CountingProxy:
    """A proxy to the database that counts the bytes in both directions."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        """The URI of the database through the proxy."""
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/"

    def drain_count(self) -> int:
        """The number of bytes in both directions since the previous call."""
        with self._lock:
            count, self._bytes = self._bytes, 0
        return count

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                with self._lock:
                    self._bytes += len(data)
                sink.sendall(data)
        sink.close()


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. It retains the databases bench_<contacts>.")
@click.option("--contacts", default="10000,100000", show_default=True, help="Numbers of contacts, comma-separated.")
def main(*, uri: str, contacts: str) -> None:
    """Count the bytes of a snapshot's creation, and of the differences between two snapshots."""
    console = Console()
    title = "Bytes between the service and its database, including health checks"
    table = Table("contacts", "members", "CreateSnapshot", "differing", "DiffSnapshots", title=title)
    parsed_uri = urlsplit(uri)
    for size in (int(part) for part in contacts.split(",")):
        name = prepare(uri, size, console)
        proxy = CountingProxy(parsed_uri.hostname or "127.0.0.1", parsed_uri.port or 27017)
        with (
            audience_service(proxy.uri, name) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            client = Client(channel, LARGE)
            filtered = create(client, _filter({"score": {"$gte": 10}}))
            proxy.drain_count()
            everyone = create(client, _filter({}))
            snapshot_bytes = proxy.drain_count()
            entered, exited = diff(client, everyone.id, filtered.id)
            diff_bytes = proxy.drain_count()
            for snapshot in (everyone, filtered):
                delete(client, snapshot.id)
        counts = (size, everyone.count, snapshot_bytes, entered + exited, diff_bytes)
        table.add_row(*(f"{count:,}" for count in counts))
    click.echo(table)


def _filter(where: Document) -> resources.Filter:
    return ParseDict({"datatype": "contact", "where": where}, resources.Filter())


if __name__ == "__main__":
    main()
