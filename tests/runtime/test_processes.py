"""Which processes there are, what they add up, and the two SIGTERMs."""

import inspect
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxpose.errors import JaxposeError
from jaxpose.runtime import processes

SIGNATURE = inspect.signature(jax.distributed.initialize)


@pytest.fixture
def joined(monkeypatch):
    """The arguments that JAX's runtime is started with."""
    for name in (*processes._CLUSTER_VARIABLES,):
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    return calls


def test_alone_nothing_is_started(joined):
    processes.initialize()
    assert joined == []


def test_arguments_are_handed_on(joined):
    processes.initialize("host:1234", 4, 2)
    (call,) = joined
    assert (call["coordinator_address"], call["num_processes"], call["process_id"]) == (
        "host:1234",
        4,
        2,
    )
    assert call["heartbeat_timeout_seconds"] == processes.HEARTBEAT_SECONDS
    processes.initialize("host:1234", 4, 2, heartbeat_seconds=7)
    assert joined[1]["heartbeat_timeout_seconds"] == 7


def test_the_others_wait_long_for_process_0_which_writes_the_report(joined):
    processes.initialize("host:1234", 4, 2)
    assert joined[0]["shutdown_timeout_seconds"] >= 12 * 60 * 60
    SIGNATURE.bind(**joined[0])


def test_a_heartbeat_of_no_time_is_an_error(joined):
    with pytest.raises(JaxposeError, match="--heartbeat_seconds is 0; it must be 1 or more"):
        processes.initialize("host:1234", 4, 2, heartbeat_seconds=0)


@pytest.mark.parametrize("given", [("host:1", None, None), (None, 2, 0), ("host:1", 2, None)])
def test_half_of_the_arguments_is_an_error(joined, given):
    with pytest.raises(JaxposeError, match="together, or none"):
        processes.initialize(*given)


@pytest.mark.parametrize(
    ("name", "value", "several"),
    [
        ("SLURM_NTASKS", "1", False),
        ("SLURM_NTASKS", "8", True),
        ("OMPI_COMM_WORLD_SIZE", "1", False),
        ("OMPI_COMM_WORLD_SIZE", "2", True),
        ("JOB_COMPLETION_INDEX", "0", True),
        ("TPU_WORKER_HOSTNAMES", "localhost", False),
        ("TPU_WORKER_HOSTNAMES", "a,b", True),
        ("JAX_COORDINATOR_ADDRESS", "host:1", True),
    ],
)
def test_launchers_are_found_by_their_variables(joined, monkeypatch, name, value, several):
    monkeypatch.setenv(name, value)
    processes.initialize()
    assert bool(joined) == several


def test_processes_that_do_not_meet_are_one_line(monkeypatch):
    def fail(**arguments):
        raise RuntimeError("DEADLINE_EXCEEDED: no answer\nand a trace")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(JaxposeError, match="DEADLINE_EXCEEDED.*host:1 is reachable") as caught:
        processes.initialize("host:1", 2, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_sums_keep_their_precision(monkeypatch, dtype, shape):
    """Of float64 above all, which JAX would round."""
    values = np.asarray(np.random.default_rng(0).normal(size=shape) * 1000).astype(dtype)

    def gather(mine):
        assert mine.dtype == np.uint8
        return np.stack([mine, mine, mine])

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    found = processes.sum_over_processes(values)
    assert found.dtype == values.dtype and found.shape == shape
    np.testing.assert_array_equal(found, values + values + values)
    gathered = processes.gather_over_processes(values)
    assert gathered.dtype == values.dtype
    np.testing.assert_array_equal(gathered, np.stack([values, values, values]))


def test_alone_a_sum_is_the_array():
    values = np.arange(3.0)
    assert processes.sum_over_processes(values) is values
    np.testing.assert_array_equal(processes.gather_over_processes(values), [values])


def test_the_first_sigterm_only_asks():
    before = signal.getsignal(signal.SIGTERM)
    with processes.Preemption() as preemption:
        assert not preemption.reached()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.reached()
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_second_sigterm_ends_the_process():
    code = (
        "import os, signal; from jaxpose.runtime.processes import Preemption\n"
        "with Preemption():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == ""


def test_alone_nobody_is_waited_for():
    processes.barrier()
    assert processes.same_everywhere(3)
    processes.abort(1)  # returns
