"""Keep freed memory in the process: XLA's CPU buffers are otherwise returned to the OS."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
_NEVER = -1


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed memory. Returns whether it did (False without glibc).

    Call it before the process starts its first thread, even one that soon ends: it also limits
    malloc to one arena, because in a per-thread arena, every allocation above 64 MB is a new memory
    mapping, and a new thread takes over the arena of one that ended. Without this call, the
    temporary buffer of a training step (340 MB for one block of the paper's network at batch 4)
    causes a page fault per 4 KB in every step, which takes 7 to 25 % of the step's time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # a C library other than glibc
        return False
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all([mallopt(*each) for each in wanted])
