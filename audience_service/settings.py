"""The settings of the service. Only this module reads the environment."""

import difflib
import hashlib
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
"""The minimum key size of HS256: that of its hash (RFC 7518, section 3.2)."""


class SettingsError(Exception):
    """The environment has invalid settings. The message has a line with the problem of each variable."""


class Settings(BaseSettings):
    """The settings, read from `AUDIENCE_<NAME>`. `make docs` lists them in docs/reference/settings.md."""

    model_config = SettingsConfigDict(env_prefix="AUDIENCE_", frozen=True, extra="ignore", env_ignore_empty=True)

    listen: str = Field("127.0.0.1:50051", description="address and port to serve on; port 0 selects a free port")
    mongodb_uri: SecretStr | None = Field(
        None, description="URI of the MongoDB deployment; unset: the embedded store with sample contacts"
    )
    database: str = Field("crm", description="name of the database")
    datatypes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("contact", "lead", "customer"), description="the only collections that a filter may name, comma-separated"
    )
    related_datatypes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("order", "event", "subscriber"),
        description="the only collections that a filter may join by `$related`, comma-separated",
    )
    jwt_key: SecretStr | None = Field(None, description="the HS secret (32 bytes or more) or a public key as PEM")
    jwt_key_file: Path | None = Field(None, description="a file with the key, instead of AUDIENCE_JWT_KEY")
    hash_key: SecretStr | None = Field(
        None,
        description="the secret (32 bytes or more) of the hashes of addresses, numbers and erased contacts; unset: "
        "derived from an HS secret. With another one the index of identifiers is built again",
    )
    jwt_algorithm: Algorithm = Field(
        "HS256",
        description="the only signature algorithm accepted in tokens: HS, RS, PS or ES with 256, 384 or 512, or EdDSA",
    )
    jwt_issuer: str = Field("crm", description="required `iss` of tokens")
    jwt_audience: str = Field("audience-service", description="required `aud` of tokens")
    jwt_claim_subject: str = Field("sub", description="claim with the subject")
    jwt_claim_org: str = Field("org", description="claim with the caller's only org")
    jwt_claim_orgs: str = Field("orgs", description="claim with the list of the caller's orgs")
    jwt_claim_roles: str = Field("roles", description="claim with the list of roles")
    jwt_claim_scope: str = Field("scope", description="claim with the list of scopes")
    cli_token: SecretStr | None = Field(
        None,
        description="token of the commands that call a server (`reach`, `overlap`, `insights`, `lookalike`, `upload`); "
        "unset: one signed with the key",
    )
    workers: int = Field(
        1, ge=1, le=64, description="processes that share the port, about one per core; a crashed one is replaced"
    )
    threads: int = Field(
        32,
        ge=2,
        le=1024,
        description="calls that a process answers concurrently, including streams; it accepts eight times as many, "
        "and more are RESOURCE_EXHAUSTED",
    )
    max_streams: int = Field(
        16,
        ge=1,
        description="concurrent streams of a process, including uploads, fewer than its threads; more are "
        "TOO_MANY_STREAMS",
    )
    unary_timeout_seconds: float = Field(30.0, gt=0, description="deadline of unary calls without one")
    stream_timeout_seconds: float = Field(
        3600.0, gt=0, description="deadline of streams without one; a cursor resumes them"
    )
    stream_send_timeout_seconds: float = Field(
        60.0, gt=0, description="time in which a client must receive a message; then its stream is cancelled"
    )
    insights_min_bucket_size: int = Field(
        5,
        ge=0,
        description="the smallest number of contacts that a bucket of insights may show; 0 and 1: no limit",
    )
    insights_baseline_cache_seconds: float = Field(
        300.0,
        ge=0,
        description="how long a process caches an org's baseline for insights; 0: it is read for each call",
    )
    upload_max_shrink_share: float = Field(
        0.5, ge=0, le=1, description="share of a list that an upload may remove by replacing it without force"
    )
    max_concurrent_lookalikes: int = Field(
        4,
        ge=1,
        le=64,
        description="lookalikes that a process models concurrently, each in a thread; more are TOO_MANY_LOOKALIKES",
    )
    max_concurrent_snapshots: int = Field(
        4,
        ge=1,
        le=64,
        description="snapshots that a process creates concurrently, in threads of their own; 15 times as many wait, "
        "and more are TOO_MANY_SNAPSHOTS",
    )
    snapshot_timeout_seconds: float = Field(
        3600.0, gt=0, description="how long the creation of a snapshot may take; after that the snapshot is FAILED"
    )
    snapshot_lease_seconds: float = Field(
        30.0,
        gt=0,
        description="lease duration of work on snapshots and custom audiences, renewed four times in that time: if its "
        "process crashes, the work is FAILED after at most this long; also the interval of each process's cleanup",
    )
    watch_poll_interval_seconds: float = Field(
        2.0,
        gt=0,
        description="how often a watched audience is scanned for changes; scans take at most a tenth of the time, so "
        "large audiences are scanned less often",
    )
    watch_lease_seconds: float = Field(
        15.0,
        gt=0,
        description="lease duration of a watched audience: another process takes over the audiences of a crashed "
        "process after at most this long",
    )
    watch_heartbeat_seconds: float = Field(
        10.0, gt=0, description="heartbeat interval: the longest silence on a watch stream"
    )
    watch_retention_seconds: float = Field(
        604_800.0,
        ge=3_600,
        description="how long events are stored, and how long an audience is tracked after its last watch",
    )
    max_watches_per_org: int = Field(
        1_000,
        ge=1,
        description="audiences of an org that are tracked concurrently, including those whose last watch ended within "
        "the retention time; more are TOO_MANY_WATCHES",
    )
    reflection: bool = Field(True, description="whether clients may list the services")
    log_format: Literal["text", "json"] = Field(
        "text",
        description="`text` or `json`, to stderr: one line for each RPC with `method`, `code` and `duration_ms`, and "
        "with `org` and `subject` once the token is verified",
    )

    audit_log: str = Field(
        "stdout",
        description="where the audit log goes: `stdout`, `stderr`, `off`, or the path of a file, with a slash in it",
    )

    @field_validator("audit_log")
    @classmethod
    def _check_audit_log(cls, value: str) -> str:
        if value not in ("stdout", "stderr", "off") and "/" not in value:
            raise ValueError(f"{value} is no destination; use stdout, stderr, off, or a path with a slash")
        return value

    @field_validator("datatypes", "related_datatypes", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not names or not all(re.fullmatch(r"[A-Za-z][\w-]*", name) for name in names):
            raise ValueError("is not a list of collections; write them comma-separated: contact,lead")
        return names

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.max_streams >= self.threads:
            raise ValueError(
                "AUDIENCE_MAX_STREAMS is not below AUDIENCE_THREADS; lower it, since each stream occupies a thread"
            )
        if self.workers > 1 and self.mongodb_uri is None:
            raise ValueError(
                "AUDIENCE_WORKERS above 1 needs AUDIENCE_MONGODB_URI, since workers cannot share the embedded store"
            )
        if self.workers > 1 and self.listen.endswith(":0"):
            raise ValueError(
                "AUDIENCE_WORKERS above 1 needs a port in AUDIENCE_LISTEN; port 0 gives each worker a different one"
            )
        if self.jwt_key and self.jwt_key_file:
            raise ValueError("AUDIENCE_JWT_KEY and AUDIENCE_JWT_KEY_FILE are both set; set one of them")
        if not re.fullmatch(r".+:\d{1,5}", self.listen):
            raise ValueError("AUDIENCE_LISTEN is not an address with a port; write it like 127.0.0.1:50051")
        return self

    @classmethod
    def load(cls) -> Self:
        """The settings of the environment. Raises SettingsError, also for a variable that is not a setting."""
        known = {f"AUDIENCE_{name.upper()}" for name in cls.model_fields}
        for name in os.environ:
            if name.startswith("AUDIENCE_") and not name.startswith("AUDIENCE_TEST_") and name not in known:
                similar = difflib.get_close_matches(name, known, n=1)
                raise SettingsError(f"{name}: is not a setting" + (f"; did you mean {similar[0]}?" if similar else ""))
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("\n".join(_format_error(item["loc"], item["msg"]) for item in error.errors())) from None

    @property
    def collections(self) -> tuple[str, ...]:
        """The platform's collections that filters read."""
        return tuple(dict.fromkeys((*self.datatypes, *self.related_datatypes)))

    @property
    def has_key(self) -> bool:
        """Whether a key is set."""
        return bool(self.jwt_key or self.jwt_key_file)

    def key(self) -> bytes:
        """The key that verifies tokens. Raises SettingsError if it is missing, unreadable or too weak."""
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
            raise SettingsError(f"AUDIENCE_JWT_KEY: is shorter than {_MIN_SECRET_BYTES} bytes; set a longer one")
        return key

    def hash_secret(self) -> bytes:
        """The secret of keyed hashes, 32 bytes. Raises SettingsError if there is none, or if it is too short."""
        if self.hash_key:
            secret = self.hash_key.get_secret_value().encode()
            if len(secret) < _MIN_SECRET_BYTES:
                raise SettingsError(f"AUDIENCE_HASH_KEY: is shorter than {_MIN_SECRET_BYTES} bytes; set a longer one")
        elif self.jwt_algorithm.startswith("HS"):
            secret = self.key()
        else:
            raise SettingsError(f"AUDIENCE_HASH_KEY: is missing; the key of {self.jwt_algorithm} is public, so set one")
        return hashlib.sha256(b"identifier hashes" + secret).digest()

    def with_dev_key(self) -> Self:
        """These settings, with a generated HS256 key if no key is set."""
        if self.has_key:
            return self
        return self.model_copy(update={"jwt_key": SecretStr(secrets.token_hex(32)), "jwt_algorithm": "HS256"})


def _format_error(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"AUDIENCE_{str(location[0]).upper()}: {message}" if location else message
