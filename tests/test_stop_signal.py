"""What a served process waits for."""

import subprocess
import sys

import pytest

from audience_service.cli.serve import StopSignal

pytestmark = pytest.mark.slow

SIGNAL_SCRIPT = """
import signal, time

import pytest
from audience_service.cli.serve import StopSignal
stop = StopSignal()
signal.signal(signal.SIGALRM, stop.request)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
over = time.monotonic() + 1
while time.monotonic() < over:
    stop.wait(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
print("over")
"""
"""Waits that a signal ends two thousand times, in whatever moment it comes."""

OTHER_THREAD_SCRIPT = """
import os, signal, sys, threading

from audience_service.cli.serve import StopSignal
stop = StopSignal()
signal.signal(signal.SIGTERM, stop.request)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

def receive():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    while sys._current_frames()[threading.main_thread().ident].f_code is not StopSignal.wait.__code__:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()

threading.Thread(target=receive, daemon=True).start()
print("stop" if stop.wait() else "no stop")
"""
"""A wait of the main thread while the system delivers the signal to another thread."""


@pytest.mark.parametrize(("script", "printed"), [(SIGNAL_SCRIPT, "over\n"), (OTHER_THREAD_SCRIPT, "stop\n")])
def test_a_signal_ends_the_wait_at_any_point(script: str, printed: str) -> None:
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.returncode) == (printed, 0), done.stderr


def test_a_wait_without_a_signal_returns_false() -> None:
    assert not StopSignal().wait(0.001)
