"""The server's certificate, read again when its files change."""

from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate chain, its key, and the authorities of clients. Without authorities, any client."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    def read(self) -> tuple[bytes, ...]:
        """The contents of the files. Raises OSError."""
        paths = (self.certificate, self.key, self.client_authorities)
        return tuple(path.read_bytes() for path in paths if path)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """The credentials of a server. Each new connection gets the certificate that the files have by then.

    A change that cannot be read leaves the previous certificate in place, until the files can be read. With
    authorities, a client needs a certificate of one of them (mutual TLS). Raises OSError if a file cannot be read.
    """
    current = files.read()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        try:
            found = files.read()
        except OSError as error:
            _log.error("the TLS certificate cannot be read; the previous one stays", error=str(error))
            return None
        if found == current:
            return None
        current = found
        _log.info("the TLS certificate has changed")
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current),
        fetch,  # type: ignore[arg-type]  # None means that nothing has changed
        require_client_authentication=files.client_authorities is not None,
    )


def _configuration(contents: tuple[bytes, ...]) -> grpc.ServerCertificateConfiguration:
    certificate, key, *authorities = contents
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities[0] if authorities else None)
