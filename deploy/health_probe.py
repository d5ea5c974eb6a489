"""The health check of a container: asks grpc.health.v1.Health at AUDIENCE_LISTEN. Exits with 0 if it is SERVING.

    python -I -S health_probe.py

It sends the bytes of one gRPC call over a socket and imports nothing else, because importing grpc takes ten times as
much CPU, and an orchestrator runs this every few seconds. RFC 9113 has the frames, RFC 7541 the headers.
"""

import os
import socket
import sys

_TIMEOUT_SECONDS = 3.0
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_SERVING = b"\x08\x01"
"""HealthCheckResponse(status=SERVING)."""


def main() -> None:
    """Run the check."""
    host, _, port = os.environ.get("AUDIENCE_LISTEN", "127.0.0.1:50051").rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - compared, not bound
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_SECONDS) as connection:
            is_serving = check(connection)
    except OSError as error:
        sys.exit(f"{host}:{port}: {error}")
    if not is_serving:
        sys.exit(f"{host}:{port}: NOT_SERVING")


def check(connection: socket.socket) -> bool:
    """Whether the server answers SERVING. Raises OSError if the connection ends or times out."""
    headers = b"".join(
        _header(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, bytes(5))  # an empty HealthCheckRequest: the server as a whole
    )
    with connection.makefile("rb") as answers:
        while head := answers.read(9):
            payload = answers.read(int.from_bytes(head[:3], "big"))
            if head[3] == _DATA:
                return payload[5:] == _SERVING
            if head[3] == _GOAWAY or (head[3] == _HEADERS and head[4] & _END_STREAM):
                return False
    raise OSError("the server closed the connection")


def _header(name: bytes, value: bytes) -> bytes:
    """A literal header without indexing (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


if __name__ == "__main__":
    main()
