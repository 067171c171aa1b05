"""Packed checkpoints: what is rounded and what is not, and files that are none."""

import json

import jax
import numpy as np
import pytest

from jaxpose import cli
from jaxpose.checkpoints import packed, store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.geometry import CropRule
from jaxpose.network import PoseNet, initial_variables

METADATA = CheckpointMetadata(
    network={"num_joints": 2, "num_blocks": 1, "width": 18},
    joints=("left_hand", "right_hand"),
    flip_pairs=(("left_hand", "right_hand"),),
    limbs=(),
    trained_joints=("left_hand", "right_hand"),
    image_size=32,
    crop=CropRule("joints", 1.25, 0.0),
    step=7,
)


@pytest.fixture
def variables():
    return initial_variables(PoseNet(num_joints=2, num_blocks=1, width=18), 0)


def test_a_packed_checkpoint_loads_as_any_other(variables, tmp_path):
    file = packed.pack(variables, METADATA, tmp_path / "small.npz")
    loaded, metadata, where = store.load(file)
    assert where == file
    assert metadata == METADATA
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    for name in ("params", "batch_stats"):
        for ours, theirs in zip(
            jax.tree.leaves(loaded[name]), jax.tree.leaves(variables[name]), strict=True
        ):
            tolerance = 2.0**-11 if theirs.ndim > 1 else 0.0  # half a step of float16's 10 bits
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-7 * (theirs.ndim > 1))
            assert ours.dtype == np.float32


def test_the_command_packs_a_workdir(variables, tmp_path, capsys):
    manager = store.open_manager(tmp_path / "run" / "checkpoints" / "best", keep=1)
    store.save(manager, 7, variables, METADATA, wait=True)
    store.finish(manager)
    assert cli.main(["pack", str(tmp_path / "run"), str(tmp_path / "out.npz")]) == 0
    assert "(step 7) is packed in" in capsys.readouterr().out
    assert store.load(tmp_path / "out.npz")[1] == METADATA
    assert (
        cli.main(["pack", "--window", "5", str(tmp_path / "out.npz"), str(tmp_path / "w.npz")]) == 0
    )
    network = {**METADATA.network, "window": 5}
    assert store.load(tmp_path / "w.npz")[1] == METADATA._replace(network=network)
    assert (
        cli.main(["pack", "--window", "4", str(tmp_path / "out.npz"), str(tmp_path / "v.npz")]) == 1
    )
    assert "window is 4; it must be odd" in capsys.readouterr().err
    assert cli.main(["pack", str(tmp_path / "run"), str(tmp_path / "out.zip")]) == 1
    assert "must end in .npz, not out.zip" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    assert cli.main(["pack", "small", "nodir/x.npz"]) == 1
    assert capsys.readouterr().err == "error: no folder nodir; create it first\n"
    assert cli.main(["pack", "small", "folder.npz"]) == 1
    assert capsys.readouterr().err == "error: folder.npz cannot be written (Is a directory)\n"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"joints": ("left_hand",)}, "names 1 joints, but its network has 2"),
        ({"joints": ("left_hand", "right_hand", "head")}, "names 3 joints, but its network has 2"),
        ({"network": {"num_joints": 2, "width": "18"}}, "width is '18'; it must be an integer"),
        ({"image_size": 33}, "malformed image_size: 33"),
    ],
)
def test_metadata_that_do_not_fit_the_network_are_not_packed(variables, tmp_path, changes, says):
    pairs = {"flip_pairs": (), "trained_joints": ("left_hand",)}
    with pytest.raises(JaxposeError, match=rf"^cannot pack the checkpoint: [^\n]*{says}"):
        packed.pack(variables, METADATA._replace(**{**pairs, **changes}), tmp_path / "small.npz")
    assert not list(tmp_path.iterdir())


def test_it_takes_two_bytes_a_weight(variables, tmp_path):
    file = packed.pack(variables, METADATA, tmp_path / "small.npz")
    kernels = sum(x.size for x in jax.tree.leaves(variables) if x.ndim > 1)
    rest = sum(x.size for x in jax.tree.leaves(variables) if x.ndim == 1)
    names = 1000 * len(jax.tree.leaves(variables))  # at most, of the archive's own
    assert file.stat().st_size < 2 * kernels + 4 * rest + names


def test_a_weight_that_float16_cannot_hold_is_named(variables, tmp_path):
    variables["params"]["stem"]["conv1"]["kernel"] = np.full((3, 3, 3, 1), 1e6, np.float32)
    with (
        pytest.raises(JaxposeError, match="stem/conv1/kernel has values"),
        np.errstate(over="ignore"),
    ):
        packed.pack(variables, METADATA, tmp_path / "small.npz")
    assert not list(tmp_path.iterdir())


def test_files_that_are_none_get_one_line(variables, tmp_path):
    whole = packed.pack(variables, METADATA, tmp_path / "small.npz").read_bytes()
    objects = tmp_path / "objects.npz"
    np.savez(objects, metadata=np.array(json.dumps(METADATA.to_json())), x=np.array([{}], object))
    lacking = tmp_path / "lacking.npz"
    np.savez(lacking, metadata=np.array("{}"))
    half = tmp_path / "half.npz"
    half.write_bytes(whole[: len(whole) // 2])
    for file in (objects, lacking, half, tmp_path / "absent.npz"):
        with pytest.raises(JaxposeError, match=file.name) as caught:
            store.load(file)
        assert "\n" not in str(caught.value) and "allow_pickle" not in str(caught.value)


def test_a_shipped_network_has_a_name_wherever_a_checkpoint_is_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()  # a folder of that name that holds no checkpoint
    assert store.load("small")[2] == packed.path("small")
    assert cli.main(["pack", "small", "copy.npz"]) == 0
    assert store.load("copy.npz")[1].image_size == 128
    with pytest.raises(JaxposeError, match=r"the name of a shipped network \(base, small\)"):
        store.load("smal")


def test_a_checkpoint_on_disk_comes_before_a_shipped_network_of_its_name(
    variables, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    manager = store.open_manager(tmp_path / "small" / "checkpoints" / "best", keep=1)
    store.save(manager, 7, variables, METADATA, wait=True)
    store.finish(manager)
    assert store.load("small")[1] == METADATA


def test_a_file_that_would_fill_the_memory_is_not_unpacked(variables, tmp_path, monkeypatch):
    file = packed.pack(variables, METADATA, tmp_path / "small.npz")
    monkeypatch.setattr("jaxpose.npz.MAX_BYTES", 10_000)
    with pytest.raises(JaxposeError, match="it unpacks to more than 10000 bytes"):
        store.load(file)


def test_metadata_of_another_format_is_refused(variables, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpose.checkpoints.metadata.FORMAT", 99)
    newer = packed.pack(variables, METADATA, tmp_path / "newer.npz")
    monkeypatch.undo()
    with pytest.raises(JaxposeError, match="install the version that wrote it"):
        store.load(newer)


def test_an_unknown_network_is_answered_with_those_there_are():
    with pytest.raises(JaxposeError, match="ships no network 'giant'"):
        packed.path("giant")


@pytest.mark.parametrize("name", packed.names())
def test_what_ships_is_whole_and_small(name):
    file = packed.path(name)
    network = store.load_network(file)  # its variables are those of its module
    assert file.stat().st_size <= 12e6
    assert network.source == file and len(network.metadata.trained_joints) == 16
