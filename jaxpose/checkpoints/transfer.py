"""Initialize a network from another's checkpoint: by variable name, shape and joint name."""

from collections.abc import Sequence
from typing import NamedTuple

import flax
import numpy as np

from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.network import PoseNet, make_net
from jaxpose.skeleton import joint_index


class Transfer(NamedTuple):
    """Which variables were copied and which keep their initial values, with notes for the log.

    Attributes:
      taken: names of variables copied from the checkpoint, completely or for some of the joints.
      fresh: {name: reason} of the variables that keep their initial values.
      notes: log lines, for example which joints are newly initialized, or that the soft-argmax
        grids differ.
    """

    taken: list[str]
    fresh: dict[str, str]
    notes: list[str]


def transfer_variables(
    variables: dict,
    net: PoseNet,
    joints: tuple[str, ...],
    source: dict,
    metadata: CheckpointMetadata,
) -> tuple[dict, Transfer]:
    """Copy a checkpoint's variables to a network that may differ in size or joints.

    Variables of the same name and shape are copied. Variables with one channel per joint or context
    map (outputs of heat-map convolutions, inputs of re-injections) are copied channel by channel,
    matched by joint name and not by shape.

    Args:
      variables: the new network's {"params", "batch_stats"}, freshly initialized.
      net: the new network.
      joints: the new network's joint names.
      source: the checkpoint's variables.
      metadata: the checkpoint's metadata.

    Returns:
      (the new network's variables, ``Transfer``).
    """
    theirs = make_net(metadata.network)
    rows = channel_rows(joints, net.num_context_maps, metadata.joints, theirs.num_context_maps)
    index = joint_index(metadata.joints, joints)
    new_joints = [name for name, i in zip(joints, index, strict=True) if i < 0]
    notes = []
    if new_joints:
        notes.append(
            "joints that are not in the checkpoint start from random weights: "
            f"{', '.join(new_joints)}"
        )
    if theirs.grid != net.grid:
        notes.append(
            f"the checkpoint's soft-argmax grid is {theirs.grid}, this network's is {net.grid}: "
            "predictions are off by up to half a cell of the heat map until training corrects them"
        )
    for name in ("alpha", "temperature"):
        old_value, value = getattr(theirs, name), getattr(net, name)
        if old_value != value:
            notes.append(
                f"the checkpoint's {name} is {old_value}, this network's is {value}: predictions "
                "differ until training corrects them"
            )
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    old = flax.traverse_util.flatten_dict(source, sep="/")
    taken, fresh = [], {}
    for name, value in flat.items():
        why = _misfit(name, value, old.get(name), rows)
        if why:
            fresh[name] = why
            continue
        flat[name] = _carry(name, value, old[name], rows)
        taken.append(name)
    result = flax.traverse_util.unflatten_dict(flat, sep="/")
    return result, Transfer(taken, fresh, notes)


def channel_rows(
    joints: Sequence[str],
    context_maps: int,
    source_joints: Sequence[str],
    source_context_maps: int,
) -> list[int]:
    """Match the new network's channels to those of a checkpoint.

    Returns:
      For each of the new network's M channels, the checkpoint's channel for the same joint and map,
      or -1.
    """
    index = joint_index(source_joints, joints).tolist()
    rows = list(index)
    for i in index:
        first = len(source_joints) + i * source_context_maps
        rows += [
            first + c if i >= 0 and c < source_context_maps else -1 for c in range(context_maps)
        ]
    return rows


def _channel_axis(name: str) -> int | None:
    """Axis of a variable that indexes the M maps: outputs of heatmaps, inputs of reinject."""
    if name.endswith("_b/heatmaps"):
        return 1
    if name.endswith("_b/reinject/kernel"):
        return 2
    return None


def _misfit(name: str, value: np.ndarray, old: np.ndarray | None, rows: list[int]) -> str:
    """Reason why a variable cannot be copied; empty if it can."""
    if old is None:
        return "absent in the checkpoint"
    axis = _channel_axis(name)
    if axis is None:
        fits = value.shape == old.shape
    else:
        fits = np.delete(value.shape, axis).tolist() == np.delete(old.shape, axis).tolist()
        if fits and max(rows) < 0:
            return "no joint in common"
    if fits:
        return ""
    return f"{tuple(old.shape)} in the checkpoint, {tuple(value.shape)} in this network"


def _carry(name: str, value: np.ndarray, old: np.ndarray, rows: list[int]) -> np.ndarray:
    """Copy the checkpoint's variable; channels that it lacks keep their initial values."""
    axis = _channel_axis(name)
    if axis is None:
        return np.asarray(old)
    carried = np.array(value)
    ours, theirs = np.moveaxis(carried, axis, 0), np.moveaxis(np.asarray(old), axis, 0)
    for row, source_row in enumerate(rows):
        if source_row >= 0:
            ours[row] = theirs[source_row]
    return carried
