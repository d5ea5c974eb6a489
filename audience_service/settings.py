"""The settings: the only reader of the environment."""

import difflib
import os
import re
import secrets
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Algorithm = Literal[
    "HS256", "HS384", "HS512",
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip

_MIN_SECRET_BYTES = 32
"""RFC 7518, 3.2: a key of the hash's size or more must be used with HS256."""


class SettingsError(Exception):
    """The environment does not make valid settings; the message names each variable and what is wrong with it."""


class Settings(BaseSettings):
    """Every setting, read from `AUDIENCE_<NAME>`. docs/operations.md describes them; a test holds it to this class."""

    model_config = SettingsConfigDict(env_prefix="AUDIENCE_", frozen=True, extra="ignore", env_ignore_empty=True)

    listen: str = Field("127.0.0.1:50051", description="address and port to serve on; port 0 takes a free one")
    mongodb_uri: SecretStr | None = Field(None, description="the database; absent: the embedded store with samples")
    database: str = Field("crm", description="the database's name")
    datatypes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("contact", "lead", "customer"), description="the only collections that a filter may name, parted by commas"
    )
    related_datatypes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("order", "event", "subscriber"),
        description="the only collections that a filter may join by $related, parted by commas",
    )
    jwt_key: SecretStr | None = Field(None, description="the HS secret (32 bytes or more) or a public key as PEM")
    jwt_key_file: Path | None = Field(None, description="a file that holds it instead")
    jwt_algorithm: Algorithm = Field("HS256", description="the one algorithm that tokens may be signed with")
    jwt_issuer: str = Field("crm", description="the `iss` that tokens must have")
    jwt_audience: str = Field("audience-service", description="the `aud` that tokens must have")
    jwt_claim_subject: str = Field("sub", description="the claim that names the subject")
    jwt_claim_org: str = Field("org", description="the claim that names the one org of a caller")
    jwt_claim_orgs: str = Field("orgs", description="the claim that lists the orgs of a caller")
    jwt_claim_roles: str = Field("roles", description="the claim that lists roles")
    jwt_claim_scope: str = Field("scope", description="the claim that lists scopes")
    cli_token: SecretStr | None = Field(None, description="the token that commands which ask a server call it with")
    workers: int = Field(1, ge=1, le=64, description="processes that share the port, a core each")
    threads: int = Field(32, ge=2, le=1024, description="calls that a process answers at once, streams included")
    max_streams: int = Field(16, ge=1, description="streams that a process holds at once; fewer than threads")
    unary_timeout_seconds: float = Field(30.0, gt=0, description="the deadline of unary calls that come without one")
    stream_timeout_seconds: float = Field(3600.0, gt=0, description="the deadline of streams that come without one")
    stream_send_timeout_seconds: float = Field(
        60.0, gt=0, description="how long a client may leave a message before it is cut"
    )
    insights_min_bucket_size: int = Field(
        5, ge=0, description="the fewest contacts that a bucket of insights may tell of"
    )
    insights_baseline_cache_seconds: float = Field(
        300.0, ge=0, description="how long an org's baseline is kept for insights"
    )
    max_concurrent_lookalikes: int = Field(
        4, ge=1, le=64, description="lookalikes that a process models concurrently; more are refused"
    )
    max_concurrent_snapshots: int = Field(
        4, ge=1, le=64, description="snapshots that a process makes at once; others wait"
    )
    snapshot_timeout_seconds: float = Field(3600.0, gt=0, description="how long making a snapshot may take")
    snapshot_lease_seconds: float = Field(
        30.0,
        gt=0,
        description="lease duration of work on snapshots and custom audiences: it fails so long after its process died",
    )
    watch_poll_interval_seconds: float = Field(
        2.0, gt=0, description="how often a watched audience is looked at for changes"
    )
    watch_lease_seconds: float = Field(
        15.0, gt=0, description="how long after its process died a watched audience is left untracked"
    )
    watch_heartbeat_seconds: float = Field(10.0, gt=0, description="how often a watcher is sent a sign at least")
    watch_retention_seconds: float = Field(
        604_800.0, ge=3_600, description="how long events are kept, and an audience tracked that nobody watches"
    )
    max_watches_per_org: int = Field(1_000, ge=1, description="audiences of an org that are watched at once")
    reflection: bool = Field(True, description="whether clients may list the services")
    log_format: Literal["text", "json"] = Field("text", description="how log lines look")

    @field_validator("datatypes", "related_datatypes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not names or not all(re.fullmatch(r"[A-Za-z][\w-]*", name) for name in names):
            raise ValueError("names collections, parted by commas: contact,lead")
        return names

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_streams >= self.threads:
            raise ValueError("AUDIENCE_MAX_STREAMS must be less than AUDIENCE_THREADS, or streams could take them all")
        if self.workers > 1 and self.mongodb_uri is None:
            raise ValueError("AUDIENCE_WORKERS above 1 needs AUDIENCE_MONGODB_URI: each would have a store of its own")
        if self.workers > 1 and self.listen.endswith(":0"):
            raise ValueError("AUDIENCE_WORKERS above 1 needs a port in AUDIENCE_LISTEN: each would take one of its own")
        if self.jwt_key and self.jwt_key_file:
            raise ValueError("AUDIENCE_JWT_KEY and AUDIENCE_JWT_KEY_FILE are both set; choose one")
        if not re.fullmatch(r".+:\d{1,5}", self.listen):
            raise ValueError("AUDIENCE_LISTEN is an address and a port, like 127.0.0.1:50051")
        return self

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises SettingsError, also for a variable that is no setting: it may be misspelt."""
        known = {f"AUDIENCE_{name.upper()}" for name in cls.model_fields}
        for name in os.environ:
            if name.startswith("AUDIENCE_") and not name.startswith("AUDIENCE_TEST_") and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise SettingsError(f"{name}: is no setting" + (f"; did you mean {near[0]}?" if near else ""))
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("\n".join(_format_error(item["loc"], item["msg"]) for item in error.errors())) from None

    @property
    def collections(self) -> tuple[str, ...]:
        """Every collection of the platform's that filters read."""
        return tuple(dict.fromkeys((*self.datatypes, *self.related_datatypes)))

    @property
    def has_key(self) -> bool:
        """Whether a key is set."""
        return bool(self.jwt_key or self.jwt_key_file)

    def key(self) -> bytes:
        """The key that tokens are verified with. Raises SettingsError where there is none or it is too weak."""
        if self.jwt_key:
            key = self.jwt_key.get_secret_value().encode()
        elif self.jwt_key_file:
            try:
                key = self.jwt_key_file.read_bytes().strip()
            except OSError as error:
                raise SettingsError(f"AUDIENCE_JWT_KEY_FILE: {error}") from None
        else:
            raise SettingsError("AUDIENCE_JWT_KEY: is missing; set it or AUDIENCE_JWT_KEY_FILE, or serve with --dev")
        if self.jwt_algorithm.startswith("HS") and len(key) < _MIN_SECRET_BYTES:
            raise SettingsError(f"AUDIENCE_JWT_KEY: is shorter than {_MIN_SECRET_BYTES} bytes, too weak for HS256")
        return key

    def with_dev_key(self) -> Self:
        """These settings with an HS256 key made for this run, unless a key is set."""
        if self.has_key:
            return self
        return self.model_copy(update={"jwt_key": SecretStr(secrets.token_hex(32)), "jwt_algorithm": "HS256"})


def _format_error(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"AUDIENCE_{str(location[0]).upper()}: {message}" if location else message
