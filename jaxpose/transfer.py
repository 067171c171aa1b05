"""Start one network from another's checkpoint: by variable name and shape, and by joint name."""

from typing import Any, NamedTuple

import flax
import jax.numpy as jnp

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


def transfer(
    variables: dict, network: dict, joints: tuple[str, ...], source: dict, metadata: dict
) -> tuple[dict, Transfer]:
    """Carry a checkpoint's variables over to a network that may differ in size or joints.

    Variables of the same name and shape are taken. What holds one channel a joint or a context map
    (heat-map convolutions' outputs, re-injections' inputs) is carried channel by channel, by joint
    name, never because shapes agree.

    Args:
      variables: the new network's {"params", "batch_stats"}, freshly initialised.
      network: its arguments (num_joints, num_context_maps, grid).
      joints: its joint names.
      source: the checkpoint's variables.
      metadata: the checkpoint's metadata (`joints`, `network`).

    Returns:
      (variables, Transfer).
    """
    theirs = metadata["network"]
    rows = channel_rows(
        joints, network["num_context_maps"], tuple(metadata["joints"]), theirs["num_context_maps"]
    )
    new_joints = [
        name for name, i in zip(joints, joint_index(metadata["joints"], joints), strict=True) if i < 0
    ]  # fmt: skip
    notes = []
    if new_joints:
        notes.append(f"joints that the checkpoint lacks start fresh: {', '.join(new_joints)}")
    if theirs["grid"] != network["grid"]:
        notes.append(
            f"the checkpoint's grid is {theirs['grid']}, this network's {network['grid']}: its "
            "answers shift by up to half a cell until training has made up for it"
        )
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    old = flax.traverse_util.flatten_dict(source, sep="/")
    taken, fresh = [], {}
    for name, value in flat.items():
        if name not in old:
            fresh[name] = "absent in the checkpoint"
            continue
        axis = _joint_axis(name)
        shapes = [list(value.shape), list(old[name].shape)]
        if axis is not None:
            for shape in shapes:
                shape[axis] = 0
        if shapes[0] != shapes[1]:
            fresh[name] = f"{tuple(old[name].shape)} there, {tuple(value.shape)} here"
            continue
        flat[name] = _carry(value, old[name], axis, rows) if axis is not None else old[name]
        taken.append(name)
    result = flax.traverse_util.unflatten_dict(flat, sep="/")
    return result, Transfer(taken, fresh, notes)


def channel_rows(joints, context_maps, source_joints, source_context_maps) -> list[int]:
    """For each of our M channels, the checkpoint's channel of the same joint and map, or -1."""
    index = joint_index(source_joints, joints)
    rows = [int(i) for i in index]
    for i in index:
        for c in range(context_maps):
            there = i >= 0 and c < source_context_maps
            rows.append(len(source_joints) + int(i) * source_context_maps + c if there else -1)
    return rows


def _joint_axis(name: str) -> int | None:
    """Which axis of a variable counts the maps: outputs of heatmaps, inputs of reinject."""
    if name.endswith("_b/heatmaps"):
        return 1
    if name.endswith("_b/reinject/kernel"):
        return 2
    return None


def _carry(value: Any, old: Any, axis: int, rows: list[int]) -> Any:
    """`value` with the channels that the checkpoint has; the others keep their initial values."""
    ours = jnp.asarray([i for i, row in enumerate(rows) if row >= 0])
    theirs = jnp.asarray([row for row in rows if row >= 0])
    if not len(ours):
        return value
    value, old = jnp.moveaxis(jnp.asarray(value), axis, 0), jnp.moveaxis(jnp.asarray(old), axis, 0)
    return jnp.moveaxis(value.at[ours].set(old[theirs]), 0, axis)
