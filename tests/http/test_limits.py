"""What a client can occupy: connections, time and memory of the gateway."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from tests.conftest import Service
from tests.http.conftest import Gateway
from tests.support.command import run_gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def strict(service: Service) -> Iterator[Gateway]:
    """A gateway with small limits."""
    limits = {
        "AUDIENCE_HTTP_MAX_CONNECTIONS": "3",
        "AUDIENCE_HTTP_MAX_BODY_BYTES": "2000",
        "AUDIENCE_REQUEST_TIMEOUT_SECONDS": "0.5",
        "AUDIENCE_STREAM_SEND_TIMEOUT_SECONDS": "0.5",
    }
    with run_gateway(service.app.port, **limits) as (_, address):
        yield Gateway(address, {})


def open_count(gateway: Gateway) -> int:
    """The number of connections that the gateway has not closed."""
    accepted = [each for each in psutil.net_connections("tcp") if each.pid and each.raddr]
    return len([each for each in accepted if getattr(each.laddr, "port", 0) == gateway.port])


def read_all(connection: socket.socket) -> bytes:
    """Everything until the gateway closes the connection."""
    connection.settimeout(40)
    try:
        return b"".join(iter(lambda: connection.recv(65_536), b""))
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET /crm/audiences/segments HT", b"408"),
        (b"GET /crm/audiences/segments HTTP/1.1\r\nhost: x\r\n", b"408"),
        (b"POST /crm/audiences/segments HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{", b"408"),
        (b"POST /crm/audiences/segments HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{", b"413"),
        (b"POST /crm/audiences/segments HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n", b"408"),
        (b"GET /crm/audiences/segments HTTP/1.1\r\nhost: x\r\nx: " + b"x" * 40_000, b"400"),
        (b"no HTTP\r\n\r\n", b"400"),
    ],
    ids=[
        "nothing",
        "part of a line",
        "part of the headers",
        "part of a body",
        "too large",
        "chunked",
        "headers",
        "junk",
    ],
)
def test_a_client_that_sends_slowly_or_too_much_is_disconnected(strict: Gateway, sent: bytes, status: bytes) -> None:
    """With an error in the form of every other, if it sent anything."""
    with socket.create_connection(("127.0.0.1", strict.port)) as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert answer.split()[1:2] == [status] * bool(status)
    assert answer.endswith(b"]}" * bool(status))


def test_connections_above_the_limit_are_closed(strict: Gateway) -> None:
    eventually(lambda: open_count(strict) == 0)  # those of other tests
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", strict.port)))
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        another = stack.enter_context(socket.create_connection(("127.0.0.1", strict.port)))
        assert read_all(another) == b""


def test_a_client_that_does_not_read_is_disconnected(strict: Gateway) -> None:
    """The gateway keeps what was not received for half a second, and then closes the connection."""
    eventually(lambda: open_count(strict) == 0)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", strict.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
        eventually(lambda: open_count(strict) == 1)
        eventually(lambda: open_count(strict) == 0)
