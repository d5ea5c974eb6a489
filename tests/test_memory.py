"""How a serving process treats its memory."""

import ctypes
import re
import subprocess
import sys

_ARENAS_OF_THREADS = """
import ctypes, sys, threading
from audience_service.cli.memory import share_arenas

libc = ctypes.CDLL(None)
if sys.argv[1] == "shared":
    share_arenas()
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


def _arenas(how: str) -> int:
    command = [sys.executable, "-c", _ARENAS_OF_THREADS, how]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603
    return len(re.findall(r"<heap nr=", told))


def test_threads_share_two_arenas_of_memory_so_that_none_keeps_what_it_has_freed() -> None:
    apart = _arenas("apart")
    assert _arenas("shared") <= 2
    assert apart > 2 or not hasattr(ctypes.CDLL(None), "malloc_info")
