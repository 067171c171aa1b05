"""Freed memory stays in the process: a step's temporary buffer is not mapped anew."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, threading
from jaxpose.runtime.host_memory import keep_freed_memory
assert keep_freed_memory()
import jax, jax.numpy as jnp

@jax.jit
def step(x):
    big = jnp.sin(x @ x.T)  # 268 MB that live inside the step alone
    return jnp.sin(big @ x)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def steps():  # in a thread that is not the main one, as JAX's own are
    x, each = jnp.ones((8192, 8)), []
    for _ in range(40):
        before = faults()
        jax.block_until_ready(step(x))
        each.append(faults() - before)
    print(sorted(each)[20])

thread = threading.Thread(target=steps)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
def test_a_step_does_not_fault_its_memory_in_again():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True
    )
    assert float(done.stdout) < 8192  # a page of each 4 KB would be 65,536
