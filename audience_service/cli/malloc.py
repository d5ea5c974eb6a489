"""How a serving process treats its memory."""

import ctypes
import gc

_M_ARENA_MAX = -8
"""Of mallopt(3)."""
_MAX_ARENAS = 2


def limit_arenas() -> None:
    """Let glibc's malloc keep two arenas for all threads; to be called before there are threads.

    By default there are eight to a processor, each of which keeps what its threads have freed: as uploads are taken
    in by one thread after another, the process grows by some 5 MB with each, up to hundreds. With two it stays as it
    is after the first (docs/performance.md). Other C libraries have no such arenas, and no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_ARENA_MAX, _MAX_ARENAS)


def tune_gc() -> None:
    """Let the garbage collector look less often, and not at what is there now; to be called when all is started.

    What is there stays; a stream makes records by the thousand, none of them in cycles. A tenth of a stream's time
    otherwise.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
