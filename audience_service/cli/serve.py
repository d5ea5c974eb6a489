"""`audience-service serve`: one server process, or several that share a port."""

import faulthandler
import math
import os
import queue
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import click
import structlog

from audience_service.app import App
from audience_service.cli import EX_CONFIG
from audience_service.cli.log import configure_logs
from audience_service.cli.malloc import limit_arenas, tune_gc
from audience_service.cli.supervisor import BEAT_SECONDS, PortTaken, Supervisor, watch_supervisor
from audience_service.cli.token import mint
from audience_service.mongo.embedded.refusals import LACKING_RPCS
from audience_service.observability.metrics import MULTIPROCESS_VARIABLE, forget_process, serve_metrics
from audience_service.observability.tracing import close_tracing, configure_tracing
from audience_service.settings import Settings
from audience_service.settings_error import SettingsError
from audience_service.wiring.server import build_key_ring
from audience_service.wiring.store import SAMPLE_ORGS, open_store

_GRACE_SECONDS = 10.0
_STOP_SECONDS = _GRACE_SECONDS + 5
"""The longest time until a process that stops has ended. Containers are killed after 20 s (deploy/, compose.yaml)."""
_SIGNAL_SECONDS = 1.0
"""How soon a signal is noticed that another thread than the main thread has received."""
_SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a thread computes while another waits for the interpreter; 5 ms by default.

A call needs the interpreter several times, after each wait for its client and the database. A thread that parses a
large filter would delay it each time. Next to eight slow counts, the 99th percentile of GetSegment was 75 ms instead of
135, on a busy machine.
"""

_log = structlog.get_logger()


class StopSignal:
    """Whether a signal has requested a stop.

    This is not a threading.Event, because a signal handler can interrupt the main thread inside `wait`. `set` would
    then wait forever for the lock that `wait` has acquired. SimpleQueue.put is reentrant.
    """

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()

    def request(self, *_: object) -> None:
        """Request a stop. A signal handler."""
        self._requests.put(None)

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait until a stop is requested, at most this many seconds. Returns whether it was requested.

        Python runs signal handlers in the main thread alone. A signal that the system delivers to another thread does
        not end the main thread's wait for the queue, so it waits again and again.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                self._requests.get(timeout=max(min(until - time.monotonic(), _SIGNAL_SECONDS), 0))
            except queue.Empty:
                if time.monotonic() >= until:
                    return False
            else:
                return True


@click.command()
@click.option("--dev", is_flag=True, help="For this run, generate the keys that are not set, and print a token.")
def serve(*, dev: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Exits with 78 if the settings are invalid."""
    settings = Settings.load()
    if dev:
        has_key, settings = settings.has_key, settings.with_dev_keys()
        if not has_key:
            _print_dev_token(settings)
        if settings.mongodb_uri is None:
            _print_lacks()
    (
        build_key_ring(settings),
        settings.sealing_keys(),
        settings.hash_secret(),
    )  # fail before any process or port is opened
    if settings.workers > 1:
        open_store(settings).close()  # an invalid URI would end each worker
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.request)
    with ExitStack() as stack:
        metrics_directory = _serve_metrics(settings, stack)
        if settings.workers == 1:
            _serve_in_process(settings, stop.wait)
        else:
            _supervise(settings, stop, metrics_directory)


def _serve_metrics(settings: Settings, stack: ExitStack) -> Path | None:
    """Serve the metrics if a setting says so. Returns the directory to which worker processes write theirs."""
    if not settings.metrics_listen:
        return None
    directory = None
    if settings.workers > 1:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audience-metrics-")))
        os.environ[MULTIPROCESS_VARIABLE] = str(directory)  # the workers inherit it
    try:
        stack.enter_context(serve_metrics(settings.metrics_listen, directory))
    except OSError as error:
        message = f"AUDIENCE_METRICS_LISTEN: cannot serve on {settings.metrics_listen}: {error}"
        raise click.ClickException(message) from None
    return directory


def _serve_in_process(settings: Settings, wait_for_stop: Callable[[], object]) -> None:
    limit_arenas()
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    configure_logs(settings.log_format, settings.log_level)
    if settings.traces:
        _start_tracing()
    try:
        app = App(settings, open_store(settings))
    except RuntimeError as error:
        raise click.ClickException(f"AUDIENCE_LISTEN: cannot serve on {settings.listen}: {error}") from None
    app.start()
    tune_gc()
    host = settings.listen.rpartition(":")[0]
    store = settings.database if settings.mongodb_uri else "the embedded store"
    _log.info("serving", address=f"{host}:{app.port}", store=store, datatypes=",".join(settings.datatypes))
    wait_for_stop()
    _log.info("draining", grace_seconds=_GRACE_SECONDS)
    faulthandler.dump_traceback_later(_STOP_SECONDS, exit=True)  # if a thread hangs, the log shows where
    app.stop(_GRACE_SECONDS)
    close_tracing()
    # A call that outlived the grace period may still occupy a thread, which sys.exit would wait for.
    sys.stderr.flush()
    os._exit(0)


def _start_tracing() -> None:
    try:
        configure_tracing()
    except ImportError as error:
        raise SettingsError(
            f"AUDIENCE_TRACES: the package {error.name} is missing; install 'audience-service[tracing]'"
        ) from None


def _run_worker(settings: Settings, pipe: Connection) -> None:
    """Run a worker process until SIGTERM or the end of its supervisor."""
    stop = StopSignal()
    signal.signal(signal.SIGTERM, stop.request)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent sends SIGTERM
    watch_supervisor(pipe, stop.request)

    def beat_until_stop() -> None:
        is_stopping = False
        while not is_stopping:
            with suppress(OSError):  # the supervisor has ended
                pipe.send_bytes(b".")
            is_stopping = stop.wait(BEAT_SECONDS)
        pipe.close()

    try:
        _serve_in_process(settings, beat_until_stop)
    except SettingsError as error:
        _log.critical("invalid settings", error=str(error))
        sys.exit(EX_CONFIG)


def _supervise(settings: Settings, stop: StopSignal, metrics_directory: Path | None) -> None:
    """Run several workers until a stop is requested. Exits with EX_CONFIG if they refuse their settings."""
    configure_logs(settings.log_format, settings.log_level)

    def forget(pid: int) -> None:
        if metrics_directory:
            forget_process(pid, metrics_directory)

    try:
        supervisor = Supervisor(
            settings.listen, settings.workers, partial(_run_worker, settings), _STOP_SECONDS + 2, forget
        )
    except PortTaken as error:
        raise click.ClickException(f"AUDIENCE_LISTEN: cannot serve on {settings.listen}: {error}") from None
    sys.exit(supervisor.run(stop.wait))


def _print_lacks() -> None:
    click.echo(
        f"The store is in memory. It lacks {', '.join(LACKING_RPCS)}, lookalikes, and filters such as $related and"
        " $expr (docs/reference/filters.md); set AUDIENCE_MONGODB_URI to use them.",
        err=True,
    )


def _print_dev_token(settings: Settings) -> None:
    org = next(iter(SAMPLE_ORGS))
    token = mint(settings, org=org, subject="dev", ttl_seconds=86_400)
    click.echo(f"generated a key for this run. A token for the org {org}, valid for one day:\n{token}", err=True)
