"""What a run makes of its config: the skeleton that its checkpoints record."""

import types

import pytest

from configs import common, synthetic
from jaxpose.data.prepared import PreparedSplit
from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet
from jaxpose.skeleton import skeleton_of
from jaxpose.training.config import check_config
from jaxpose.training.run import skeleton_of_run

DOG = PreparedSplit(
    "coco/dogs",
    "train",
    [],
    ("nose", "LeftEar", "RightEar", "tail"),
    flip_pairs=(("RightEar", "LeftEar"),),
    limbs=(("nose", "tail"), ("nose", "LeftEar")),
)
LEEDS = PreparedSplit("lsp", "train", [], ("right_hip", "left_hip", "neck"))


def run_of(joints, *splits):
    return types.SimpleNamespace(joints=tuple(joints), training=[(split, 1.0) for split in splits])


def test_the_skeleton_is_the_data_sets_own():
    found = skeleton_of_run(run_of(("LeftEar", "tail", "nose", "RightEar"), LEEDS, DOG))
    assert found.joints == ("LeftEar", "tail", "nose", "RightEar")
    assert found.flip_pairs == DOG.flip_pairs and found.limbs == DOG.limbs


def test_joints_that_the_network_lacks_are_left_out():
    found = skeleton_of_run(run_of(("nose", "LeftEar"), DOG))
    assert found.flip_pairs == () and found.limbs == (("nose", "LeftEar"),)


def test_of_several_data_sets_together_it_follows_from_the_names():
    joints = ("right_knee", "left_knee", "right_hip", "left_hip")
    assert skeleton_of_run(run_of(joints, LEEDS, DOG)) == skeleton_of(joints)


def test_the_default_config_and_the_default_network_are_the_papers():
    config = common.get_config()
    assert PoseNet(num_joints=len(config.joints), **config.network) == PoseNet()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"augmentation.stray": 1.5}, "augmentation.stray is 1.5; it is a fraction"),
        ({"augmentation.turned": -0.1}, "augmentation.turned is -0.1"),
        ({"augmentation.shift": -1.0}, "augmentation.shift is -1.0; it must be 0 or more"),
        ({"context_weight": 0.3, "network.num_context_maps": 0}, "context_weight needs context"),
    ],
)
def test_values_that_cannot_work_are_refused(changes, says):
    config = synthetic.get_config("tiny")
    config.update_from_flattened_dict(changes)
    with pytest.raises(JaxposeError, match=says):
        check_config(config)
