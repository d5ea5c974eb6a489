"""`audience-service serve`: one server process, or several that share a port."""

import multiprocessing
import os
import queue
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path

import click
import structlog

from audience_service.app import App
from audience_service.cli.log import configure_logs
from audience_service.cli.malloc import limit_arenas, tune_gc
from audience_service.cli.token import mint
from audience_service.observability.metrics import MULTIPROCESS_VARIABLE, forget_process, serve_metrics
from audience_service.observability.tracing import close_tracing, configure_tracing
from audience_service.settings import Settings, SettingsError
from audience_service.wiring.server import build_key_ring
from audience_service.wiring.store import SAMPLE_ORGS, open_store

_GRACE_SECONDS = 10.0
_RESTART_INTERVAL_SECONDS = 1.0

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

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a stop is requested, at most this many seconds. Returns whether it was requested."""
        try:
            self._requests.get(timeout=seconds)
        except queue.Empty:
            return False
        return True


@click.command()
@click.option("--dev", is_flag=True, help="For this run, generate the keys that are not set, and print a token.")
def serve(*, dev: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    settings = Settings.load()
    if dev:
        has_key, settings = settings.has_key, settings.with_dev_keys()
        if not has_key:
            _print_dev_token(settings)
    build_key_ring(settings), settings.sealing_keys()  # fail before any process or port is opened
    if settings.workers > 1:
        open_store(settings).close()  # an invalid URI would end each worker
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.request)
    with ExitStack() as stack:
        metrics_directory = _serve_metrics(settings, stack)
        if settings.workers == 1:
            _serve_in_process(settings, stop)
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


def _serve_in_process(settings: Settings, stop: StopSignal) -> None:
    limit_arenas()
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
    stop.wait()
    _log.info("draining", grace_seconds=_GRACE_SECONDS)
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


def _run_worker(settings: Settings) -> None:
    """Run a worker process. It is spawned, not forked, since grpcio does not support forks."""
    stop = StopSignal()
    signal.signal(signal.SIGTERM, stop.request)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent sends SIGTERM
    _serve_in_process(settings, stop)


def _supervise(settings: Settings, stop: StopSignal, metrics_directory: Path | None) -> None:
    """Start the workers, and replace each worker that dies, until a stop is requested."""
    configure_logs(settings.log_format, settings.log_level)
    spawn = multiprocessing.get_context("spawn")
    reserved = _reserve_port(settings.listen)  # bound but not listening: it reserves the port while workers restart

    def start_worker() -> BaseProcess:
        worker = spawn.Process(target=_run_worker, args=(settings,), name="audience-worker")
        worker.start()
        return worker

    workers = [start_worker() for _ in range(settings.workers)]
    while not stop.wait(_RESTART_INTERVAL_SECONDS):
        for index, worker in enumerate(workers):
            if not worker.is_alive():
                _log.error("worker died", pid=worker.pid, exit_code=worker.exitcode)
                if metrics_directory and worker.pid:
                    forget_process(worker.pid, metrics_directory)
                workers[index] = start_worker()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_GRACE_SECONDS + 5)
    reserved.close()


def _reserve_port(listen: str) -> socket.socket:
    """A socket bound to the port that the workers share. Raises ClickException if the port is not available."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reserved = socket.socket(family, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host.strip("[]"), int(port)))
    except OSError as error:
        reserved.close()
        raise click.ClickException(f"AUDIENCE_LISTEN: cannot serve on {listen}: {error}") from None
    return reserved


def _print_dev_token(settings: Settings) -> None:
    org = next(iter(SAMPLE_ORGS))
    token = mint(settings, org=org, subject="dev", ttl_seconds=86_400)
    click.echo(f"generated a key for this run. A token for the org {org}, valid for one day:\n{token}", err=True)
