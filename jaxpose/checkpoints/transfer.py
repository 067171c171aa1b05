"""Start one network from another's checkpoint: by variable name and shape, and by joint name."""

from collections.abc import Sequence
from typing import NamedTuple

import flax
import numpy as np

from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.network import PoseNet, make_net
from jaxpose.skeleton import joint_index


class Transfer(NamedTuple):
    """What was taken over and what starts fresh, by variable name, and what to say of it.

    Attributes:
      taken: names whose values came from the checkpoint, wholly or for some joints.
      fresh: {name: reason} of those that keep their initial values.
      notes: lines for a person: joints that start fresh, another grid.
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
    """Carry a checkpoint's variables over to a network that may differ in size or joints.

    Variables of the same name and shape are taken. What holds one channel a joint or a context map
    (heat-map convolutions' outputs, re-injections' inputs) is carried channel by channel, by joint
    name, never because shapes agree.

    Args:
      variables: the new network's {"params", "batch_stats"}, freshly initialized.
      net: the new network.
      joints: its joint names.
      source: the checkpoint's variables.
      metadata: the checkpoint's metadata.

    Returns:
      (variables, Transfer).
    """
    theirs = make_net(metadata.network)
    rows = channel_rows(joints, net.num_context_maps, metadata.joints, theirs.num_context_maps)
    index = joint_index(metadata.joints, joints)
    new_joints = [name for name, i in zip(joints, index, strict=True) if i < 0]
    notes = []
    if new_joints:
        notes.append(f"joints that the checkpoint lacks start fresh: {', '.join(new_joints)}")
    if theirs.grid != net.grid:
        notes.append(
            f"the checkpoint's grid is {theirs.grid}, this network's {net.grid}: its "
            "predictions shift by up to half a cell until training has made up for it"
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
    """For each of our M channels, the checkpoint's channel of the same joint and map, or -1."""
    index = joint_index(source_joints, joints).tolist()
    rows = list(index)
    for i in index:
        first = len(source_joints) + i * source_context_maps
        rows += [
            first + c if i >= 0 and c < source_context_maps else -1 for c in range(context_maps)
        ]
    return rows


def _channel_axis(name: str) -> int | None:
    """Which axis of a variable counts the M maps: outputs of heatmaps, inputs of reinject."""
    if name.endswith("_b/heatmaps"):
        return 1
    if name.endswith("_b/reinject/kernel"):
        return 2
    return None


def _misfit(name: str, value: np.ndarray, old: np.ndarray | None, rows: list[int]) -> str:
    """Why a variable cannot be taken over; empty where it can."""
    if old is None:
        return "absent in the checkpoint"
    axis = _channel_axis(name)
    if axis is None:
        fits = value.shape == old.shape
    else:
        fits = np.delete(value.shape, axis).tolist() == np.delete(old.shape, axis).tolist()
        if fits and max(rows) < 0:
            return "no joint in common"
    return "" if fits else f"{tuple(old.shape)} there, {tuple(value.shape)} here"


def _carry(name: str, value: np.ndarray, old: np.ndarray, rows: list[int]) -> np.ndarray:
    """The checkpoint's variable; of channels that it lacks, `value`'s initial ones."""
    axis = _channel_axis(name)
    if axis is None:
        return np.asarray(old)
    carried = np.array(value)
    ours, theirs = np.moveaxis(carried, axis, 0), np.moveaxis(np.asarray(old), axis, 0)
    for row, source_row in enumerate(rows):
        if source_row >= 0:
            ours[row] = theirs[source_row]
    return carried
