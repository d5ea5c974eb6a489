"""The threads of the server: as many as there are calls to answer.

Most threads of a busy server wait: for a client's request, for a permit, for the database. Permits limit the work
(`permits.py`), so a call never waits for a thread.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog

_IDLE_SECONDS = 10.0
"""How long a thread without a job lives."""

_Result = TypeVar("_Result")
_Job = Callable[[], None]
_log = structlog.get_logger()


class ElasticExecutor(Executor):
    """Starts a thread for each job that finds no idle one. Idle threads end after a while.

    The thread that became idle last takes the next job, so the others can end.
    """

    def __init__(self, name: str, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._name = name
        self._idle_seconds = idle_seconds
        self._idle: list[SimpleQueue[_Job]] = []
        self._backlog: deque[_Job] = deque()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Run a function in a thread. Never raises: grpcio's serving thread would die of an exception.

        If the machine has no further thread, the job waits until a thread is idle.
        """
        future: Future[_Result] = Future()

        def job() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(job)
            return future
        try:
            threading.Thread(target=self._run, args=(job,), name=self._name, daemon=True).start()
        except RuntimeError as error:
            _log.error("cannot start a thread; the call waits for another one", exc_info=error)
            with self._lock:
                inbox = self._idle.pop() if self._idle else None
                if inbox is None:
                    self._backlog.append(job)
            if inbox is not None:  # a thread has become idle meanwhile
                inbox.put(job)
        return future

    def _run(self, job: _Job) -> None:
        inbox: SimpleQueue[_Job] = SimpleQueue()
        while True:
            job()
            del job  # it would keep the call's request and response while the thread is idle
            with self._lock:
                if self._backlog:
                    job = self._backlog.popleft()
                    continue
                self._idle.append(inbox)
            try:
                job = inbox.get(timeout=self._idle_seconds)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                job = inbox.get()  # a job was submitted just now
