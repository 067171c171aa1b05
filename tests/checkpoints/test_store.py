"""Checkpoints: bit for bit, on any devices, and what happens when the disk is full or lies."""

import collections
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.geometry import CropRule
from jaxpose.runtime.devices import replicate, unreplicate
from jaxpose.training import optimizer
from jaxpose.training.step import create_train_state
from tests.support.some_devices import on_devices

METADATA = CheckpointMetadata(
    network={"num_joints": 2},
    joints=("right_wrist", "left_wrist"),
    flip_pairs=(("right_wrist", "left_wrist"),),
    limbs=(),
    trained_joints=("left_wrist",),
    image_size=64,
    crop=CropRule("joints", 1.3, 0.0),
    step=0,
)


def variables(seed=0, *, width=6):
    rng = np.random.default_rng(seed)
    return {
        "params": {
            "stem": {"kernel": rng.normal(size=(3, 3, 3, width)).astype(np.float32)},
            "block1_b": {"heatmaps": rng.normal(size=(width, 4)).astype(np.float32)},
        },
        "batch_stats": {"stem": {"mean": rng.normal(size=width).astype(np.float32)}},
    }


def state(seed=0, *, ema=True, width=6, name="rmsprop"):
    """A training state with numbers of every kind in it, as host arrays."""
    chosen = optimizer.make_optimizer(name, lambda step: 0.1, clip_norm=1.0)
    start = create_train_state(variables(seed, width=width), chosen, ema=ema)
    return jax.tree.map(np.asarray, start._replace(step=np.int32(seed)))


def save(folder, *steps, keep=2, tree=state):
    manager = store.open_manager(folder, keep=keep)
    for step in steps:
        store.save(manager, step, tree(step), METADATA._replace(step=step))
    store.finish(manager)


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 2 and 3; copy it before breaking it."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "latest"
    save(folder, 1, 2, 3)
    return folder


@pytest.fixture
def broken(saved, tmp_path):
    return pathlib.Path(shutil.copytree(saved, tmp_path / "latest"))


def test_a_state_with_the_best_metric_under_its_old_name_is_read(tmp_path):
    before = state(5)
    old = [field.replace("best_metric", "best_score") for field in before._fields]
    save(tmp_path, 5, tree=lambda step: collections.namedtuple("Old", old)(*before))
    after, _ = store.restore_newest(tmp_path, state(0), free="sums")
    assert_same(after, before)


@pytest.mark.parametrize("ema", [True, False])
def test_a_state_comes_back_bit_for_bit(tmp_path, ema):
    before = state(5, ema=ema)
    save(tmp_path, 5, tree=lambda step: before)
    after, metadata = store.restore_newest(tmp_path, state(0, ema=ema))
    assert_same(after, before)
    assert metadata == METADATA._replace(step=5)


def test_the_newest_of_those_kept_comes_back(saved):
    assert store.checkpoint_steps(saved) == [3, 2]
    restored, metadata = store.restore_newest(saved, state())
    assert (restored.step, metadata.step) == (3, 3)


def test_no_checkpoint_is_no_error(tmp_path):
    assert store.restore_newest(tmp_path / "nothing", state()) is None


def test_devices_are_free(tmp_path):
    """Saved from four devices, restored on one, and the other way round."""
    before = state(4)
    save(tmp_path, 4, tree=lambda step: unreplicate(replicate(before)))
    restored, _ = store.restore_newest(tmp_path, before)
    assert_same(restored, before)
    with on_devices(1):
        assert_same(unreplicate(replicate(restored)), before)


def largest_file(folder):
    return max((f for f in (folder / "tree").rglob("*") if f.is_file()), key=os.path.getsize)


def truncate(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def turn_bits(folder):
    for file in (folder / "tree").rglob("d/*"):
        turn_a_bit(file)


def edit_metadata(folder, change):
    file = folder / "metadata" / "metadata"
    file.write_text(change(file.read_text()))


def turn_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


WAYS = {
    "newest truncated": truncate,
    "bits turned": turn_bits,
    "a data file deleted": lambda folder: largest_file(folder).unlink(),
    "one bit of the list of files": lambda folder: turn_a_bit(folder / "files.json"),
    "the tree deleted": lambda folder: shutil.rmtree(folder / "tree"),
    "metadata deleted": lambda folder: (folder / "metadata" / "metadata").unlink(),
    "metadata garbage": lambda folder: edit_metadata(folder, lambda text: "\0garbage" + text),
    "metadata a list": lambda folder: edit_metadata(folder, lambda text: f"[{text}]"),
    "metadata empty": lambda folder: edit_metadata(folder, lambda text: "{}"),
    "metadata changed": lambda folder: edit_metadata(folder, lambda text: text.replace("64", "96")),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_read_is_named_and_the_one_before_is_taken(broken, caplog, way):
    WAYS[way](broken / "3")
    with caplog.at_level(logging.WARNING):
        restored, metadata = store.restore_newest(broken, state())
    assert_same(restored, state(2))
    assert metadata.step == 2
    (message,) = [r.getMessage() for r in caplog.records if r.name == "jaxpose.checkpoints.store"]
    assert f"{broken / '3'} cannot be read" in message and "\n" not in message


def test_each_file_of_a_checkpoint_is_checked(broken):
    """So that Orbax never starts reads that fail, whatever was damaged."""
    files = [f for part in ("tree", "metadata") for f in (broken / "3" / part).rglob("*")]
    files = [file for file in files if file.is_file()]
    assert len(files) > 5
    for file in files:
        before = file.read_bytes()
        turn_a_bit(file)
        with pytest.raises((ValueError, JaxposeError)):
            store._read(broken / "3", state())
        file.write_bytes(before)
    assert_same(store._read(broken / "3", state())[0], state(3))


def test_a_checkpoint_without_its_list_of_files_is_known_by_its_content(broken):
    """Those that were saved before there were lists."""
    (broken / "3" / "files.json").unlink()
    assert_same(store.restore_newest(broken, state())[0], state(3))
    WAYS["metadata changed"](broken / "3")
    assert_same(store.restore_newest(broken, state())[0], state(2))


def test_none_readable_is_one_line(broken):
    for step in ("2", "3"):
        WAYS["metadata deleted"](broken / step)
    with pytest.raises(JaxposeError, match=r"no checkpoint in .* \(tried steps 3, 2\)") as caught:
        store.restore_newest(broken, state())
    assert "\n" not in str(caught.value)


def test_another_network_is_told_by_its_leaves(saved):
    with pytest.raises(JaxposeError, match="belongs to another network") as caught:
        store.restore_newest(saved, state(width=8))
    shapes = "(3, 3, 3, 6) in the checkpoint and (3, 3, 3, 8) in this network"
    assert f"params/stem/kernel is {shapes}" in str(caught.value)
    assert "more)" in str(caught.value) and "\n" not in str(caught.value)


def test_a_loss_that_comes_or_goes_keeps_a_run_resumable(tmp_path):
    """The log's sums are no part of the network: those that the checkpoint lacks start at 0."""
    before = state(5)
    sums = {"steps": np.float32(3), "loss": np.float32(0.5), "gone_loss": np.float32(0.25)}
    save(tmp_path, 5, tree=lambda step: before._replace(sums=sums))
    after, _ = store.restore_newest(tmp_path, state(0), free="sums")
    expected = {name: np.float32(0) for name in before.sums} | {
        name: sums[name] for name in ("steps", "loss")
    }
    assert_same(after, before._replace(sums=expected))


def test_another_optimizer_is_told_by_its_leaves(saved):
    with pytest.raises(JaxposeError, match="opt_state.* absent in the checkpoint"):
        store.restore_newest(saved, state(name="adam"))


def test_saving_again_replaces_what_came_later(broken):
    """A run that fell back to step 2 does step 3 again, also where Orbax does not know the old."""
    truncate(broken / "3")
    (broken / "3" / "_CHECKPOINT_METADATA").unlink()
    save(broken, 3, tree=lambda step: state(30))
    assert store.checkpoint_steps(broken) == [3, 2]
    assert_same(store.restore_newest(broken, state())[0], state(30))


@pytest.mark.parametrize("step", [2, 3])
def test_a_kill_before_the_replacement_is_complete_loses_nothing(tmp_path, step):
    save(tmp_path, 3, keep=1)
    manager = store.open_manager(tmp_path, keep=1)
    store._set_aside(manager, step)
    assert store.checkpoint_steps(tmp_path) == []
    manager.close()  # killed here
    store.finish(store.open_manager(tmp_path, keep=1))
    assert store.checkpoint_steps(tmp_path) == [3]
    assert_same(store.restore_newest(tmp_path, state())[0], state(3))


def test_a_kill_after_the_replacement_is_complete_keeps_it_alone(tmp_path, monkeypatch):
    save(tmp_path, 3, keep=1)
    with monkeypatch.context() as patched:
        patched.setattr(store, "_settle", lambda folder: None)  # killed before
        save(tmp_path, 2, keep=1)
    assert len(list(tmp_path.iterdir())) == 2
    save(tmp_path, keep=1)  # opened again
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    assert_same(store.restore_newest(tmp_path, state())[0], state(2))


KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = sys.argv[2:]
from tests.checkpoints import test_store as t
from jaxpose.checkpoints import store

folder = pathlib.Path(sys.argv[1])
t.save(folder, 3, keep=1)
store._list_files = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
t.save(folder, 2, keep=1)
"""


@pytest.mark.slow
def test_a_kill_while_the_replacement_is_written_loses_nothing(tmp_path):
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(root)]
    done = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, timeout=150)
    assert done.returncode == -signal.SIGKILL
    assert any(tmp_path.glob("2.*tmp*")) and not store.checkpoint_steps(tmp_path)
    save(tmp_path, keep=1)
    assert store.checkpoint_steps(tmp_path) == [3] and not list(tmp_path.glob("*replaced*"))
    assert_same(store.restore_newest(tmp_path, state())[0], state(3))


def test_load_gives_the_averaged_variables_of_a_state(saved):
    loaded, metadata, folder = store.load(saved.parent.parent, which="latest")
    assert_same(loaded, state(3).ema)
    assert folder == saved / "3" and metadata.image_size == 64


def test_load_gives_the_variables_where_none_are_averaged(tmp_path):
    save(tmp_path, 1, tree=lambda step: state(1, ema=False))
    assert_same(store.load(tmp_path / "1")[0], variables(1))


def test_a_workdirs_best_comes_first(tmp_path):
    for name, steps in (("latest", (5, 7)), ("best", (6,))):
        save(tmp_path / "checkpoints" / name, *steps, tree=variables)
    assert store.find(tmp_path).parts[-2:] == ("best", "6")
    assert store.find(tmp_path, which="latest").parts[-2:] == ("latest", "7")
    loaded, _, _ = store.load(tmp_path)
    assert_same(loaded, variables(6))
    shutil.rmtree(tmp_path / "checkpoints" / "best")
    assert store.find(tmp_path).parts[-2:] == ("latest", "7")


@pytest.mark.parametrize("way", ["newest truncated", "metadata garbage", "metadata changed"])
def test_loading_what_is_broken_is_one_line(broken, way):
    WAYS[way](broken / "3")
    with pytest.raises(JaxposeError, match=r"3 cannot be read \(") as caught:
        store.load(broken / "3")
    assert "\n" not in str(caught.value)


def test_what_find_cannot_find(tmp_path):
    with pytest.raises(JaxposeError, match="no checkpoint in"):
        store.find(tmp_path)
    with pytest.raises(JaxposeError, match="'newest'; choose one of best, latest"):
        store.find(tmp_path, which="newest")


def test_a_newer_format_is_told(broken):
    edit_metadata(broken / "3", lambda text: json.dumps({**json.loads(text), "format": 2}))
    with pytest.raises(JaxposeError, match="format 2, but this version of jaxpose reads format 1"):
        store.restore_newest(broken, state())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxposeError, match="cannot save a checkpoint in") as caught:
        save(tmp_path / "file" / "latest", 1)
    assert "\n" not in str(caught.value)


FULL_DISK = """
import pathlib, resource, signal, sys
sys.path[:0] = sys.argv[2:]
from tests.checkpoints import test_store as t
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.geometry import CropRule

folder = pathlib.Path(sys.argv[1])
t.save(folder, 1, tree=t.variables)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    t.save(folder, 2, tree=lambda step: t.variables(step, width=4000))
except JaxposeError as error:
    print(f"error: {error}")
"""


def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path):
    """A file-size limit stands in for the disk."""
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(root)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=150)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("error: cannot save a checkpoint in") and "free disk space" in line
    assert "File too large" in line
    assert_same(store.restore_newest(tmp_path, variables())[0], variables(1))
