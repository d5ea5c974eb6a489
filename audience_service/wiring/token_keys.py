"""Builds the sources of keys on this machine, for the server and for the commands that sign tokens."""

from audience_service.rpc.token_keys import KeySource
from audience_service.settings import Settings


def local_key_sources(settings: Settings) -> list[KeySource]:
    """The sources of keys on this machine."""
    sources = [
        KeySource("AUDIENCE_JWT_KEY_FILE", path.read_bytes, settings.jwt_algorithms, kid)
        for kid, path in settings.key_files()
    ]
    if settings.jwt_key:
        content = settings.jwt_key.get_secret_value().encode()
        sources.append(KeySource("AUDIENCE_JWT_KEY", lambda: content, settings.jwt_algorithms, is_fixed=True))
    return sources
