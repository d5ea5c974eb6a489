"""Starts worker processes that share a port, and replaces those that die or hang.

A pipe joins the supervisor to each worker. The worker sends a beat every second: one that is silent for ten seconds,
for example because it is stopped, is killed and replaced. The pipe closes with the supervisor: the worker then drains
and ends, so no orphan keeps the port.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import structlog

from audience_service.cli import EX_CONFIG

BEAT_SECONDS = 1.0
_MAX_SILENT_SECONDS = 10.0
_MAX_START_SECONDS = 120.0
_KILL_SECONDS = 2.0
"""The longest time until the first beat."""

_log = structlog.get_logger()


class PortTaken(Exception):
    """Another process serves on the address, or the address is not one of this machine."""


def watch_supervisor(pipe: Connection, request_stop: Callable[[], None]) -> None:
    """Call `request_stop` once the supervisor has ended. Returns at once."""

    def wait() -> None:
        try:
            pipe.recv_bytes()  # the supervisor sends nothing
        except (EOFError, OSError):
            request_stop()

    threading.Thread(target=wait, name="supervisor-watch", daemon=True).start()


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    silent_from: float
    """The time, on the monotonic clock, from which the worker is silent for too long."""
    is_ending: bool = field(default=False)

    def read_beats(self, timestamp: float, grace_seconds: float) -> None:
        """Take the beats since the last call. A worker that closes its pipe drains, and has the grace period."""
        try:
            while not self.is_ending and self.pipe.poll():
                self.pipe.recv_bytes()
                self.silent_from = timestamp + _MAX_SILENT_SECONDS
        except (EOFError, OSError):
            self.is_ending = True
            self.silent_from = timestamp + grace_seconds


class Supervisor:
    """The workers of one service. `run` returns once a stop is requested and all have ended."""

    def __init__(
        self,
        listen: str,
        count: int,
        run_worker: Callable[[Connection], None],
        grace_seconds: float,
        on_end: Callable[[int], None],
    ) -> None:
        """Reserve the port. `on_end` gets the process id of each worker that is replaced.

        Raises PortTaken if any other process has the port, also one that would share it.
        """
        self._reserved = _reserve_port(listen)
        self._spawn = multiprocessing.get_context("spawn")  # grpcio does not support forks
        self._count = count
        self._run_worker = run_worker
        self._grace_seconds = grace_seconds
        self._on_end = on_end

    def run(self, wait_for_stop: Callable[[float], bool]) -> int:
        """Run the workers until `wait_for_stop`, which waits for the given seconds, returns True.

        Returns the exit code: EX_CONFIG if a worker refuses its configuration, which no restart would cure; 1 if a
        worker does not stop by itself.
        """
        workers = [self._start() for _ in range(self._count)]
        code = 0
        while not code and not wait_for_stop(BEAT_SECONDS):
            for index, worker in enumerate(workers):
                if self._is_well(worker):
                    continue
                if worker.process.exitcode == EX_CONFIG:
                    code = EX_CONFIG
                    break
                self._on_end(worker.process.pid or 0)
                workers[index] = self._start()
        have_stopped = self._stop(workers)
        return code or int(not have_stopped)

    def _start(self) -> _Worker:
        pipe, workers_end = self._spawn.Pipe()
        process = self._spawn.Process(target=self._run_worker, args=(workers_end,), name="audience-worker")
        process.start()
        workers_end.close()  # so that the pipe closes with the worker
        return _Worker(process, pipe, time.monotonic() + _MAX_START_SECONDS)

    def _is_well(self, worker: _Worker) -> bool:
        """Whether the worker lives and sends beats. Ends and logs one that does not."""
        timestamp = time.monotonic()
        worker.read_beats(timestamp, self._grace_seconds)
        if not worker.process.is_alive():
            _log.error("worker died", pid=worker.process.pid, exit_code=worker.process.exitcode)
        elif timestamp > worker.silent_from:
            _log.error("worker hangs; replacing it", pid=worker.process.pid)
            worker.process.kill()
            worker.process.join()
        else:
            return True
        worker.pipe.close()
        return False

    def _stop(self, workers: list[_Worker]) -> bool:
        """Stop the workers, and free the port. Return whether all of them stopped by themselves."""
        for worker in workers:
            worker.process.terminate()
        until = time.monotonic() + self._grace_seconds
        have_stopped = True
        for worker in workers:
            worker.process.join(max(until - time.monotonic(), 0))
            if worker.process.is_alive():
                _log.error("worker did not stop", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join(_KILL_SECONDS)
                have_stopped = False
            elif worker.process.exitcode not in (0, EX_CONFIG, -signal.SIGTERM):  # a worker that starts dies of SIGTERM
                _log.error("worker died", pid=worker.process.pid, exit_code=worker.process.exitcode)
                have_stopped = False
        self._reserved.close()
        return have_stopped


def _reserve_port(listen: str) -> socket.socket:
    """A socket bound to the port that the workers share. It does not listen; it keeps the port while they restart.

    SO_REUSEPORT also admits another service of the same user, whose clients would then be answered by either. So the
    port is first bound without it, which fails if anything serves there. Raises PortTaken.
    """
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host.strip("[]"), int(port))
    reserved = socket.socket(family, socket.SOCK_STREAM)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may linger
            probe.bind(address)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as error:
        reserved.close()
        raise PortTaken(str(error)) from None
    return reserved
