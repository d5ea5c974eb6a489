"""A client of HTTP/2 by hand, for what gRPC's own client never does."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4


@contextmanager
def stalled_call(port: int, path: str, message: bytes) -> Iterator[None]:
    """A call that has sent its message, from a client whose window for the answer is 0 bytes (RFC 9113, 6.9)."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(_literal(name.encode(), value.encode()) for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0))
            + _frame(_SETTINGS, _ACK, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, block)
            + _frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message)
        )
        yield


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
