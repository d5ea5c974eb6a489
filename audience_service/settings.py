"""The settings of the service. Only this module reads the environment."""

import difflib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from audience_service.settings_error import SettingsError

Algorithm = Literal[
    "HS256", "HS384", "HS512",
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip

_KEY_FILE = re.compile(r"(?:([\w.-]+)=)?(.+)", re.ASCII)
_MAX_PORT = 65_535
_MAX_METRICS_ORGS = 100
_MIN_SECRET_BYTES = 32


_RATE_PATTERN = r"^[1-9][0-9]{0,8}/(second|minute|hour)$"


class ConnectionSettings(BaseSettings):
    """The settings of the commands that call a server. They need none of the server's."""

    model_config = SettingsConfigDict(env_prefix="AUDIENCE_", frozen=True, extra="ignore", env_ignore_empty=True)

    address: str = Field(
        "",
        description="address and port of the server that commands call, such as `audiences.internal:443`; unset: "
        "AUDIENCE_LISTEN on this machine",
    )
    org: str = Field("", description="the org that commands act for; `--org` overrides it")
    cli_token: SecretStr | None = Field(
        None, description="the token of commands that call a server; unset: one signed with the server's key"
    )
    cli_tls: bool = Field(
        False,
        description="whether the server at AUDIENCE_ADDRESS has TLS with a certificate of a public authority; "
        "AUDIENCE_CLI_TLS_CA_FILE implies TLS",
    )
    cli_tls_ca_file: Path | None = Field(
        None,
        description="authorities that commands trust in a server with TLS; unset: the certificate of the server with "
        "these settings",
    )
    cli_tls_certificate_file: Path | None = Field(
        None, description="the certificate that commands present to a server with mutual TLS"
    )
    cli_tls_key_file: Path | None = Field(None, description="the key of AUDIENCE_CLI_TLS_CERTIFICATE_FILE")

    @field_validator("address")
    @classmethod
    def _check_server_address(cls, value: str) -> str:
        return _check_address(value)

    @model_validator(mode="after")
    def _check_certificate(self) -> Self:
        if bool(self.cli_tls_certificate_file) != bool(self.cli_tls_key_file):
            raise ValueError("AUDIENCE_CLI_TLS_CERTIFICATE_FILE and AUDIENCE_CLI_TLS_KEY_FILE go together; set both")
        return self

    @classmethod
    def load(cls) -> Self:
        """The settings of the environment. Raises SettingsError, also for a variable that is not a setting."""
        problems = list(_unknown_variables())
        try:
            settings = cls()
        except ValidationError as error:
            problems += [_format_error(item["loc"], item["msg"]) for item in error.errors()]
        if problems:
            raise SettingsError("\n".join(problems))
        return settings


class Settings(ConnectionSettings):
    """The settings, read from `AUDIENCE_<NAME>`. `make docs` lists them in docs/reference/settings.md."""

    listen: str = Field("127.0.0.1:50051", description="address and port to serve on; port 0 selects a free port")
    mongodb_uri: SecretStr | None = Field(
        None, description="URI of the MongoDB deployment; unset: the embedded store with sample contacts"
    )
    database: str = Field("crm", description="name of the database")
    datatypes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("contact", "lead", "customer"), description="the only collections that a filter may name, comma-separated"
    )
    related_datatypes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("order", "event", "subscriber", "company"),
        description="the only collections that a filter may join by `$related`, comma-separated",
    )
    jwt_key: SecretStr | None = Field(
        None, description="the key that verifies tokens: an HS secret, as long as its hash or longer, or a public PEM"
    )
    jwt_key_file: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="files with such keys, comma-separated: a secret, a PEM or a JWKS; `kid=path` gives the first two "
        "their id",
    )
    jwt_jwks_url: str | None = Field(None, description="HTTPS URL of the issuer's JWKS, whose keys verify tokens too")
    jwt_refresh_seconds: float = Field(
        300.0,
        ge=10,
        le=86_400,
        description="how often the files and the URL are read again, also for an unknown key id, but at most every ten "
        "seconds; if that fails, the last keys stay",
    )
    jwt_algorithms: Annotated[tuple[Algorithm, ...], NoDecode] = Field(
        ("HS256",),
        description="the only signature algorithms accepted in tokens, comma-separated: HS, RS, PS or ES with 256, 384 "
        "or 512, or EdDSA; a key verifies only those of its own type",
    )
    jwt_leeway_seconds: float = Field(
        5.0, ge=0, le=60, description="how far the clocks of issuer and service may differ, for `exp`, `nbf` and `iat`"
    )
    hash_key: SecretStr | None = Field(
        None,
        description="the secret (32 bytes or more) of the hashes of addresses, numbers and erased contacts; unset: "
        "derived from AUDIENCE_JWT_KEY if that is an HS secret. With another one the identifiers are indexed again",
    )
    jwt_issuer: str = Field("crm", description="required `iss` of tokens")
    jwt_audience: str = Field("audience-service", description="required `aud` of tokens")
    jwt_claim_subject: str = Field("sub", description="claim with the subject")
    jwt_claim_org: str = Field("org", description="claim with the caller's only org")
    jwt_claim_orgs: str = Field("orgs", description="claim with the list of the caller's orgs")
    jwt_claim_roles: str = Field("roles", description="claim with the list of roles")
    jwt_claim_scope: str = Field("scope", description="claim with the list of scopes")
    sealing_key: SecretStr | None = Field(
        None,
        description="the secrets (32 bytes or more) that seal page tokens, cursors and resume tokens, comma-separated: "
        "the first seals, all of them open",
    )
    sealing_key_file: Path | None = Field(
        None, description="a file with these secrets, one a line, instead of AUDIENCE_SEALING_KEY"
    )
    tls_certificate_file: Path | None = Field(
        None, description="the server's certificate chain as PEM, read again when it changes; unset: no TLS"
    )
    tls_key_file: Path | None = Field(None, description="the key of the certificate as PEM, read again when it changes")
    tls_client_ca_file: Path | None = Field(
        None, description="certificate authorities of clients as PEM; set: clients need a certificate (mutual TLS)"
    )
    workers: int = Field(
        1, ge=1, le=64, description="processes that share the port, about one per core; a crashed one is replaced"
    )
    max_concurrent_reads: int = Field(
        32,
        ge=1,
        description="calls that read or write a few records by key, and that a process works on concurrently; eight "
        "times as many wait, and more are TOO_MANY_CALLS",
    )
    max_concurrent_queries: int = Field(
        8,
        ge=1,
        description="calls that query an org's records (EstimateReach, CheckMembership, writes of segments) and that a "
        "process works on concurrently; eight times as many wait, and more are TOO_MANY_CALLS",
    )
    max_concurrent_analyses: int = Field(
        4,
        ge=1,
        description="calls of GetInsights, GetOverlap, GetOverlapRegions, ExplainFilter and ListFields that a process "
        "works on concurrently; eight times as many wait, and more are TOO_MANY_CALLS",
    )
    max_streams: int = Field(
        32,
        ge=1,
        description="concurrent streams of a process, including uploads, without watches; more are TOO_MANY_STREAMS",
    )
    max_watch_streams: int = Field(
        256, ge=1, description="concurrent watch streams of a process; more are TOO_MANY_STREAMS"
    )
    org_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of each of these limits, and of the waiting calls, that one org may use; 1: all of it",
    )
    caller_share: float = Field(
        0.75, gt=0, le=1, description="the same share for one caller, which is the subject of a token, in all its orgs"
    )
    rate_limit_per_org: str | None = Field(
        None,
        pattern=_RATE_PATTERN,
        description="calls of an org that a process accepts per second, minute or hour, like `100/second`; more are "
        "RATE_LIMITED; unset: no limit",
    )
    rate_limit_per_caller: str | None = Field(
        None, pattern=_RATE_PATTERN, description="the same for one caller, in all its orgs"
    )
    max_scanned_records: int = Field(
        0,
        ge=0,
        description="records of an org that a filter may scan for lack of an index: above it EstimateReach samples, "
        "and GetInsights, GetOverlap and GetOverlapRegions are MISSING_INDEX if an index would serve the filter; 0: no "
        "limit",
    )
    request_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="time in which a client must send its request, to the server or the HTTP gateway; then the call is "
        "CLIENT_TIMEOUT",
    )
    max_connection_age_seconds: float = Field(
        3600.0,
        gt=0,
        description="age at which clients are asked to open a new connection, which may reach another process; running "
        "calls are completed",
    )
    unary_timeout_seconds: float = Field(30.0, gt=0, description="deadline of unary calls without one")
    stream_timeout_seconds: float = Field(
        3600.0, gt=0, description="deadline of streams without one; a cursor resumes them"
    )
    stream_send_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="time in which a client must receive a message, or send the next one of an upload; then its stream "
        "is cancelled, or CLIENT_TIMEOUT",
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
    max_segments_per_org: int = Field(
        0, ge=0, description="segments of an org that are not deleted; more are QUOTA_EXCEEDED; 0: no limit"
    )
    max_custom_audiences_per_org: int = Field(
        0, ge=0, description="custom audiences of an org; more are QUOTA_EXCEEDED; 0: no limit"
    )
    max_snapshots_per_org: int = Field(
        0,
        ge=0,
        description="snapshots of an org that have not expired, in any state; more are QUOTA_EXCEEDED; 0: no limit",
    )
    max_uses_per_org: int = Field(
        0, ge=0, description="registered uses of an org's audiences; more are QUOTA_EXCEEDED; 0: no limit"
    )
    export_log_retention_seconds: float = Field(
        34_560_000.0,
        ge=86_400,
        description="how long the export log keeps the record of a call that sent members: 400 days by default",
    )
    reflection: bool = Field(True, description="whether clients may list the services")
    http_listen: str = Field(
        "127.0.0.1:8080",
        description="address and port of the HTTP gateway, which `audience-service gateway` runs in front of the "
        "server at AUDIENCE_LISTEN; port 0 selects a free port",
    )
    http_cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins whose pages may call the HTTP gateway, comma-separated, such as https://crm.example.com; "
        "`*`: every origin; unset: none",
    )
    http_max_connections: int = Field(
        4_096, ge=1, description="open connections of the HTTP gateway; it closes further ones"
    )
    http_max_body_bytes: int = Field(
        4_194_304,
        ge=1_024,
        le=4_194_304,
        description="the largest body that the HTTP gateway accepts, decompressed; larger ones are REQUEST_TOO_LARGE "
        "(413); uploads have no limit",
    )
    http_idle_timeout_seconds: float = Field(
        300.0, ge=1, description="how long the HTTP gateway keeps a connection without a request"
    )
    metrics_listen: str = Field(
        "", description="address and port of the metrics for Prometheus (`/metrics`), such as 0.0.0.0:9464; unset: none"
    )
    metrics_orgs: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="orgs whose calls the metrics count separately, comma-separated, at most 100"
    )
    traces: bool = Field(
        False,
        description="whether calls are traced with OpenTelemetry and exported by OTLP over gRPC; the OTEL_* variables "
        "set endpoint and sampling, and the package needs its extra `tracing`",
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="`text` or `json`, to stderr: one line for each RPC with `request_id`, `method`, `code` and "
        "`duration_ms`, and with `org` and `subject` once the token is verified",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the lowest level of log lines: `debug`, `info`, `warning` or `error`; RPCs are `info`"
    )
    access_log: bool = Field(True, description="whether each RPC gets a log line")
    access_log_success_share: float = Field(
        1.0, ge=0, le=1, description="share of the successful RPCs that get a log line, drawn at random; failed ones do"
    )
    slow_call_seconds: float = Field(
        5.0,
        ge=0,
        description="unary RPCs that take at least this long get a log line `slow call` with audience, query plan and "
        "the index that would help; 0: none",
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

    @field_validator("jwt_algorithms", "jwt_key_file", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("http_cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
        if wrong := [origin for origin in origins if not re.fullmatch(r"\*|https?://[^/\s]+", origin)]:
            raise ValueError(f"{wrong[0]} is not an origin; write scheme and host: https://crm.example.com")
        return origins

    @field_validator("listen", "http_listen", "metrics_listen")
    @classmethod
    def _check_local_address(cls, value: str) -> str:
        return _check_address(value)

    @field_validator("metrics_orgs", mode="before")
    @classmethod
    def _split_orgs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        orgs = tuple(org.strip() for org in value.split(",") if org.strip())
        if len(orgs) > _MAX_METRICS_ORGS:
            raise ValueError(f"names {len(orgs)} orgs; name at most {_MAX_METRICS_ORGS}, since each is a time series")
        return orgs

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.workers > 1 and self.mongodb_uri is None:
            raise ValueError(
                "AUDIENCE_WORKERS above 1 needs AUDIENCE_MONGODB_URI, since workers cannot share the embedded store"
            )
        if self.max_scanned_records and self.mongodb_uri is None:
            raise ValueError(
                "AUDIENCE_MAX_SCANNED_RECORDS needs AUDIENCE_MONGODB_URI, since the embedded store has no query plans"
            )
        if self.workers > 1 and self.listen.endswith(":0"):
            raise ValueError(
                "AUDIENCE_WORKERS above 1 needs a port in AUDIENCE_LISTEN; port 0 gives each worker a different one"
            )
        if self.jwt_key and self.jwt_key_file:
            raise ValueError("AUDIENCE_JWT_KEY and AUDIENCE_JWT_KEY_FILE are both set; set one of them")
        if not self.jwt_algorithms:
            raise ValueError("AUDIENCE_JWT_ALGORITHMS is empty; set at least one, for example RS256")
        if self.sealing_key and self.sealing_key_file:
            raise ValueError("AUDIENCE_SEALING_KEY and AUDIENCE_SEALING_KEY_FILE are both set; set one of them")
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("AUDIENCE_TLS_CERTIFICATE_FILE and AUDIENCE_TLS_KEY_FILE go together; set both or neither")
        if self.tls_client_ca_file and not self.tls_certificate_file:
            raise ValueError("AUDIENCE_TLS_CLIENT_CA_FILE needs AUDIENCE_TLS_CERTIFICATE_FILE; set it as well")
        return self

    @property
    def collections(self) -> tuple[str, ...]:
        """The platform's collections that filters read."""
        return tuple(dict.fromkeys((*self.datatypes, *self.related_datatypes)))

    @property
    def has_key(self) -> bool:
        """Whether a key that verifies tokens is set."""
        return bool(self.jwt_key or self.jwt_key_file or self.jwt_jwks_url)

    def key_files(self) -> tuple[tuple[str | None, Path], ...]:
        """The files with keys that verify tokens, each with the id that it gives its key."""
        forms = (_KEY_FILE.fullmatch(entry) for entry in self.jwt_key_file)
        return tuple((form[1], Path(form[2])) for form in forms if form)

    def sealing_keys(self) -> tuple[bytes, ...]:
        """The secrets that seal positions; the first one seals. Raises SettingsError if none is set or one is weak."""
        if self.sealing_key:
            name, texts = "AUDIENCE_SEALING_KEY", self.sealing_key.get_secret_value().split(",")
        elif self.sealing_key_file:
            name = "AUDIENCE_SEALING_KEY_FILE"
            try:
                texts = self.sealing_key_file.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{name}: {error}") from None
        else:
            raise SettingsError(
                "AUDIENCE_SEALING_KEY: is missing; set it to 32 bytes or more (openssl rand -hex 32), the same in "
                "all processes, or serve with --dev"
            )
        keys = tuple(text.strip().encode() for text in texts if text.strip())
        if not keys:
            raise SettingsError(f"{name}: has no secret; set one of {_MIN_SECRET_BYTES} bytes or more")
        weak = [number for number, key in enumerate(keys, 1) if len(key) < _MIN_SECRET_BYTES]
        if weak:
            raise SettingsError(f"{name}: secret {weak[0]} is shorter than {_MIN_SECRET_BYTES} bytes; set a longer one")
        return keys

    def hash_secret(self) -> bytes:
        """The secret of keyed hashes, 32 bytes. Raises SettingsError if there is none, or if it is too short."""
        if self.hash_key:
            secret = self.hash_key.get_secret_value().encode()
            if len(secret) < _MIN_SECRET_BYTES:
                raise SettingsError(f"AUDIENCE_HASH_KEY: is shorter than {_MIN_SECRET_BYTES} bytes; set a longer one")
        elif self.jwt_key and any(algorithm.startswith("HS") for algorithm in self.jwt_algorithms):
            secret = self.jwt_key.get_secret_value().encode()
        else:
            raise SettingsError("AUDIENCE_HASH_KEY: is missing; AUDIENCE_JWT_KEY has no secret to derive it from")
        return hashlib.sha256(b"identifier hashes" + secret).digest()

    def with_dev_keys(self) -> Self:
        """These settings, with a generated key for each purpose that has none: tokens (HS256), sealing and hashes."""
        generated: dict[str, object] = {}
        if not self.has_key:
            generated |= {"jwt_key": SecretStr(secrets.token_hex(32)), "jwt_algorithms": ("HS256",)}
        if not (self.sealing_key or self.sealing_key_file):
            generated["sealing_key"] = SecretStr(secrets.token_hex(32))
        if not self.hash_key:
            generated["hash_key"] = SecretStr(secrets.token_hex(32))
        return self.model_copy(update=generated)


def _format_error(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"AUDIENCE_{str(location[0]).upper()}: {message}" if location else message


def _check_address(value: str) -> str:
    if value and not re.fullmatch(r".+:\d{1,9}", value):
        raise ValueError(f"{value} is not an address with a port; write it like 127.0.0.1:50051")
    if value and int(value.rpartition(":")[2]) > _MAX_PORT:
        raise ValueError(f"{value} has a port above {_MAX_PORT}")
    return value


def _unknown_variables() -> Iterator[str]:
    """A message for each variable that is not a setting of the service or of its commands."""
    known = {f"AUDIENCE_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith("AUDIENCE_") and not name.startswith("AUDIENCE_TEST_") and name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            yield f"{name}: is not a setting" + (f"; did you mean {similar[0]}?" if similar else "")
