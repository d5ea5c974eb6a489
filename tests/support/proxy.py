"""A way to the database that can be cut, and services on it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from audience_service.mongo.store import Store, mongo_store
from tests.conftest import Service, run_service
from tests.support.waiting import eventually


class Proxy:
    """A way to the database that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        is_dropping = False
        try:
            while data := source.recv(65536):
                is_dropping = is_dropping or not self._open
                if not is_dropping:
                    sink.sendall(data)
        except OSError:
            pass
        sink.close()

    def drop_packets(self) -> None:
        """From now on drop all packets and keep connections open, as a firewall does that lost their state."""
        self._open = False

    def restore(self) -> None:
        """Let new connections through again."""
        self._open = True

    def disconnect(self) -> None:
        """Close everything, as a database that dies does."""
        self._listener.close()
        for end in self._sockets:
            with closing(end):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


@contextmanager
def run_mongo_service(uri: str, database: str = "audience_test_outage") -> Iterator[Service]:
    """A service on a URI."""
    yield from run_service("mongodb", mongo_store(uri, database))


@contextmanager
def run_store_service(store: Store, **settings: Any) -> Iterator[Service]:
    """A service on a store."""
    yield from run_service("mongodb", store, **settings)


def health(service: Service) -> int:
    """The status of a health check."""
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service="audience.v1.ReachService")).status)


def wait_until_serving(service: Service) -> None:
    """Wait for a health check that finds the service healthy: after its start, or after the database was slow."""
    eventually(lambda: health(service) == health_pb2.HealthCheckResponse.SERVING)
