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


def test_the_default_config_is_the_papers():
    """Sections 3 and 4.1: MPII's training, before the decay of its rate."""
    config = common.get_config()
    assert (len(config.joints), config.image_size, config.crop) == (16, 256, "joints")
    network = config.network
    assert (network.num_blocks, network.num_context_maps, network.alpha) == (8, 2, 0.8)
    assert (network.width, network.kernel_size, network.temperature) == (576, 5, 1.0)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.schedule) == (
        "rmsprop", 1e-3, "constant"
    )  # fmt: skip
    assert (optimizer.warmup_epochs, optimizer.weight_decay, optimizer.clip_norm) == (0, 0, 0)
    assert (config.batch_size, config.num_epochs, config.plateau.factor) == (16, 120, 0.4)
    assert (config.augmentation.rotation, config.augmentation.scale) == (40.0, (0.7, 1.3))
    assert (config.context_weight, config.heatmap_weight, config.ema) == (0, 0, 0)


def test_the_default_network_is_that_of_the_default_config():
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
