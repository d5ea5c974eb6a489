"""Serve the audience builder on this machine, for a developer: `make builder`.

It runs the service in development mode, the HTTP gateway, and a web server for the page in examples/builder, until
Ctrl-C. All listen on 127.0.0.1. It prints the address to open, whose fragment holds the gateway, an org and a token.

1. The key of the token is generated for this run. Keys of the environment are not used, so a token of this run is
   worthless for any other service.
2. A browser sends the fragment to no server, and the page removes it from the address.
"""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

from audience_service.cli.token import mint
from audience_service.domain.core.context import Scope
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from scripts.protos import ROOT

PAGE = ROOT / "examples/builder"
_HOST = "127.0.0.1"
_COMMAND = (sys.executable, "-m", "audience_service")
_SCOPES = (Scope.READ, Scope.WRITE, Scope.EXPORT)
_TOKEN_SECONDS = 86_400
_START_SECONDS = 120


class PageHandler(SimpleHTTPRequestHandler):
    """Serves the files of the page, which no other page may frame and no browser keeps."""

    def end_headers(self) -> None:
        """Add the headers of each response."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def serve_page(port: int, directory: Path = PAGE) -> ThreadingHTTPServer:
    """A running server of the page. Raises OSError if the port is not available."""
    server = ThreadingHTTPServer((_HOST, port), partial(PageHandler, directory=str(directory)))
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Run until Ctrl-C, SIGTERM or the end of a process. Exits with 1 if one ends by itself."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.builder", description="Serve the audience builder on this machine."
    )
    parser.add_argument("--org", default="demo", help="the org that the page works on")
    parser.add_argument("--port", type=int, default=8000, help="the port of the page")
    parser.add_argument("--gateway-port", type=int, default=8080, help="the port of the HTTP gateway")
    parser.add_argument("--service-port", type=int, default=50051, help="the port of the service")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _check_ports(
        {"--port": options.port, "--gateway-port": options.gateway_port, "--service-port": options.service_port}
    )
    page = serve_page(options.port)
    gateway = f"http://{_HOST}:{options.gateway_port}"
    _use_own_settings(options.service_port, options.gateway_port, page.server_port)
    try:
        settings = Settings.load()
        token = mint(settings, org=options.org, subject="builder", scopes=_SCOPES, ttl_seconds=_TOKEN_SECONDS)
    except SettingsError as error:
        sys.exit(str(error))
    commands = ([*_COMMAND, "serve", "--dev"], [*_COMMAND, "gateway"])
    processes = [subprocess.Popen(command) for command in commands]  # noqa: S603
    try:
        for port in (options.service_port, options.gateway_port):
            _wait_for(port, processes)
        fragment = urlencode({"gateway": gateway, "org": options.org, "token": token})
        address = f"http://{_HOST}:{page.server_port}/#{fragment}"
        print(f"\nOpen the audience builder (Ctrl-C stops it):\n\n  {address}\n", flush=True)  # noqa: T201
        while not _has_ended(processes):
            time.sleep(0.5)
        sys.exit("a process has ended; its message is above")
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _check_ports(ports: Mapping[str, int]) -> None:
    """Bind each port for a moment. Exits with the options of ports that are not available."""
    problems = []
    with ExitStack() as held:
        for option, port in ports.items():
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections may remain
            try:
                listener.bind((_HOST, port))
                listener.listen()  # so that the next option cannot have the same port
            except (OSError, OverflowError) as error:
                problems.append(f"cannot serve on {_HOST}:{port}: {error}; choose another {option}")
    if problems:
        sys.exit("\n".join([*problems, "example: .venv/bin/python -m scripts.builder --port 8001"]))


def _use_own_settings(service_port: int, gateway_port: int, page_port: int) -> None:
    """Set the addresses, a key of this run and the origins of the page, for this process and those that it starts."""
    for name in ("AUDIENCE_JWT_KEY_FILE", "AUDIENCE_JWT_JWKS_URL", "AUDIENCE_ADDRESS"):
        os.environ.pop(name, None)
    os.environ |= {
        "AUDIENCE_JWT_KEY": secrets.token_hex(32),
        "AUDIENCE_JWT_ALGORITHMS": "HS256",
        "AUDIENCE_LISTEN": f"{_HOST}:{service_port}",
        "AUDIENCE_HTTP_LISTEN": f"{_HOST}:{gateway_port}",
        "AUDIENCE_HTTP_CORS_ORIGINS": f"http://{_HOST}:{page_port},http://localhost:{page_port}",
    }


def _wait_for(port: int, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until a port accepts connections. Exits if a process ends first."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if _has_ended(processes):
            sys.exit("a process has ended; its message is above")
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"nothing listens on {_HOST}:{port} after {_START_SECONDS} s")


def _has_ended(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is not None for process in processes)


if __name__ == "__main__":
    main()
