"""Export a checkpoint as one self-contained program: a ``jax.export`` artifact or an ONNX file.

The program takes crops and returns positions and probabilities: it includes normalization, network
and decoding, and runs without jaxpose. A JSON file next to it describes what a caller needs: joint
names, limbs, size of the crops, and how to compute the crop from a person's box.
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
from jaxpose.storage import replace_file, write_errors, written_file

PLATFORMS = ("cpu", "cuda", "tpu")  # targets of the jax.export artifact
OPSET = 18  # ONNX operator set; supported by runtimes of recent years
INPUT, OUTPUTS = "images", ("keypoints", "confidence")
ONNX_VERSIONS = "JAX below 0.12, jax2onnx 0.17.1 and orbax-checkpoint 0.11.36"  # as tested
# Maximum deviation from the network, as a fraction of the crop's side; exports that exceed it are
# rejected.
TOLERANCE = 1e-4
CHECKED = 2  # number of crops that are compared

Program = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Exported(NamedTuple):
    """Result of ``export_network``.

    Attributes:
      program: path of the program.
      description: path of the JSON file.
      checkpoint: path of the exported checkpoint.
      difference: largest absolute difference between the results of the written program and of the
        network on random crops; the results are positions (as fractions of the crop's side) and
        probabilities.
    """

    program: pathlib.Path
    description: pathlib.Path
    checkpoint: pathlib.Path
    difference: float


def export_network(
    path: str | os.PathLike, out: str | os.PathLike, *, format: str = "jax", which: str = "best"
) -> Exported:
    """Export a checkpoint as a program and its JSON description.

    Before the program is written, its predictions are compared with the network's.

    Args:
      path: a workdir, a single checkpoint folder, a packed checkpoint, or the name of a network
        that the package ships.
      out: file to write; an existing file is replaced atomically. The JSON file has the same name
        with ``.json`` appended.
      format: "jax" or "onnx".
      which: which checkpoint of a workdir: "best" or "latest".

    Raises:
      JaxposeError: there is no readable checkpoint, ``out`` cannot be written or is the checkpoint
        itself, the format is unknown, an optional library is missing, or the exported program's
        predictions differ from the network's.
    """
    if format not in FORMATS:
        raise JaxposeError(f"format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    out = pathlib.Path(out)
    if out.is_dir() or not out.parent.is_dir():
        raise JaxposeError(f"cannot write {out}; give a file name in an existing folder")
    beside = out.with_name(out.name + ".json")
    _, variables, metadata, source = store.load_network(path, which=which)
    if out.exists() and source.is_file() and os.path.samefile(out, source):
        raise JaxposeError(f"{out} is the checkpoint to export; give another file name")
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
            "predictions of the exported program differ from the network's by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}; try other versions of the libraries in "
            f"the extra jaxpose[{EXTRAS[format]}]"
        )
    recorded = {"format": format, "program": out.name, **description(metadata)}
    with write_errors(beside), written_file(beside) as local:
        local.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
        with write_errors(out):  # inside: the description never describes another program
            replace_file(out, data)
    return Exported(out, beside, source, difference)


def crop_program(
    variables: dict, metadata: CheckpointMetadata, *, portable: bool = False
) -> Callable:
    """Make the function to export: traceable, with the variables as constants.

    Args:
      variables: as returned by ``store.load``.
      metadata: as returned by ``store.load``.
      portable: as in ``PoseNet``.

    Returns:
      A function that takes crops uint8 [B, S, S, 3] and returns (keypoints, confidence). The
      keypoints are float32 [B, J, 2], (x, y), where (0, 0) and (1, 1) are the crop's corners. The
      confidence is float32 [B, J], calibrated if the metadata contain a calibration. The J joints
      are ``metadata.trained_joints``.
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
    """Describe the program for its callers, as plain JSON values.

    The crop for a person's box (x, y, width, height) is a square with ``enlargement`` times the
    longer side of the box; its center is the center of the box, moved down by ``shift`` times the
    longer side.
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
    """Export the program with ``jax.export``, for any batch size and all ``PLATFORMS``.

    ``jax.export.deserialize(bytearray(data)).call(images)`` runs it, with jax and flatbuffers.
    """
    import_optional("flatbuffers", extra="export")
    size = metadata.image_size
    (batch,) = jax.export.symbolic_shape("batch")
    crops = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    program = jax.jit(crop_program(variables, metadata))
    return bytes(jax.export.export(program, platforms=PLATFORMS)(crops).serialize(vjp_order=0))


def load_jax(data: bytes) -> Program:
    """Load the result of ``to_jax`` as a function of NumPy arrays on the default device."""
    import_optional("flatbuffers", extra="export")
    return jax.jit(jax.export.deserialize(bytearray(data)).call)


def to_onnx(variables: dict, metadata: CheckpointMetadata) -> bytes:
    """Export the program to ONNX: input ``images``, outputs ``keypoints``, ``confidence``."""
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
    except (ImportError, AttributeError) as error:  # jax2onnx uses private JAX APIs
        raise JaxposeError(
            f"jax2onnx does not work with JAX {jax.__version__} ({error}); install jaxpose[onnx], "
            f"which selects compatible versions ({ONNX_VERSIONS}), into a separate environment"
        ) from error
    return model.SerializeToString()


def load_onnx(data: bytes) -> Program:
    """Load the result of ``to_onnx`` as a function of NumPy arrays in ONNX Runtime on CPU."""
    runtime = import_optional("onnxruntime", extra="onnx")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(list(OUTPUTS), {INPUT: images}))


FORMATS = {"jax": (to_jax, load_jax), "onnx": (to_onnx, load_onnx)}
EXTRAS = {"jax": "export", "onnx": "onnx"}  # the extra that each format needs
