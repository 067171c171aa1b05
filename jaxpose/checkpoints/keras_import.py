"""Import the weights that the paper's authors published (a Keras HDF5 file) into ``PoseNet``.

A Keras 2 weights file has one group per layer of the outer model. A nested model (the stem, a
block) is flattened into its group, with layers sorted by graph depth. This is not the order of
construction, so weights are matched by name. Unnamed layers are numbered through the whole network
in order of construction. The first number of a group may be any, so a layer is identified by the
order of the numbers in its group.
"""

import contextlib
import itertools
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxpose import _compat
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError, first_line
from jaxpose.geometry import MPII_RULE
from jaxpose.network import PoseNet
from jaxpose.optional import import_optional
from jaxpose.skeleton import AUTHORS, skeleton_of

PAPER_IMAGE_SIZE = 256
ALPHA = 0.8  # part of the authors' code, not of their file


class _Layer(NamedTuple):
    """One layer of the authors' network with its batch norm, and its path in ``PoseNet``.

    ``conv`` and ``norm`` are Keras names. For unnamed layers, they are (kind, i): the group's layer
    of that kind with the i-th lowest number, from 0.
    """

    conv: str | tuple[str, int]
    norm: str | tuple[str, int] | None
    ours: str
    kind: str = "kernel"  # or "separable", or "heatmaps"


def _named(name: str, ours: str, kind: str = "separable") -> _Layer:
    return _Layer(f"{name}_conv", name, ours, kind)


_STEM_ORDER = "conv1 conv2 conv3 conv4 short1 short2 long1 long2 long3 long4 conv5".split()
_LEVELS = ("l1", "l2_1", "l2_2", "l2_3", "l3_1", "l3_2", "l3_3")
_UNNAMED_CONV, _UNNAMED_NORM = ("conv2d", 0), ("batch_normalization", 0)


def _layout(num_blocks: int) -> dict[str, list[_Layer]]:
    """The file's groups that contain trained weights, in order, and the layers of each."""
    groups = {
        "Stem": [
            *(
                _Layer(("conv2d", rank), ("batch_normalization", rank), f"stem/{name}")
                for rank, name in enumerate(_STEM_ORDER)
            ),
            _named("sepconv1_shortcut", "stem/residual/shortcut", "kernel"),
            _named("sepconv1", "stem/residual/main"),
        ]
    }
    for k in range(1, num_blocks + 1):
        a, b = f"block{k}_a", f"block{k}_b"
        groups[f"rBlock{k}"] = [
            _Layer(_UNNAMED_CONV, _UNNAMED_NORM, f"{a}/reduce"),
            *(_named(f"sepconv_{level}", f"{a}/level{level[1:]}/main") for level in _LEVELS),
            _named("sepconv_l2_3_shortcut", f"{a}/level2_3/shortcut", "kernel"),
        ]
        groups[f"SepConv{k}"] = [
            _Layer(("separable_conv2d", 0), _UNNAMED_NORM, f"{b}/separable", "separable")
        ]
        groups[f"RegMap{k}"] = [_Layer(_UNNAMED_CONV, None, f"{b}/heatmaps", "heatmaps")]
        if k < num_blocks:
            groups[f"fReMap{k}"] = [_Layer(_UNNAMED_CONV, _UNNAMED_NORM, f"{b}/reinject")]
    return groups


def _leaves(layer: _Layer) -> Iterator[tuple[tuple, str, tuple[int, int]]]:
    """Yield (Keras layer, weight), path of our leaf, and axes that Keras adds (before, after)."""
    if layer.kind == "separable":
        yield (layer.conv, "depthwise_kernel"), f"params/{layer.ours}/depthwise", (0, 1)
        yield (layer.conv, "pointwise_kernel"), f"params/{layer.ours}/pointwise", (2, 0)
    elif layer.kind == "heatmaps":
        yield (layer.conv, "kernel"), f"params/{layer.ours}", (2, 0)
    else:
        yield (layer.conv, "kernel"), f"params/{layer.ours}/kernel", (0, 0)
    if layer.norm is not None:
        statistics = f"batch_stats/{layer.ours}/norm"
        yield (layer.norm, "beta"), f"params/{layer.ours}/norm/beta", (0, 0)
        yield (layer.norm, "moving_mean"), f"{statistics}/mean", (0, 0)
        yield (layer.norm, "moving_variance"), f"{statistics}/variance", (0, 0)


def load(
    path: str | os.PathLike,
    *,
    num_joints: int | None = None,
    num_context_maps: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the authors' weights file.

    Args:
      path: the HDF5 file, with weights only or a complete Keras model.
      num_joints: J. Needed only if the file lacks the frozen groups, whose shapes otherwise
        determine it.
      num_context_maps: C. In that case, either ``num_joints`` or ``num_context_maps`` is enough.

    Returns:
      (arguments, variables): ``PoseNet(**arguments).apply(variables, images)`` runs the authors'
      network. ``arguments`` is a plain dict; ``variables`` is {"params", "batch_stats"} of float32
      NumPy arrays. Joints are in the authors' order, ``skeleton.AUTHORS`` if there are 16.

    Raises:
      JaxposeError: there is no such file, h5py is missing, a number is out of range, or the file is
        not a complete weights file of the authors' network; the message names the first group that
        does not match.

    Example::

        arguments, variables = load("reception.h5")
        output = PoseNet(**arguments).apply(variables, normalize(images))
    """
    for name, value, low in (
        ("num_joints", num_joints, 1),
        ("num_context_maps", num_context_maps, 0),
    ):
        if value is not None and value < low:
            raise JaxposeError(f"{name} is {value}; it must be {low} or more")
    h5py = import_optional("h5py", extra="convert")
    with _opened(h5py, path) as file:
        try:
            arguments, flat = _read(file, num_joints, num_context_maps)
        except _GroupError as error:
            raise _misfit(path, *error.args) from error
    variables = unflatten_dict(flat, sep="/")
    return arguments, variables


def convert(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    joints: Sequence[str] | None = None,
    num_joints: int | None = None,
    num_context_maps: int | None = None,
) -> tuple[CheckpointMetadata, pathlib.Path]:
    """Convert the authors' weights file to a checkpoint of jaxpose.

    Args:
      path: the HDF5 file.
      folder: a new or an empty folder for the checkpoint.
      joints: names in the file's channel order. By default, the authors' 16 names; with another
        number of joints, ``joint_0``, ``joint_1``, ..., which no protocol can evaluate.
      num_joints: J, as in ``load``.
      num_context_maps: C, as in ``load``.

    Returns:
      (the checkpoint's metadata, the checkpoint's folder).

    Raises:
      JaxposeError: for the same reasons as ``load``, or if the folder is not empty, or the numbers
        of names and joints differ.
    """
    folder = pathlib.Path(folder).expanduser()
    existed = folder.exists()
    if existed and (not folder.is_dir() or any(folder.iterdir())):
        raise JaxposeError(f"{folder} exists and is not empty; give a new folder")
    if joints is not None and num_joints is None:
        num_joints = len(joints)
    arguments, variables = load(path, num_joints=num_joints, num_context_maps=num_context_maps)
    if joints is None:
        numbered = [f"joint_{j}" for j in range(arguments["num_joints"])]
        joints = AUTHORS.joints if len(numbered) == len(AUTHORS.joints) else numbered
    if len(joints) != arguments["num_joints"]:
        raise JaxposeError(
            f"{len(joints)} joint names are given, but the file has {arguments['num_joints']} "
            "joints; give one name per joint"
        )
    skeleton = skeleton_of(joints)
    metadata = CheckpointMetadata(
        network=arguments,
        joints=skeleton.joints,
        flip_pairs=skeleton.flip_pairs,
        limbs=skeleton.limbs,
        trained_joints=skeleton.joints,
        image_size=PAPER_IMAGE_SIZE,
        crop=MPII_RULE,
        step=0,
        source=os.path.basename(path),
    )
    try:
        manager = store.open_manager(folder, keep=1)
        store.save(manager, 0, variables, metadata)
        store.finish(manager)
    except BaseException:  # a second attempt needs an empty folder, after an interrupt too
        for path in folder.iterdir() if existed else [folder]:
            shutil.rmtree(path, ignore_errors=True)
        raise
    return metadata, store.find(folder)


class _GroupError(Exception):
    """(group, reason): the first group that does not match the authors' network, and why."""


def _opened(h5py, path):
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise JaxposeError(
            f"{path}: {error.strerror}; give the authors' Keras weights file"
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        what = "truncated" if _compat.is_truncated_hdf5(error) else "not an HDF5 file"
        raise JaxposeError(
            f"{path} is {what}; give a complete Keras weights file by the authors"
        ) from error


def _misfit(path, group: str, reason: str) -> JaxposeError:
    return JaxposeError(
        f"{path} is not a complete weights file of the authors' network (group {group}: {reason}); "
        "give a complete one"
    )


def _read(file, num_joints, num_context_maps) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read (arguments, our leaves by path) from an open file."""
    with _reading("Stem"):
        # A file of a complete model has the weights in a separate group.
        root = file["model_weights"] if "model_weights" in file else file
        names = _texts(root, "layer_names")
    num_blocks = _num_blocks(names)
    layout = _layout(num_blocks)
    for name in layout:
        if name not in names:
            raise _GroupError(name, "it is missing")
    groups = {name: _group(root, name) for name in names}
    for name, group in groups.items():
        if name in layout:
            groups[name] = _match(name, group, layout[name])
        elif group and name not in _FROZEN:
            raise _GroupError(name, "the authors' network has no such group")
    arguments = _arguments(groups, num_blocks, num_joints, num_context_maps)
    shapes = _shapes(arguments)
    leaves = {}
    for name, layers in layout.items():
        for layer in layers:
            for key, leaf, (before, after) in _leaves(layer):
                expected = (1,) * before + shapes[leaf] + (1,) * after
                leaves[leaf] = _value(name, groups[name][key], expected).reshape(shapes[leaf])
    return arguments, leaves


# Groups of constants whose shapes give the numbers of joints and context maps, each with the weight
# that is read.
_FROZEN = {"sSAM": "depthwise_kernel", "cSAM": "depthwise_kernel", "Agg": "kernel"}


def _num_blocks(names: Sequence[str]) -> int:
    """The number of blocks, from the groups' numbers; another block follows each re-injection."""
    found = [re.fullmatch(r"(rBlock|SepConv|RegMap|fReMap)([1-9]\d{0,3})", name) for name in names]
    return max((int(m[2]) + (m[1] == "fReMap") for m in found if m), default=1)


def _texts(group, attribute: str) -> list[str]:
    """A list of names; Keras splits a long list into ``attribute0``, ``attribute1``, ..."""
    split = (f"{attribute}{i}" for i in itertools.count())
    parts = [attribute] if attribute in group.attrs else []
    parts = parts or list(itertools.takewhile(group.attrs.__contains__, split))
    if not parts:
        raise KeyError(f"no attribute {attribute}")
    texts = [text for part in parts for text in group.attrs[part]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _group(root, name: str) -> dict[tuple, Any]:
    """A group's data sets by (layer, weight); unnamed layers are (kind, i), as in `_Layer`."""
    with _reading(name):
        datasets = {}
        for path in _texts(root[name], "weight_names"):
            layer, weight = path.split("/")[-2:]
            weight = re.sub(r"(_\d+)?(:\d+)?$", "", weight)
            number = re.fullmatch(
                r"(conv2d|batch_normalization|separable_conv2d)(?:_(\d+))?", layer
            )
            key = (number[1], int(number[2] or 0)) if number else layer
            if (key, weight) in datasets:
                raise KeyError(f"{path} is listed twice")
            datasets[key, weight] = root[name][path]
    numbers = sorted({key for key, _ in datasets if isinstance(key, tuple)})
    rank: dict[Any, tuple] = {
        key: (key[0], [n for n in numbers if n[0] == key[0]].index(key)) for key in numbers
    }
    return {(rank.get(key, key), weight): d for (key, weight), d in datasets.items()}


def _match(name: str, group: dict[tuple, Any], layers: Sequence[_Layer]) -> dict[tuple, Any]:
    """The group's data sets by the layout's keys; raises if one is missing or unexpected."""
    wanted = {key for layer in layers for key, _, _ in _leaves(layer)}
    known = {layer for layer, _ in wanted}
    matched = {}
    for (layer, weight), dataset in group.items():
        if isinstance(layer, str) and layer not in known:
            # Older versions of TensorFlow append a number if another block has the same layer name.
            layer = re.sub(r"_\d+$", "", layer)
        if (layer, weight) not in wanted or (layer, weight) in matched:
            raise _GroupError(name, f"it has an unexpected weight {_said(layer, weight)}")
        matched[layer, weight] = dataset
    for layer, weight in sorted(wanted - matched.keys(), key=str):
        raise _GroupError(name, f"{_said(layer, weight)} is missing")
    return matched


def _arguments(groups, num_blocks, num_joints, num_context_maps) -> dict[str, Any]:
    """Derive the arguments of ``PoseNet`` from the shapes."""
    width = _shape("Stem", groups["Stem"]["sepconv1_conv", "pointwise_kernel"], 4)[3]
    if width % 18:
        raise _GroupError("Stem", f"it has {width} channels, which is not a multiple of 18")
    rows = _shape("rBlock1", groups["rBlock1"]["sepconv_l1_conv", "depthwise_kernel"], 4)[0]
    if rows % 2 == 0:
        raise _GroupError("rBlock1", f"its kernels have {rows} rows, but the number must be odd")
    maps = _shape("RegMap1", groups["RegMap1"][_UNNAMED_CONV, "kernel"], 4)[3]
    joints, contexts = _joints_and_contexts(groups, maps, num_joints, num_context_maps)
    return {
        "num_joints": joints,
        "num_blocks": num_blocks,
        "num_context_maps": contexts // joints,
        "alpha": ALPHA,
        "width": width,
        "kernel_size": rows,
        "grid": "align_corners",
        "temperature": 1.0,
    }


def _joints_and_contexts(groups, maps, num_joints, num_context_maps) -> tuple[int, int]:
    """The total numbers of part maps and of context maps."""
    told: dict[str, tuple[int, ...]] = {}
    for name, weight in _FROZEN.items():
        for (_, found), dataset in groups.get(name, {}).items():
            if found == weight:
                shape = _shape(name, dataset, 2 if name == "Agg" else 4)
                if told.setdefault(name, shape) != shape:
                    raise _GroupError(
                        name,
                        f"its frozen weights have inconsistent shapes {told[name]} and {shape}",
                    )
    if "Agg" in told:
        contexts, joints = told["Agg"]
    elif "sSAM" in told:
        joints = told["sSAM"][2]
        contexts = told["cSAM"][2] if "cSAM" in told else maps - joints
    elif num_joints is not None or num_context_maps is not None:
        joints = num_joints if num_joints is not None else maps // (num_context_maps + 1)
        contexts = maps - joints
    else:
        raise JaxposeError(
            "the file does not determine the number of joints (it has neither a group sSAM nor a "
            "group Agg); pass --num_joints"
        )
    for name, expected in (("sSAM", joints), ("cSAM", contexts)):
        if name in told and told[name][2] != expected:
            raise _GroupError(name, f"it has {told[name][2]} maps, expected {expected}")
    if not 0 < joints <= maps or contexts % joints:
        raise _GroupError("RegMap1", f"its {maps} maps cannot be divided among {joints} joints")
    for given, actual, what, option in (
        (num_joints, joints, "joints", "--num_joints or --joints"),
        (num_context_maps, contexts // joints, "context maps per joint", "--num_context_maps"),
    ):
        if given not in (None, actual):
            raise JaxposeError(f"the file has {actual} {what}, not {given}; correct {option}")
    return joints, contexts


def _shapes(arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf of ``PoseNet``, by path."""
    # All blocks but the last have the same shapes, so a network with two blocks has all shapes.
    blocks = arguments["num_blocks"]
    net = PoseNet(**arguments | {"num_blocks": min(blocks, 2)})
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    leaves = {leaf: value.shape for leaf, value in flatten_dict(shapes, sep="/").items()}
    first = {leaf: shape for leaf, shape in leaves.items() if "/block1_" in leaf}
    last = {leaf: shape for leaf, shape in leaves.items() if "/block2_" in leaf}
    for k in range(2, blocks):
        leaves |= {leaf.replace("/block1_", f"/block{k}_"): shape for leaf, shape in first.items()}
    leaves |= {leaf.replace("/block2_", f"/block{blocks}_"): shape for leaf, shape in last.items()}
    return leaves


def _shape(group: str, dataset, ndim: int) -> tuple[int, ...]:
    with _reading(group):
        shape = tuple(int(size) for size in dataset.shape)
        if len(shape) != ndim or 0 in shape:
            raise ValueError(f"{dataset.name} has shape {shape}, expected {ndim} sizes above 0")
        return shape


def _value(group: str, dataset, shape: tuple[int, ...]) -> np.ndarray:
    with _reading(group):
        if dataset.shape != shape or dataset.dtype.kind != "f":
            raise ValueError(
                f"{dataset.name} is {dataset.dtype} {dataset.shape}, expected floats {shape}"
            )
        with np.errstate(over="ignore"):
            value = np.asarray(dataset[()], np.float32)
        if not np.isfinite(value).all():
            raise ValueError(f"{dataset.name} has values that are not finite")
        return value


@contextlib.contextmanager
def _reading(group: str):
    """Convert the errors that h5py raises for corrupt files to one that names the group."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise _GroupError(group, first_line(error)) from error


def _said(layer: str | tuple[str, int], weight: str) -> str:
    """A weight's name for messages, such as ``conv2d #2/kernel`` in an unnamed layer."""
    return f"{layer}/{weight}" if isinstance(layer, str) else f"{layer[0]} #{layer[1]}/{weight}"
