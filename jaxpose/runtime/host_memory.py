"""Keep freed memory in the process: XLA's CPU buffers are otherwise returned to the OS."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
_NEVER = -1


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to hold on to freed memory; whether it took it (False elsewhere).

    Call it before JAX starts its threads: one arena for all of them, since an arena of a thread's
    own maps whatever is larger than 64 MB anew. Else the temporary buffer of a training step
    (340 MB for one block of the paper's network at batch 4) costs a page fault for every 4 KB of
    every step, 7 to 25 % of its time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library than glibc
        return False
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all([mallopt(*each) for each in wanted])
