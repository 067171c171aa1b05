"""A checkpoint as one self-contained program: a `jax.export` artifact, or an ONNX file.

The program takes crops and returns positions and probabilities: normalization, network and decoding
are inside, and it runs without jaxpose. A JSON file beside it says what a caller has to know: joint
names, limbs, size of the crops, and how a crop follows from a person's box.
"""

import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import __version__, geometry
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.network import make_net
from jaxpose.optional import import_optional
from jaxpose.predict.estimator import predict_poses
from jaxpose.skeleton import joint_index
from jaxpose.storage import replace_file

PLATFORMS = ("cpu", "cuda", "tpu")  # that the jax.export artifact is lowered for
OPSET = 18  # of ONNX; the runtimes of the last years read it
INPUT, OUTPUTS = "images", ("keypoints", "confidence")
ONNX_VERSIONS = "JAX below 0.12, jax2onnx 0.17.1 and orbax-checkpoint 0.11.36"  # as tested
TOLERANCE = 1e-4  # of the crop's side; a program that is further off is not written
CHECKED = 2  # crops that it answers for that

Program = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Exported(NamedTuple):
    """What `export_network` wrote.

    Attributes:
      program: the file.
      description: the JSON file beside it.
      checkpoint: what was exported.
      difference: the largest between the written program and the network, over positions as a
        share of the crop's side and over probabilities, on crops of noise.
    """

    program: pathlib.Path
    description: pathlib.Path
    checkpoint: pathlib.Path
    difference: float


def export_network(
    path: str | os.PathLike, out: str | os.PathLike, *, format: str = "jax", which: str = "best"
) -> Exported:
    """Write a checkpoint's program, once it was run and agrees with the network, and its JSON.

    Args:
      path: a workdir, a single checkpoint folder, a packed checkpoint, or the name of a network
        that the package ships.
      out: the program's file; one that is there is replaced in one move. The JSON file is called
        like it, with ``.json`` behind.
      format: "jax" or "onnx".
      which: "best" or "latest" of a workdir.

    Raises:
      JaxposeError: no checkpoint is there or it cannot be read, the format is unknown, a library of
        the extra is missing, or the written program answers otherwise than the network.
    """
    if format not in FORMATS:
        raise JaxposeError(f"format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    out = pathlib.Path(out)
    if out.is_dir() or not out.parent.is_dir():
        raise JaxposeError(f"{out} is not a file name in an existing folder; give one")
    _, variables, metadata, source = store.load_network(path, which=which)
    make, load = FORMATS[format]
    data = make(variables, metadata)
    shape = (CHECKED, metadata.image_size, metadata.image_size, 3)
    crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    difference = max(
        float(np.abs(found - expected).max())
        for found, expected in zip(
            load(data)(crops), jax.jit(crop_program(variables, metadata))(crops), strict=True
        )
    )
    if not difference <= TOLERANCE:
        raise JaxposeError(
            f"the exported program is {difference:.1e} away from the network's answers; "
            f"try other versions of the libraries of the extra that {format} needs"
        )
    recorded = {"format": format, "program": out.name, **description(metadata)}
    beside = out.with_name(out.name + ".json")
    replace_file(beside, json.dumps(recorded, indent=1) + "\n")
    replace_file(out, data)
    return Exported(out, beside, source, difference)


def crop_program(
    variables: dict, metadata: CheckpointMetadata, *, portable: bool = False
) -> Callable:
    """The function that is exported: traceable, the variables are its constants.

    Args:
      variables: as returned by `store.load`.
      metadata: as returned by `store.load`.
      portable: as `PoseNet` has it.

    Returns:
      Takes crops uint8 [B, S, S, 3]; returns keypoints float32 [B, J, 2], (x, y) with (0, 0) and
      (1, 1) the crop's corners, and confidence float32 [B, J], calibrated where the metadata have a
      calibration; the J joints are ``metadata.trained_joints``.
    """
    net = make_net(metadata.network).clone(portable=portable)
    kept = joint_index(metadata.joints, metadata.trained_joints)

    def pose(images):
        keypoints, logits, log_spread = predict_poses(net, variables, images)
        logits, log_spread = logits[:, kept], log_spread[:, kept]
        if metadata.calibration is not None:
            logits = metadata.calibration.logits(logits, log_spread)
        return keypoints[:, kept], jax.nn.sigmoid(logits)

    return pose


def description(metadata: CheckpointMetadata) -> dict[str, Any]:
    """What a caller of the program has to know; plain and JSON-serializable.

    The crop of a person's box (x, y, width, height) is a square whose side is ``enlargement`` times
    the box's longer side, its center the box's, ``shift`` times the longer side further down.
    """
    skeleton, size = metadata.trained_skeleton(), metadata.image_size
    rule = geometry.rule_for_boxes(metadata.crop)
    shapes = (["batch", len(skeleton.joints), 2], ["batch", len(skeleton.joints)])
    return {
        "jaxpose": __version__,
        "step": metadata.step,
        "input": {"name": INPUT, "dtype": "uint8", "shape": ["batch", size, size, 3]},
        "outputs": [
            {"name": name, "dtype": "float32", "shape": shape}
            for name, shape in zip(OUTPUTS, shapes, strict=True)
        ],
        "calibrated": metadata.calibration is not None,
        "image_size": size,
        "category": metadata.category,
        "joints": list(skeleton.joints),
        "limbs": [list(limb) for limb in skeleton.limbs],
        "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
        "crop": {"enlargement": rule.enlargement, "shift": rule.shift},
    }


def to_jax(variables: dict, metadata: CheckpointMetadata) -> bytes:
    """The program as an artifact of `jax.export`, for any batch size and all of `PLATFORMS`.

    ``jax.export.deserialize(bytearray(data)).call(images)`` runs it, with jax and flatbuffers.
    """
    import_optional("flatbuffers", extra="export")
    size = metadata.image_size
    (batch,) = jax.export.symbolic_shape("batch")
    crops = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    program = jax.jit(crop_program(variables, metadata))
    return bytes(jax.export.export(program, platforms=PLATFORMS)(crops).serialize(vjp_order=0))


def load_jax(data: bytes) -> Program:
    """What `to_jax` gave, as a function of NumPy arrays on this machine's device."""
    import_optional("flatbuffers", extra="export")
    return jax.jit(jax.export.deserialize(bytearray(data)).call)


def to_onnx(variables: dict, metadata: CheckpointMetadata) -> bytes:
    """The program as an ONNX model: input ``images``, outputs ``keypoints`` and ``confidence``."""
    logging.getLogger("onnx_ir.serde").setLevel(logging.ERROR)  # a warning for every shape
    size = metadata.image_size
    try:
        jax2onnx = import_optional("jax2onnx", extra="onnx")
        model = jax2onnx.to_onnx(
            crop_program(variables, metadata, portable=True),
            [jax.ShapeDtypeStruct(("batch", size, size, 3), jnp.uint8)],
            model_name="jaxpose",
            opset=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
        )
    except (ImportError, AttributeError) as error:  # it uses names that JAX keeps to itself
        raise JaxposeError(
            f"jax2onnx does not work with JAX {jax.__version__} ({error}); in an environment of "
            f"its own the extra jaxpose[onnx] installs versions that do: {ONNX_VERSIONS}"
        ) from error
    return model.SerializeToString()


def load_onnx(data: bytes) -> Program:
    """What `to_onnx` gave, as a function of NumPy arrays in ONNX Runtime on the CPU."""
    runtime = import_optional("onnxruntime", extra="onnx")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(list(OUTPUTS), {INPUT: images}))


FORMATS = {"jax": (to_jax, load_jax), "onnx": (to_onnx, load_onnx)}
