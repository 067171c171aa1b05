"""Exported programs: they answer as `PoseEstimator` does, and need nothing of this package."""

import contextlib
import errno
import io
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import tomllib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import cli, export, geometry
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import Calibration, CheckpointMetadata
from jaxpose.checkpoints.packed import pack
from jaxpose.errors import JaxposeError
from jaxpose.geometry import MPII_RULE, CropRule
from jaxpose.network import PoseNet, initial_variables
from jaxpose.predict import PoseEstimator, as_image
from jaxpose.skeleton import LSP, MPII

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZE = 64
NETWORK = {"num_joints": 16, "num_blocks": 1, "width": 18, "kernel_size": 5, "window": 3}
METADATA = CheckpointMetadata(
    network=NETWORK,
    joints=MPII.joints,
    flip_pairs=MPII.flip_pairs,
    limbs=MPII.limbs,
    trained_joints=tuple(n for n in MPII.joints if n in (*LSP.joints, "upper_neck")),
    image_size=SIZE,
    crop=MPII_RULE,
    step=3,
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed checkpoint, untrained, with maps high enough for answers that differ."""
    variables = initial_variables(PoseNet(**NETWORK), 0)
    variables["params"]["block1_b"]["heatmaps"] *= 1000.0
    return pack(variables, METADATA, tmp_path_factory.mktemp("packed") / "tiny.npz")


@pytest.fixture(scope="module")
def estimator(packed):
    return PoseEstimator.from_checkpoint(packed)


@pytest.fixture(scope="module")
def exported(packed, tmp_path_factory):
    """The folder that the command wrote into, and what it printed."""
    folder = tmp_path_factory.mktemp("exported")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert cli.main(["export", str(packed), str(folder / "pose.jax")]) == 0
    return folder, output.getvalue()


@pytest.fixture(scope="module")
def artifact(exported):
    return exported[0] / "pose.jax"


@pytest.fixture(scope="module")
def program(artifact):
    return export.load_jax(artifact.read_bytes())


def crops_of(images, per_image=1):
    """Crops uint8 [N, S, S, 3] of images, at random places, some reaching beyond the edges."""
    rng = np.random.default_rng(0)
    crops = []
    for image in images:
        height, width = image.shape[:2]
        for _ in range(per_image):
            side = rng.uniform(0.4, 1.3) * max(height, width)
            center = rng.uniform((0.2 * width, 0.2 * height), (0.8 * width, 0.8 * height))
            crops.append(geometry.crop_image(image, geometry.Crop(tuple(center), side), SIZE))
    return np.stack(crops)


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(1)
    return crops_of(rng.integers(0, 256, (8, 120, 90, 3), np.uint8), per_image=4)


def assert_close(found, expected, atol):
    assert np.ptp(expected[0], axis=0).max() > 0.1  # the answers do differ among crops
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


def test_the_program_answers_as_the_estimator(program, estimator, crops):
    found = program(crops)
    assert found[0].dtype == found[1].dtype == np.float32
    assert_close(found, estimator.predict_crops(crops), atol=1e-5)
    for ours, theirs in zip(program(crops[:1]), found, strict=True):
        np.testing.assert_allclose(ours, theirs[:1], atol=1e-5)


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", "paper"])
@pytest.mark.parametrize("portable", [False, True])
def test_the_program_carries_the_calibration(portable, grid, crops):
    calibration = Calibration((0.5,) * 16, presence=0.3, spread=-1.5)
    variables = initial_variables(PoseNet(**NETWORK), 0)
    variables["params"]["block1_b"]["heatmaps"] *= 1000.0
    plain = METADATA._replace(trained_joints=MPII.joints, network={**NETWORK, "grid": grid})
    metadata = plain._replace(calibration=calibration)
    found = jax.jit(export.crop_program(variables, metadata, portable=portable))(crops)
    assert_close(found, PoseEstimator(variables, metadata).predict_crops(crops), atol=1e-4)
    presence = jax.jit(export.crop_program(variables, plain))(crops)[1]
    assert np.abs(found[1] - presence).max() > 0.1
    assert export.description(metadata)["calibrated"]


def test_the_program_answers_as_the_estimator_on_real_images(program, estimator, shared):
    files = sorted((shared / "data" / "mpii" / "images").glob("*.jpg"))[:50]
    crops = crops_of(map(as_image, files), per_image=-(-50 // len(files)))[:50]
    assert len(crops) == 50
    for part in (crops[:32], crops[18:]):  # of the size that is compiled already
        assert_close(program(part), estimator.predict_crops(part), atol=1e-4)


def test_the_artifact_takes_any_batch_on_every_platform(artifact):
    artifact = jax.export.deserialize(bytearray(artifact.read_bytes()))
    assert artifact.platforms == ("cpu", "cuda", "tpu")
    (images,) = artifact.in_avals
    assert str(images) == f"uint8[batch,{SIZE},{SIZE},3]"
    joints = len(list(METADATA.trained_joints))
    assert [str(out) for out in artifact.out_avals] == [
        f"float32[batch,{joints},2]", f"float32[batch,{joints}]"
    ]  # fmt: skip


def test_the_exported_function_takes_symbolic_heights_and_widths(packed, crops):
    variables, metadata, _ = store.load(packed)
    program = jax.jit(export.crop_program(variables, metadata))
    sizes = jax.export.symbolic_shape("batch, 32*h, 32*w, 3")
    exported = jax.export.export(program)(jax.ShapeDtypeStruct(sizes, jnp.uint8))
    for images in (crops[:2], np.tile(crops[:1], (1, 1, 2, 1))):
        for ours, theirs in zip(exported.call(images), program(images), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


LOAD = """
    import sys

    import jax
    import numpy as np

    crops, program, answers = sys.argv[1:]
    with open(program, "rb") as file:
        pose = jax.export.deserialize(bytearray(file.read())).call
    keypoints, confidence = pose(np.load(crops))
    np.savez(answers, keypoints=keypoints, confidence=confidence)
"""
ALONE = """
    import sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("jaxpose", "flax", "orbax", "cv2", "optax"):
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Refuse())
"""


def outputs_of(python, code, crops, program, folder):
    """What a fresh process of a Python answers, run by code that knows nothing of jaxpose."""
    np.save(folder / "crops.npy", crops)
    arguments = [folder / "crops.npy", program, folder / "answers.npz"]
    run([python, "-c", textwrap.dedent(code), *arguments], folder)
    with np.load(folder / "answers.npz") as predictions:
        return predictions["keypoints"], predictions["confidence"]


def run(command, folder):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_artifact_runs_without_this_package(artifact, estimator, crops, tmp_path):
    found = outputs_of(sys.executable, ALONE + LOAD, crops, artifact, tmp_path)
    assert_close(found, estimator.predict_crops(crops), atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)  # fetches and unpacks JAX
def test_jax_and_flatbuffers_are_enough(artifact, estimator, crops, tmp_path):
    run([sys.executable, "-m", "venv", tmp_path / "alone"], tmp_path)
    python = tmp_path / "alone" / "bin" / "python"
    run([python, "-m", "pip", "install", f"jax=={jax.__version__}", "flatbuffers"], tmp_path)
    found = outputs_of(python, LOAD, crops, artifact, tmp_path)
    assert_close(found, estimator.predict_crops(crops), atol=1e-5)


# The description


def test_the_description_names_what_the_program_says(exported, estimator):
    metadata = json.loads((exported[0] / "pose.jax.json").read_text())
    assert (metadata["format"], metadata["program"]) == ("jax", "pose.jax")
    assert (
        metadata["joints"] == list(METADATA.trained_joints) and "pelvis" not in metadata["joints"]
    )
    assert metadata["limbs"] == [list(limb) for limb in estimator.limbs]
    assert metadata["category"] == "person"
    assert metadata["image_size"] == SIZE and metadata["input"]["shape"][1:] == [SIZE, SIZE, 3]
    joints = len(metadata["joints"])
    assert [out["shape"] for out in metadata["outputs"]] == [
        ["batch", joints, 2],
        ["batch", joints],
    ]


@pytest.mark.parametrize("source", ["scale", "joints", "image"])
def test_its_crop_rule_is_the_estimators(source, estimator):
    metadata = METADATA._replace(crop=CropRule(source, 1.3, 0.06))
    variables = estimator._variables
    rule = export.description(metadata)["crop"]
    for box in ([30.0, 40.0, 60.0, 110.0], [0.0, 0.0, 200.0, 50.0]):
        crop = PoseEstimator(variables, metadata).crop_of(np.array(box))
        longer = max(box[2:])
        assert crop.side == pytest.approx(rule["enlargement"] * longer)
        below = box[1] + box[3] / 2 + rule["shift"] * longer
        assert crop.center == pytest.approx((box[0] + box[2] / 2, below))


# The command, and what goes wrong


def test_the_command_says_what_it_wrote(packed, exported):
    folder, printed = exported
    assert printed.startswith(f"checkpoint: {packed}\nprogram: {folder / 'pose.jax'} (jax, ")
    assert sorted(path.name for path in folder.iterdir()) == ["pose.jax", "pose.jax.json"]


def test_a_program_that_cannot_be_written_keeps_the_old_description(packed, tmp_path, monkeypatch):
    """A description beside another network's program would name the wrong joints."""

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    out, beside = tmp_path / "pose.jax", tmp_path / "pose.jax.json"
    out.write_bytes(b"old program")
    beside.write_text("old description")
    monkeypatch.setattr(export, "replace_file", full)
    with pytest.raises(JaxposeError, match=r"pose.jax cannot be written \(No space"):
        export.export_network(packed, out)
    assert sorted(file.name for file in tmp_path.iterdir()) == [out.name, beside.name]
    assert (out.read_bytes(), beside.read_text()) == (b"old program", "old description")


def test_a_program_that_answers_otherwise_is_not_written(packed, tmp_path, monkeypatch):
    make, load = export.FORMATS["jax"]

    def wrong(data):
        program = load(data)
        return lambda crops: (program(crops)[0] + 0.001, program(crops)[1])

    monkeypatch.setitem(export.FORMATS, "jax", (make, wrong))
    with pytest.raises(JaxposeError, match=r"differ from the network.s by 1.0e-03"):
        export.export_network(packed, tmp_path / "pose.jax")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("library", "format"), [("flatbuffers", "jax"), ("jax2onnx", "onnx")])
def test_a_missing_library_is_named(library, format, packed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    extra = {"jax": "export"}.get(format, format)
    with pytest.raises(JaxposeError, match=rf"{library} is not installed; .*jaxpose\[{extra}\]"):
        export.export_network(packed, tmp_path / "pose", format=format)


def test_what_cannot_work_is_said(packed, tmp_path):
    with pytest.raises(JaxposeError, match="format 'tflite' is unknown; choose one of jax, onnx"):
        export.export_network(packed, tmp_path / "pose", format="tflite")
    for out in (tmp_path, tmp_path / "absent" / "pose.jax"):
        with pytest.raises(JaxposeError, match="give a file name in an existing folder"):
            export.export_network(packed, out)
    with pytest.raises(JaxposeError, match="no checkpoint in"):
        export.export_network(tmp_path, tmp_path / "pose.jax")


def test_the_checkpoint_is_not_overwritten(packed, tmp_path, monkeypatch, capsys):
    content = packed.read_bytes()
    (tmp_path / "linked.npz").symlink_to(packed)
    monkeypatch.chdir(packed.parent)
    for out in (str(packed), packed.name, str(tmp_path / "linked.npz")):
        assert cli.main(["export", str(packed), out]) == 1
        assert "is the checkpoint to export; give another file name" in capsys.readouterr().err
    assert packed.read_bytes() == content


def test_a_converter_that_does_not_fit_jax_names_the_versions_that_do(
    packed, tmp_path, monkeypatch
):
    def to_onnx(*arguments, **options):
        raise AttributeError("module 'jax._src.core' has no attribute 'ClosedJaxpr'")

    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=to_onnx))
    with pytest.raises(JaxposeError, match=r"'ClosedJaxpr'\); .*JAX below 0\.12") as caught:
        export.export_network(packed, tmp_path / "pose.onnx", format="onnx")
    assert "\n" not in str(caught.value)
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "jax<0.12" in bounds["optional-dependencies"]["onnx"]


def test_the_shipped_network_is_exported_by_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "small", "pose.jax"]) == 0
    metadata = json.loads((tmp_path / "pose.jax.json").read_text())
    assert metadata["image_size"] == 128 and (tmp_path / "pose.jax").stat().st_size > 4e6


# ONNX. Its converter wants an older Orbax than the lock has, so it lives in an environment apart.


@pytest.fixture(scope="module")
def onnx_python(tmp_path_factory):
    """A Python with the extra onnx: this one, or that of an environment made for it."""
    try:
        import jax2onnx  # noqa: F401
        import onnxruntime  # noqa: F401

        return sys.executable
    except ImportError:
        folder = tmp_path_factory.mktemp("onnx")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", f"{ROOT}[onnx]"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"jax2onnx cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return python


RUN_ONNX = """
    import sys

    import numpy as np
    import onnxruntime

    crops, program, answers = sys.argv[1:]
    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    assert [place.name for place in session.get_inputs()] == ["images"]
    crops = np.load(crops)
    keypoints, confidence = session.run(["keypoints", "confidence"], {"images": crops})
    alone = session.run(["keypoints", "confidence"], {"images": crops[:1]})  # any batch size
    np.testing.assert_allclose(alone[0], keypoints[:1], atol=1e-5)
    np.savez(answers, keypoints=keypoints, confidence=confidence)
    assert "jax" not in sys.modules
"""


@pytest.fixture(scope="module")
def onnx_program(onnx_python, packed, tmp_path_factory):
    """The file that the command wrote in that environment."""
    program = tmp_path_factory.mktemp("onnx_program") / "pose.onnx"
    command = "import sys; from jaxpose import cli; sys.exit(cli.main(sys.argv[1:]))"
    printed = run([onnx_python, "-c", command, "export", packed, program], program.parent)
    assert f"program: {program} (onnx, " in printed
    return program


@pytest.mark.slow
@pytest.mark.timeout(900)  # fetches and unpacks the converter and its 250 MB
def test_onnx_runtime_answers_as_the_estimator(
    onnx_python, onnx_program, estimator, crops, tmp_path
):
    found = outputs_of(onnx_python, RUN_ONNX, crops, onnx_program, tmp_path)
    assert_close(found, estimator.predict_crops(crops), atol=0.05 / SIZE)


INSPECT = """
    import collections
    import sys

    import onnx

    model = onnx.load(sys.argv[1])
    onnx.checker.check_model(model, full_check=True)
    kinds = collections.Counter(node.op_type for node in model.graph.node)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    groups = [a.i for node in convolutions for a in node.attribute if a.name == "group"]
    print(sum(group > 1 for group in groups), kinds["MaxPool"])
    print([(opset.domain, opset.version) for opset in model.opset_import])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_onnx_model_has_grouped_convolutions(onnx_python, onnx_program):
    """One for each depthwise convolution: as slices they would be 25 operations each."""
    code = textwrap.dedent(INSPECT)
    printed = run([onnx_python, "-c", code, onnx_program], onnx_program.parent)
    # One in the stem's residual, seven in block A, one in block B; two poolings in stem and in A.
    assert printed == "9 4\n[('', 18)]\n"
