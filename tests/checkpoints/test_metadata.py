"""Checkpoint metadata: written and read back, with defaults for what older files lack."""

import json
import math
import pathlib

import numpy as np
import pytest

from jaxpose.checkpoints import packed, store
from jaxpose.checkpoints.metadata import Calibration, CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.geometry import CropRule
from jaxpose.network import ARGUMENTS, RANGES, PoseNet, check_arguments

# As a file has it, written out: not what `to_json` makes of anything.
RECORD = {
    "format": 1,
    "network": {"num_joints": 2, "width": 18},
    "joints": ["left_hand", "right_hand"],
    "flip_pairs": [["right_hand", "left_hand"]],
    "limbs": [],
    "trained_joints": ["left_hand"],
    "image_size": 32,
    "crop": {"source": "scale", "enlargement": 1.25, "shift": 0.075},
    "step": 7,
}
WANTED = CheckpointMetadata(
    network={"num_joints": 2, "width": 18},
    joints=("left_hand", "right_hand"),
    flip_pairs=(("right_hand", "left_hand"),),
    limbs=(),
    trained_joints=("left_hand",),
    image_size=32,
    crop=CropRule("scale", 1.25, 0.075),
    step=7,
)
PATH = pathlib.Path("run")


def test_a_record_is_read_into_its_fields():
    found = CheckpointMetadata.from_json(RECORD, PATH)
    assert found == WANTED
    assert isinstance(found.crop, CropRule) and isinstance(found.flip_pairs[0], tuple)


def test_the_written_record_is_plain_json_with_the_same_keys():
    assert WANTED.to_json() == RECORD
    full = WANTED._replace(seconds=2.5, metric=61.25, source="authors.h5", category="dog")
    expected = {**RECORD, "seconds": 2.5, "metric": 61.25, "source": "authors.h5"}
    expected["category"] = "dog"
    assert json.loads(json.dumps(full.to_json())) == full.to_json() == expected
    assert CheckpointMetadata.from_json(expected, PATH) == full


def test_a_metric_under_its_old_name_is_read():
    assert CheckpointMetadata.from_json({**RECORD, "score": 61.25}, PATH).metric == 61.25


def test_unknown_fields_and_those_that_older_files_lack_are_tolerated():
    extended = {**RECORD, "checksum": 5, "some_later_field": [1]}
    found = CheckpointMetadata.from_json(extended, PATH)
    assert (found.seconds, found.metric, found.source) == (0.0, None, "")
    assert found == WANTED


NETWORKS = {  # values of the network's arguments that no network can have
    "num_joints": ["2", 2.0, True, None, -1, 10**400],
    "num_blocks": ["8", 0, 10**6, [8]],
    "num_context_maps": [None, -1, 10**6],
    "alpha": ["x", None, -0.1, 1.5, math.nan, 10**400],
    "width": ["288", 288.0, 20, 0, 18 * 10**6],
    "kernel_size": [None, 5.0, 4, -1, 999_999],
    "grid": ["pixel", None, ["paper"], {}],
    "temperature": ["1", None, 0, -1.0, math.nan, math.inf, 10**400],
    "window": ["7", None, 7.0, -1, 6, 10**6],
    "dtype": ["float32"],
    "remat": [True],
    "portable": [True],
    "name": ["x"],
    "depth": [3],
}
MALFORMED = {
    "network": [
        *([], "small", None),
        *({"num_joints": 2, name: value} for name, values in NETWORKS.items() for value in values),
    ],
    "joints": [
        *("left_hand", [1, 2], None, [], ["left_hand"]),
        *(["left_hand", "right_hand", "head"], ["left_hand", "left_hand"]),
    ],
    "flip_pairs": [["left_hand"], [["left_hand"]], [[1, 2]], None, [["left_hand", "left_foot"]]],
    "limbs": [[["a", "b", "c"]], {}],
    "trained_joints": ["left_hand", [None], ["left_foot"], [], ["left_hand", "left_hand"]],
    "image_size": [0, -32, 32.5, 32.0, 33, 32 * 10**9, True, "32"],
    "crop": [
        *(None, {}, {"source": 1}, {"source": "scale", "shift": "0"}, {"source": "box", "x": 1}),
        *({"source": "circle"}, {"source": ["box"]}, {"source": "box", "enlargement": 0}),
        *({"source": "box", "enlargement": 10**400}, {"source": "scale", "shift": 1e300}),
    ],
    "step": [None, "7", 1.5],
    "seconds": ["2", None, math.nan, 10**400],
    "metric": ["high", -math.inf],
    "source": [None],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in MALFORMED for value in MALFORMED[name]]
)
def test_a_malformed_field_is_named_in_one_line(tmp_path, name, value):
    file = tmp_path / "x.npz"
    np.savez(file, metadata=np.array(json.dumps({**RECORD, name: value})))
    with pytest.raises(JaxposeError, match=rf"x\.npz .*{name}") as caught:
        store.load(file)
    assert "\n" not in str(caught.value)


def test_a_joint_in_two_flip_pairs_is_refused():
    """Exchanging it with both would be no flip."""
    joints = ["left_hand", "right_hand", "head"]
    record = {**RECORD, "network": {"num_joints": 3}, "joints": joints}
    pairs = [["left_hand", "right_hand"], ["right_hand", "left_hand"]]
    assert CheckpointMetadata.from_json({**record, "flip_pairs": pairs}, PATH).joints[2] == "head"
    pairs.append(["left_hand", "head"])
    with pytest.raises(ValueError, match="flip_pairs: .*'left_hand', which is in another"):
        CheckpointMetadata.from_json({**record, "flip_pairs": pairs}, PATH)


def test_the_default_number_of_joints_counts_too():
    with pytest.raises(ValueError, match="names 2 joints, but its network has 16"):
        CheckpointMetadata.from_json({**RECORD, "network": {}}, PATH)


def test_every_argument_that_determines_the_output_is_checked():
    """A new argument of the network is recorded and checked, or it is added to this list."""
    others = set(PoseNet.__dataclass_fields__) - set(ARGUMENTS)
    assert others == {"dtype", "axis_name", "remat", "portable", "parent", "name"}
    assert set(ARGUMENTS) - set(RANGES) == {"grid"}  # the others are numbers
    assert set(NETWORKS) > set(ARGUMENTS)
    check_arguments({name: getattr(PoseNet, name) for name in ARGUMENTS})


@pytest.mark.parametrize("name", [name for name in RECORD if name != "format"])
def test_a_missing_field_is_named_in_one_line(tmp_path, name):
    file = tmp_path / "x.npz"
    record = {key: value for key, value in RECORD.items() if key != name}
    np.savez(file, metadata=np.array(json.dumps(record)))
    with pytest.raises(JaxposeError, match=rf"x\.npz .*lacks {name}") as caught:
        store.load(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("record", [None, [], "text", {}, {"format": "1"}, {"format": True}])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match="no checkpoint metadata"):
        CheckpointMetadata.from_json(record, PATH)


@pytest.mark.parametrize(
    ("name", "size", "blocks", "step", "metric"),
    [("small", 128, 2, 16452, 61.30), ("base", 256, 3, 3438, 74.73)],
)
def test_the_shipped_networks_have_every_required_field(name, size, blocks, step, metric):
    _, metadata = packed.unpack(packed.path(name))
    assert (metadata.image_size, metadata.network["num_blocks"]) == (size, blocks)
    assert (metadata.step, metadata.metric) == (step, pytest.approx(metric, abs=0.005))
    assert metadata.crop == CropRule("joints", 1 / 0.76) and metadata.calibration is not None


def test_the_shipped_weights_have_at_most_12_megabytes():
    assert packed.names() == ["base", "small"]
    assert sum(file.stat().st_size for file in packed.FOLDER.glob("*.npz")) <= 12e6


def test_a_calibration_is_written_and_read_back():
    calibration = Calibration(bias=(-6.5,), presence=0.25, spread=-3.0)
    record = WANTED._replace(calibration=calibration).to_json()
    assert record["calibration"] == {"bias": [-6.5], "presence": 0.25, "spread": -3.0}
    found = CheckpointMetadata.from_json(json.loads(json.dumps(record)), PATH)
    assert found.calibration == calibration
    assert "calibration" not in WANTED.to_json()


@pytest.mark.parametrize(
    "calibration",
    [
        {"bias": [10**400], "presence": 1.0, "spread": 1.0},
        [1.0],
        {"bias": [1.0]},
        {"bias": ["a"], "presence": 1.0, "spread": 1.0},
        {"bias": [1.0, 2.0], "presence": 1.0, "spread": 1.0},
        {"bias": [math.nan], "presence": 1.0, "spread": 1.0},
        {"bias": [1.0], "presence": math.inf, "spread": 1.0},
    ],
)
def test_a_malformed_calibration_is_refused(calibration):
    with pytest.raises(ValueError, match="calibration"):
        CheckpointMetadata.from_json({**RECORD, "calibration": calibration}, PATH)
