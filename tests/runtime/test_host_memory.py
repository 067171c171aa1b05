"""Freed memory stays in the process."""

import subprocess
import sys

import pytest

from tests.support import tiny_run

SIZE = 256 * 2**20  # bytes, far above what glibc keeps by default

CODE = """
import ctypes, sys, threading
from jaxpose.runtime.host_memory import keep_freed_memory

assert sys.argv[1] == "default" or keep_freed_memory()
size, libc = int(sys.argv[2]), ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))

def use_and_free():  # in a thread that is not the main one, as JAX's own are
    before = resident()
    buffer = libc.malloc(size)
    ctypes.memset(buffer, 1, size)
    libc.free(buffer)
    print((resident() - before) / size)

thread = threading.Thread(target=use_and_free)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
@pytest.mark.parametrize(("setting", "kept"), [("default", 0.0), ("keep", 1.0)])
def test_freed_memory_stays_resident(setting, kept):
    command = [sys.executable, "-c", CODE, setting, str(SIZE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(kept, abs=0.1)


ARENAS = """
import ctypes, sys
import launch

assert launch.main(sys.argv[1:]) == 0
libc = ctypes.CDLL(None)
libc.open_memstream.restype = ctypes.c_void_p
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
libc.malloc_info(0, stream)
libc.fclose(stream)
print("arenas:", text.value.count(b"<heap nr="))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
def test_all_threads_of_a_run_share_one_arena(tmp_path, people):
    command = tiny_run.command(tmp_path / "run", people, num_epochs=1)
    done = subprocess.run(
        [sys.executable, "-c", ARENAS, *command], capture_output=True, text=True, cwd=tiny_run.ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "arenas: 1"
