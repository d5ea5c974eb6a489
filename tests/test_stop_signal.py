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


def test_a_signal_ends_the_wait_at_any_point() -> None:
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-c", SIGNAL_SCRIPT], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.returncode) == ("over\n", 0), done.stderr


def test_a_wait_without_a_signal_returns_false() -> None:
    assert not StopSignal().wait(0.001)
