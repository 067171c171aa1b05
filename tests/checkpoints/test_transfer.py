"""Starting from another network: by name and shape, and channel by channel by joint name."""

import functools

import flax
import numpy as np
import pytest

from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.checkpoints.transfer import channel_rows, transfer_variables
from jaxpose.geometry import MPII_RULE
from jaxpose.network import PoseNet, initial_variables

JOINTS = ("pelvis", "right_wrist", "left_wrist")


def network(joints=JOINTS, *, blocks=2, context_maps=2, width=18, grid="half_pixel", **more):
    return {
        "num_joints": len(joints),
        "num_blocks": blocks,
        "num_context_maps": context_maps,
        "width": width,
        "kernel_size": 3,
        "grid": grid,
        **more,
    }


@functools.cache
def shapes_of(net):
    flat = flax.traverse_util.flatten_dict(initial_variables(net, 0), sep="/")
    return {name: flat[name].shape for name in sorted(flat)}


def variables_of(arguments, seed):
    """Drawn variables, so that no two numbers of the two networks agree."""
    rng = np.random.default_rng(seed)
    shapes = shapes_of(PoseNet(**{**arguments, "grid": "half_pixel"}))
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def carried(ours, theirs, joints=JOINTS, source_joints=JOINTS):
    """(variables before, after, those of the checkpoint, report), variables by name."""
    before, source = variables_of(ours, 1), variables_of(theirs, 2)
    nested = flax.traverse_util.unflatten_dict
    metadata = CheckpointMetadata(
        network=theirs,
        joints=source_joints,
        flip_pairs=(),
        limbs=(),
        trained_joints=source_joints,
        image_size=64,
        crop=MPII_RULE,
        step=0,
    )
    after, report = transfer_variables(
        nested(before, sep="/"), PoseNet(**ours), joints, nested(source, sep="/"), metadata
    )
    after = flax.traverse_util.flatten_dict(after, sep="/")
    assert {n: x.shape for n, x in after.items()} == {n: x.shape for n, x in before.items()}
    assert set(report.taken) | report.fresh.keys() == before.keys()
    assert not set(report.taken) & report.fresh.keys()
    for name in report.fresh:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    return before, after, source, report


HEATMAPS, REINJECT = "params/block1_b/heatmaps", "params/block1_b/reinject/kernel"


def test_the_same_network_is_taken_whole():
    _, after, source, report = carried(network(), network())
    for name in after:
        np.testing.assert_array_equal(after[name], source[name], err_msg=name)
    assert (report.fresh, report.notes) == ({}, [])


def test_another_joint_order_carries_channels_by_name():
    """Shapes agree, so that only names can tell."""
    ours = ("left_wrist", "pelvis", "right_wrist")
    _, after, source, report = carried(network(), network(), joints=ours)
    # Part maps first, then two context maps a joint, in the order of the joints.
    channels = [2, 0, 1, 7, 8, 3, 4, 5, 6]
    np.testing.assert_array_equal(after[HEATMAPS], source[HEATMAPS][:, channels])
    np.testing.assert_array_equal(after[REINJECT], source[REINJECT][:, :, channels])
    np.testing.assert_array_equal(
        after["params/stem/conv1/kernel"], source["params/stem/conv1/kernel"]
    )
    assert not report.fresh


def test_another_joint_set_keeps_what_is_new():
    ours = ("head_top", "left_wrist")
    before, after, source, report = carried(network(ours), network(), joints=ours)
    np.testing.assert_array_equal(after[HEATMAPS][:, [0, 2, 3]], before[HEATMAPS][:, [0, 2, 3]])
    np.testing.assert_array_equal(after[HEATMAPS][:, [1, 4, 5]], source[HEATMAPS][:, [2, 7, 8]])
    assert HEATMAPS in report.taken
    assert report.notes == [
        "joints that are not in the checkpoint start from random weights: head_top"
    ]


def test_lsps_neck_is_mpiis_upper_neck():
    theirs = ("neck", "right_wrist", "left_wrist")
    ours = ("upper_neck", "right_wrist", "left_wrist")
    _, after, source, report = carried(network(), network(), ours, theirs)
    np.testing.assert_array_equal(after[HEATMAPS], source[HEATMAPS])
    assert report.notes == []


def test_no_joint_in_common_starts_the_maps_fresh():
    theirs = ("nose", "right_ear", "left_ear")
    _, _, _, report = carried(network(), network(), source_joints=theirs)
    assert set(report.fresh) == {HEATMAPS, REINJECT, "params/block2_b/heatmaps"}
    assert report.fresh[HEATMAPS] == "no joint in common"


def test_more_context_maps_start_fresh_the_others_are_carried():
    before, after, source, _ = carried(network(), network(context_maps=1))
    # Ours: 3 part maps, then maps 0 and 1 of each joint; theirs: 3 part maps, then map 0 of each.
    np.testing.assert_array_equal(after[HEATMAPS][:, [0, 1, 2, 3, 5, 7]], source[HEATMAPS])
    np.testing.assert_array_equal(after[HEATMAPS][:, [4, 6, 8]], before[HEATMAPS][:, [4, 6, 8]])


def test_no_context_maps_carry_the_part_maps():
    _, after, source, _ = carried(network(context_maps=0), network())
    np.testing.assert_array_equal(after[HEATMAPS], source[HEATMAPS][:, :3])


def test_more_blocks_start_fresh_by_name():
    _, _, _, report = carried(network(blocks=2), network(blocks=1))
    assert all("block2_" in name or "reinject" in name for name in report.fresh)
    assert set(report.fresh.values()) == {"absent in the checkpoint"}
    assert HEATMAPS in report.taken


def test_another_width_takes_nothing_and_says_the_shapes():
    _, _, _, report = carried(network(width=36), network())
    assert report.taken == []
    assert report.fresh[HEATMAPS] == "(18, 9) in the checkpoint, (36, 9) in this network"


def test_another_grid_is_reported():
    _, _, _, report = carried(network(), network(grid="align_corners"))
    (note,) = report.notes
    assert "grid is align_corners, this network's is half_pixel" in note


@pytest.mark.parametrize("name", ["alpha", "temperature"])
def test_another_decoding_is_reported(name):
    _, _, _, report = carried(network(), network(**{name: 0.5}))
    (note,) = report.notes
    assert f"the checkpoint's {name} is 0.5, this network's is " in note


def test_channel_rows():
    rows = channel_rows(("b", "c", "a"), 2, ("a", "b"), 1)
    assert rows == [1, -1, 0, 3, -1, -1, -1, 2, -1]
