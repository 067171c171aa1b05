"""The authors' Keras file: golden answers, files of any size and naming, every kind of fault."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxpose import cli
from jaxpose.checkpoints import keras_import, store
from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet
from jaxpose.skeleton import AUTHORS

h5py = pytest.importorskip("h5py")
from tests.support.keras_file import write  # noqa: E402  (needs h5py)


def load_written(path, **options):
    groups = write(path, **options)
    arguments, variables = keras_import.load(path)
    return groups, arguments, flatten_dict(variables, sep="/")


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(ours[leaf], theirs[leaf]) for leaf in ours)


# --- the golden file -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden(shared):
    """(the converted network's output for the golden image, the golden arrays)."""
    arguments, variables = keras_import.load(shared / "golden" / "reception_k2.h5")
    with np.load(shared / "golden" / "reception_k2_golden.npz") as archive:
        arrays = dict(archive)

    @jax.jit
    def prediction(variables, image):
        return PoseNet(**arguments).apply(
            variables, image, heatmaps=True, mutable=["intermediates"]
        )

    output, seen = prediction(variables, arrays["image"][None])
    return output, seen["intermediates"], arrays


@pytest.mark.parametrize("k", [1, 2])
def test_golden_poses_probabilities_and_heat_maps(golden, k):
    output, _, expected = golden
    np.testing.assert_allclose(output.keypoints[k - 1, 0], expected[f"block{k}_pose"], atol=1e-4)
    np.testing.assert_allclose(
        jax.nn.sigmoid(output.presence_logits[k - 1, 0]),
        expected[f"block{k}_visible"][:, 0],
        atol=1e-4,
    )
    np.testing.assert_allclose(
        output.heatmaps[k - 1, 0], expected[f"block{k}_heat_maps"], atol=1e-3
    )


def test_golden_arguments(shared):
    arguments, variables = keras_import.load(shared / "golden" / "reception_k2.h5")
    expected = {"num_joints": 16, "num_blocks": 2, "num_context_maps": 2, "width": 576}
    expected |= {"kernel_size": 5, "alpha": 0.8, "grid": "align_corners"}
    assert {key: arguments[key] for key in expected} == expected
    assert json.loads(json.dumps(arguments)) == arguments
    counts = [sum(x.size for x in jax.tree.leaves(variables[c])) for c in ("params", "batch_stats")]
    assert counts == [4_422_912, 21_312]


def test_golden_answers_survive_a_checkpoint(shared, tmp_path):
    path = shared / "golden" / "reception_k2.h5"
    metadata, folder = keras_import.convert(path, tmp_path / "converted")
    restored, loaded, found = store.load(tmp_path / "converted")
    _, variables = keras_import.load(path)
    assert same(flatten_dict(restored, sep="/"), flatten_dict(variables, sep="/"))
    assert found == folder and loaded == metadata
    assert loaded.joints == AUTHORS.joints == loaded.trained_joints
    assert loaded.network["grid"] == "align_corners" and loaded.source == path.name


# --- files of any size and naming ------------------------------------------------------------


SIZES = [(1, 16, 2), (2, 14, 1), (3, 16, 0), (1, 24, 1), (10, 5, 3)]


@pytest.mark.parametrize("blocks, joints, contexts", SIZES)
def test_numbers_are_read_off_the_file(tmp_path, blocks, joints, contexts):
    sizes = dict(blocks=blocks, joints=joints, contexts=contexts)
    _, arguments, ours = load_written(tmp_path / "a.h5", **sizes)
    assert (arguments["num_blocks"], arguments["num_joints"]) == (blocks, joints)
    assert (arguments["num_context_maps"], arguments["width"]) == (contexts, 36)
    net = PoseNet(**arguments)
    expected = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    expected = flatten_dict(expected, sep="/")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


def test_width_and_kernel_are_read_off_the_file(tmp_path):
    _, arguments, _ = load_written(tmp_path / "a.h5", width=54, kernel=3)
    assert (arguments["width"], arguments["kernel_size"]) == (54, 3)


def test_every_weight_lands_once(tmp_path):
    groups, _, ours = load_written(tmp_path / "a.h5")
    frozen = ("sSAM", "cSAM", "Agg")
    theirs = [w for name, group in groups.items() if name not in frozen for w in group.values()]
    assert sorted(w.ravel()[0] for w in ours.values()) == sorted(w.ravel()[0] for w in theirs)


PLACES = {
    ("Stem", "conv2d_4/kernel:0"): "params/stem/short1/kernel",
    ("Stem", "conv2d_7/kernel:0"): "params/stem/long2/kernel",
    ("Stem", "batch_normalization_9/moving_variance:0"): "batch_stats/stem/long4/norm/variance",
    ("Stem", "sepconv1_shortcut/beta:0"): "params/stem/residual/shortcut/norm/beta",
    ("rBlock2", "sepconv_l2_2/moving_mean:0"): "batch_stats/block2_a/level2_2/main/norm/mean",
    ("rBlock1", "sepconv_l3_3_conv/depthwise_kernel:0"): "params/block1_a/level3_3/main/depthwise",
    ("SepConv2", "separable_conv2d_5/pointwise_kernel:0"): "params/block2_b/separable/pointwise",
    ("RegMap1", "conv2d_12/kernel:0"): "params/block1_b/heatmaps",
    ("fReMap1", "batch_normalization_13/beta:0"): "params/block1_b/reinject/norm/beta",
}


def test_weights_land_where_the_description_says(tmp_path):
    groups, _, ours = load_written(tmp_path / "a.h5")
    for (group, weight), leaf in PLACES.items():
        np.testing.assert_array_equal(groups[group][weight].squeeze(), ours[leaf].squeeze())


NAMINGS = {
    "numbers from 1": dict(start=1),
    "a later session": dict(start=97),
    "repeated names with a number": dict(repeat="_{}"),
    "an older Keras altogether": dict(start=1, repeat="_{}", bytes_=True),
    "a whole model": dict(whole_model=True),
    "compressed": dict(compression="gzip"),
}


@pytest.mark.parametrize("options", NAMINGS.values(), ids=NAMINGS)
def test_other_namings_give_the_same_network(tmp_path, options):
    _, plain_arguments, plain = load_written(tmp_path / "plain.h5", blocks=3)
    _, arguments, ours = load_written(tmp_path / "other.h5", blocks=3, **options)
    assert arguments == plain_arguments and same(ours, plain)


def test_long_lists_of_names_may_be_split(tmp_path):
    _, _, plain = load_written(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for group, attribute in ((file, "layer_names"), (file["rBlock1"], "weight_names")):
            names = list(group.attrs.pop(attribute))
            group.attrs[f"{attribute}0"], group.attrs[f"{attribute}1"] = names[:5], names[5:]
    assert same(flatten_dict(keras_import.load(tmp_path / "a.h5")[1], sep="/"), plain)


@pytest.mark.parametrize("given", [dict(num_joints=24), dict(num_context_maps=1)])
def test_a_file_without_constants_needs_one_number(tmp_path, given):
    write(tmp_path / "a.h5", joints=24, contexts=1, frozen=False)
    with pytest.raises(JaxposeError, match="the number of joints .*; pass --num_joints"):
        keras_import.load(tmp_path / "a.h5")
    arguments, _ = keras_import.load(tmp_path / "a.h5", **given)
    assert (arguments["num_joints"], arguments["num_context_maps"]) == (24, 1)


@pytest.mark.parametrize("given", [dict(num_joints=24), dict(num_context_maps=1)])
def test_numbers_that_the_file_contradicts_are_refused(tmp_path, given):
    write(tmp_path / "a.h5")
    with pytest.raises(JaxposeError, match="the file has"):
        keras_import.load(tmp_path / "a.h5", **given)


@pytest.mark.parametrize("given", [dict(num_joints=0), dict(num_context_maps=-1)])
def test_numbers_out_of_range_are_refused(tmp_path, given):
    write(tmp_path / "a.h5", frozen=False)
    with pytest.raises(JaxposeError, match="it must be"):
        keras_import.load(tmp_path / "a.h5", **given)


def test_the_command_takes_names_with_spaces_and_no_empty_ones(tmp_path, capsys):
    write(tmp_path / "a.h5", joints=3, contexts=1)
    command = ["convert", str(tmp_path / "a.h5"), str(tmp_path / "out")]
    assert cli.main([*command, "--joints", "head,,right_wrist"]) == 2
    assert "'head,,right_wrist' has an empty name" in capsys.readouterr().err
    assert cli.main([*command, "--joints", "head, left_wrist, right_wrist"]) == 0
    metadata = store.load(tmp_path / "out")[1]
    assert metadata.joints == ("head", "left_wrist", "right_wrist")
    assert metadata.flip_pairs == (("right_wrist", "left_wrist"),)


def test_a_converted_network_of_another_size_fits_the_network(tmp_path):
    write(tmp_path / "a.h5", blocks=1, joints=3, contexts=1, width=18)
    names = ["right_wrist", "left_wrist", "head_top"]
    keras_import.convert(tmp_path / "a.h5", tmp_path / "out", joints=names)
    variables, metadata, _ = store.load(tmp_path / "out")
    assert metadata.joints == tuple(names)
    assert metadata.flip_pairs == (("right_wrist", "left_wrist"),)
    net = PoseNet(**metadata.network)
    output = jax.eval_shape(net.apply, variables, np.zeros((2, 32, 64, 3), np.float32))
    assert output.keypoints.shape == (1, 2, 3, 2)


def test_joints_without_names_are_numbered(tmp_path):
    write(tmp_path / "a.h5", blocks=1, joints=3, contexts=1, width=18)
    metadata, _ = keras_import.convert(tmp_path / "a.h5", tmp_path / "out")
    assert metadata.joints == ("joint_0", "joint_1", "joint_2")


# --- faults ----------------------------------------------------------------------------------


def delete(name):
    return lambda file: file.__delitem__(name)


def replace(name, value):
    def fault(file):
        del file[name]
        file[name] = value

    return fault


def rename(old, new):
    def fault(file):
        names = list(file.attrs["layer_names"])
        file.attrs["layer_names"] = [new if n == old else n for n in names]
        file.move(old, new)

    return fault


def forget(name):
    """Takes a group out of the file's list, as a smaller network would have it."""

    def fault(file):
        file.attrs["layer_names"] = [n for n in file.attrs["layer_names"] if n != name]

    return fault


BETA = "SepConv2/batch_normalization_15/beta:0"
FAULTS = {
    "no list of layers": (lambda file: file.attrs.pop("layer_names"), "Stem"),
    "no list of weights": (lambda file: file["rBlock2"].attrs.pop("weight_names"), "rBlock2"),
    "a group listed and not there": (delete("rBlock2"), "rBlock2"),
    "a group not listed": (forget("SepConv1"), "SepConv1"),
    "no last block": (forget("rBlock2"), "rBlock2"),
    "another name": (rename("RegMap2", "heads"), "RegMap2"),
    "a weight missing": (delete(BETA), "SepConv2"),
    "a list instead of a group": (replace("fReMap1", np.zeros(3)), "fReMap1"),
    "a group instead of a weight": (
        lambda file: (file.__delitem__(BETA), file.create_group(BETA)), "SepConv2",
    ),
    "another shape": (replace(BETA, np.zeros(35, np.float32)), "SepConv2"),
    "more axes": (replace(BETA, np.zeros((36, 1), np.float32)), "SepConv2"),
    "whole numbers": (replace(BETA, np.zeros(36, int)), "SepConv2"),
    "NaN": (replace(BETA, np.full(36, np.nan)), "SepConv2"),
    "beyond float32": (replace(BETA, np.full(36, 1e300)), "SepConv2"),
    "text": (replace(BETA, "beta"), "SepConv2"),
    "a width of 37": (
        replace("Stem/sepconv1_conv/pointwise_kernel:0", np.zeros((1, 1, 24, 37), "f4")), "Stem",
    ),
    "another width": (
        replace("Stem/sepconv1_conv/pointwise_kernel:0", np.zeros((1, 1, 24, 54), "f4")), "Stem",
    ),
    "even kernels": (
        replace("rBlock1/sepconv_l1_conv/depthwise_kernel:0", np.zeros((4, 4, 36, 1), "f4")),
        "rBlock1",
    ),
    "other maps": (
        replace("RegMap1/conv2d_12/kernel:0", np.zeros((1, 1, 36, 40), "f4")), "RegMap1",
    ),
    "maps for other joints": (
        replace("sSAM/separable_conv2d/depthwise_kernel:0", np.zeros((32, 32, 9, 1), "f4")),
        "sSAM",
    ),
    "maps for other contexts": (
        replace("cSAM/separable_conv2d_2/depthwise_kernel:0", np.zeros((32, 32, 9, 1), "f4")),
        "cSAM",
    ),
    "a constant of other axes": (replace("Agg/dense/kernel:0", np.zeros(3, "f4")), "Agg"),
}  # fmt: skip


@pytest.mark.parametrize("fault, group", FAULTS.values(), ids=FAULTS)
def test_the_group_that_does_not_fit_is_named(tmp_path, fault, group):
    path = tmp_path / "a.h5"
    write(path)
    with h5py.File(path, "a") as file:
        fault(file)
    with pytest.raises(JaxposeError, match=f"network .group {group}: ") as error:
        keras_import.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_batch_norm_with_a_scale_is_another_network(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        group = file["SepConv1"]
        names = [*group.attrs["weight_names"], "batch_normalization_12/gamma:0"]
        group.attrs["weight_names"] = names
        group[names[-1]] = np.ones(36, np.float32)
    with pytest.raises(JaxposeError, match="group SepConv1: .*unexpected weight .*gamma"):
        keras_import.load(tmp_path / "a.h5")


def test_another_network_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
        file.create_group("dense").attrs["weight_names"] = ["dense/kernel:0"]
        file["dense/dense/kernel:0"] = np.zeros((3, 3))
    with pytest.raises(JaxposeError, match="group Stem: it is missing"):
        keras_import.load(tmp_path / "a.h5")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, share):
    write(tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(JaxposeError, match="a.h5 is (truncated|not an HDF5 file); give"):
        keras_import.load(tmp_path / "a.h5")


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    (tmp_path / "a.h5").write_text("weights")
    with pytest.raises(JaxposeError, match="a.h5 is not an HDF5 file; give"):
        keras_import.load(tmp_path / "a.h5")
    for path in (tmp_path / "absent.h5", tmp_path):
        with pytest.raises(JaxposeError, match=f"{path}: .*; give"):
            keras_import.load(path)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(JaxposeError, match=r"jaxpose\[convert\]"):
        keras_import.load(tmp_path / "a.h5")


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(JaxposeError, match="not empty"):
        keras_import.convert(tmp_path / "a.h5", tmp_path / "out")
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_is_left_as_it_was_if_writing_fails(tmp_path, monkeypatch, existed):
    """Otherwise the same command would find it in use."""

    def full(manager):
        manager.close()
        raise JaxposeError("disk full")

    write(tmp_path / "a.h5")
    if existed:
        (tmp_path / "out").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(keras_import.store, "finish", full)
        with pytest.raises(JaxposeError, match="disk full"):
            keras_import.convert(tmp_path / "a.h5", tmp_path / "out")
    assert (tmp_path / "out").exists() == existed
    keras_import.convert(tmp_path / "a.h5", tmp_path / "out")


def test_a_wrong_number_of_joint_names_is_refused(tmp_path):
    write(tmp_path / "a.h5")
    with pytest.raises(JaxposeError, match="the file has 16 joints, not 2"):
        keras_import.convert(tmp_path / "a.h5", tmp_path / "out", joints=["a", "b"])
    assert not (tmp_path / "out").exists()


# --- the command -----------------------------------------------------------------------------


def test_the_command_says_what_it_found_and_where_it_is(tmp_path, capsys):
    write(tmp_path / "a.h5", blocks=1, joints=2, contexts=1, width=18)
    command = ["convert", str(tmp_path / "a.h5"), str(tmp_path / "out")]
    assert cli.main([*command, "--joints", "right_wrist,left_wrist"]) == 0
    printed = capsys.readouterr().out
    assert "1 blocks, 2 joints, 1 context maps per joint, width 18" in printed
    assert "right_wrist, left_wrist" in printed and str(tmp_path / "out") in printed


def test_the_command_names_what_does_not_fit_in_one_line(tmp_path, capsys):
    (tmp_path / "a.h5").write_text("weights")
    assert cli.main(["convert", str(tmp_path / "a.h5"), str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1


@pytest.mark.slow
def test_the_papers_network_converts(tmp_path):
    write(tmp_path / "k8.h5", blocks=8, width=576)
    command = [sys.executable, "-m", "jaxpose", "convert", "k8.h5", "out"]
    root = str(pathlib.Path(__file__).resolve().parents[2])
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=150,
        env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "8 blocks, 16 joints, 2 context maps per joint, width 576" in result.stdout
    variables, _, _ = store.load(tmp_path / "out")
    counts = [sum(x.size for x in jax.tree.leaves(variables[c])) for c in ("params", "batch_stats")]
    assert counts == [14_669_952, 76_608]
