"""TLS and mutual TLS, with certificates that are made for the test and replaced while the server runs."""

import ipaddress
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audience_service.cli.client import open_channel
from audience_service.rpc.tls import TlsFiles, server_credentials
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.server import server_options
from tests import conftest


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, pkcs8, plain))
    return paths


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve health alone with TLS, and return the port."""
    servers: list[grpc.Server] = []

    def start(files: TlsFiles) -> int:
        from concurrent.futures import ThreadPoolExecutor

        from grpc_health.v1.health import HealthServicer

        server = grpc.server(ThreadPoolExecutor(2))
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(files))
        server.start()
        servers.append(server)
        return int(port)

    yield start
    for server in servers:
        server.stop(None)


def check(port: int, **files: Path) -> str:
    """The outcome of a health check by a command with these settings."""
    settings = conftest.test_settings(listen=f"127.0.0.1:{port}", **files)
    with open_channel(settings) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=40)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def test_a_renewed_certificate_needs_no_restart(serve: Callable[[TlsFiles], int], tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    renewed, renewed_key = write_certificate(tmp_path, "second")
    first = Path(shutil.copy(certificate, tmp_path / "trusted.crt"))
    port = serve(TlsFiles(certificate, key))
    assert check(port, cli_tls_ca_file=first) == "OK"
    assert check(port, cli_tls_ca_file=renewed) == "UNAVAILABLE"
    renewed_key.replace(key)
    shutil.copy(renewed, certificate)
    assert check(port, cli_tls_ca_file=renewed) == "OK"
    assert check(port, cli_tls_ca_file=first) == "UNAVAILABLE"
    certificate.unlink()
    assert check(port, cli_tls_ca_file=renewed) == "OK", "an unreadable file must leave the previous certificate"


def test_mutual_tls_refuses_a_client_without_a_known_certificate(
    serve: Callable[[TlsFiles], int], tmp_path: Path
) -> None:
    certificate, key = write_certificate(tmp_path, "server")
    known, known_key = write_certificate(tmp_path, "known")
    other, other_key = write_certificate(tmp_path, "other")
    port = serve(TlsFiles(certificate, key, known))
    trust = {"cli_tls_ca_file": certificate}
    assert check(port, **trust) == "UNAVAILABLE"
    assert check(port, **trust, cli_tls_certificate_file=other, cli_tls_key_file=other_key) == "UNAVAILABLE"
    assert check(port, **trust, cli_tls_certificate_file=known, cli_tls_key_file=known_key) == "OK"


def test_the_settings_choose_tls(tmp_path: Path) -> None:
    """Half of the settings, and files that cannot be read, are refused before the port opens."""
    certificate, key = write_certificate(tmp_path, "server")
    settings = conftest.test_settings(tls_certificate_file=certificate, tls_key_file=key)
    assert server_options(settings).tls == TlsFiles(certificate, key)
    assert server_options(conftest.test_settings()).tls is None
    with pytest.raises(ValueError, match="go together"):
        Settings(tls_certificate_file=certificate)
    with pytest.raises(SettingsError, match="AUDIENCE_TLS_KEY_FILE"):
        server_options(conftest.test_settings(tls_certificate_file=certificate, tls_key_file=tmp_path / "absent"))
