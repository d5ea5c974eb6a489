"""What a served process waits for."""

import subprocess
import sys

from audience_service.cli.serve import Stop

WAITING = """
import signal, time
from audience_service.cli.serve import Stop
stop = Stop()
signal.signal(signal.SIGALRM, stop.ask)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
over = time.monotonic() + 1
while time.monotonic() < over:
    stop.wait(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
print("over")
"""
"""Waits that a signal ends two thousand times, in whatever moment it comes."""


def test_a_signal_that_comes_in_any_moment_of_the_wait_ends_it() -> None:
    done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    assert (done.stdout, done.returncode) == ("over\n", 0), done.stderr


def test_a_wait_that_no_signal_has_ended_says_so() -> None:
    assert not Stop().wait(0.001)
