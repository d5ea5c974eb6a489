"""How a serving process treats its memory."""

import ctypes
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_ARENA_SCRIPT = """
import ctypes, sys, threading

import pytest
from audience_service.cli.malloc import limit_arenas

libc = ctypes.CDLL(None)
if sys.argv[1] == "shared":
    limit_arenas()
if not hasattr(libc, "malloc_info"):
    sys.exit()  # another C library: nothing to do, and nothing done
together = threading.Barrier(12)

def allocate():
    together.wait()
    held = [bytearray(100_000) for _ in range(20)]
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def _count_arenas(mode: str) -> int:
    command = [sys.executable, "-c", _ARENA_SCRIPT, mode]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603
    return len(re.findall(r"<heap nr=", output))


def test_threads_share_two_malloc_arenas() -> None:
    apart = _count_arenas("apart")
    assert _count_arenas("shared") <= 2
    assert apart > 2 or not hasattr(ctypes.CDLL(None), "malloc_info")
