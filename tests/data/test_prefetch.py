"""Threads and worker processes: the same batches, and nothing left of them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxpose.data.prefetch import Batches
from jaxpose.errors import JaxposeError
from jaxpose.storage import use_gcsfs
from tests.support.drawn_people import PEOPLE, assert_same, take, training


def test_worker_processes_give_the_same_batches_and_end():
    splits = [(PEOPLE, 1.5)]
    expected = take(training(splits, start_step=2), 5)
    batches = training(splits, start_step=2, workers=2)
    assert_same([next(batches) for _ in range(5)], expected)
    workers = _worker_pids()
    assert len(workers) == 2
    batches.close()
    assert not _worker_pids()
    with pytest.raises(StopIteration):
        next(batches)


def _worker_pids():
    return [p.pid for p in multiprocessing.active_children() if p.pid]


@pytest.mark.slow
def test_workers_outlive_a_terminal_and_a_cluster_but_not_their_parent(tmp_path):
    """Ctrl-C and SIGTERM reach the whole process group; SIGKILL the main process alone."""
    script = (
        "import time, multiprocessing\n"
        "from tests.support import drawn_people as t\n"
        "if __name__ == '__main__':\n"
        "    batches = t.training([(t.PEOPLE, 1.0)], workers=1)\n"
        "    next(batches)\n"
        "    print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "main.py").write_text(script)
    command = [sys.executable, str(tmp_path / "main.py")]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | path
    ) as main:
        (worker,) = map(int, main.stdout.readline().split())
        for polite in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker, polite)
        time.sleep(0.5)
        assert _alive(worker)
        main.kill()
    deadline = time.monotonic() + 20
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_workers_are_started_again():
    expected = take(training([(PEOPLE, 1.0)]), 30)
    batches = training([(PEOPLE, 1.0)], workers=2)
    ours = [next(batches) for _ in range(4)]
    os.kill(_worker_pids()[0], signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="worker was killed"):
        ours += [next(batches) for _ in range(26)]
    batches.close()
    assert_same(ours, expected)
    assert not _worker_pids()


class _Gone(list):
    """A source whose files were deleted."""

    def __getitem__(self, index):
        raise OSError("file gone")


@pytest.mark.slow
def test_an_error_in_a_worker_arrives_as_it_is():
    batches = training([(PEOPLE._replace(source=_Gone(range(8))), 1.0)], workers=2)
    with pytest.raises(JaxposeError, match=r"people train cannot be read \(file gone\)"):
        next(batches)
    assert not _worker_pids()
    with pytest.raises(StopIteration):
        next(batches)


class _OpensBucket:
    """Says which file system opens gs:// paths when it is unpickled, as TFDS's sources do."""

    def __reduce__(self):
        return _opens_bucket, ()

    def __call__(self, step):
        return self.patient


def _opens_bucket():
    import fsspec
    import gcsfs

    maker = _OpensBucket()
    maker.patient = fsspec.get_filesystem_class("gs") is not gcsfs.GCSFileSystem
    return maker


@pytest.mark.slow
def test_workers_open_a_bucket_with_the_same_patience():
    pytest.importorskip("gcsfs", reason="object storage: the extra cloud is not installed")
    use_gcsfs()
    batches = Batches(_OpensBucket(), start=0, stop=1, workers=1)
    assert next(batches) is True
    batches.close()


def test_no_threads_are_left():
    before = set(threading.enumerate())
    take(training([(PEOPLE, 1.0)]), 2)
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
