"""What a run makes of its config: the skeleton and category that its checkpoints record."""

import math
import types

import pytest

from configs import common, synthetic
from jaxpose.data.prepared import PreparedSplit
from jaxpose.errors import JaxposeError
from jaxpose.geometry import BOX_RULE
from jaxpose.network import PoseNet
from jaxpose.skeleton import skeleton_of
from jaxpose.training.config import OTHER_FIELDS, RANGES, check_config
from jaxpose.training.run import first_joints, metadata_of, shared_category, skeleton_of_run

DOG = PreparedSplit(
    "coco/dogs",
    "train",
    [],
    ("nose", "LeftEar", "RightEar", "tail"),
    flip_pairs=(("RightEar", "LeftEar"),),
    limbs=(("nose", "tail"), ("nose", "LeftEar")),
)
LEEDS = PreparedSplit("lsp", "train", [], ("right_hip", "left_hip", "neck"))
NOBODY = PreparedSplit("backgrounds", "train", [], ("right_hip", "pelvis"), has_people=False)


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


def test_data_sets_of_one_category_together_keep_it():
    """None of them has all joints of the network; images without people have no category."""
    dogs = DOG._replace(category=(3, "dog"))
    more = LEEDS._replace(name="coco/more", category=(1, "dog"))
    run = run_of((*LEEDS.joints, *DOG.joints), NOBODY, dogs, more)
    run.category = shared_category(run.training)
    run.arguments, run.rule, run.config = {}, BOX_RULE, types.SimpleNamespace(image_size=64)
    assert metadata_of(run, trained=(), step=1, seconds=0.0).category == "dog"


def test_data_sets_of_different_categories_are_refused():
    training = [(DOG._replace(category=(3, "dog")), 1.0), (NOBODY, 1.0), (LEEDS, 1.0)]
    with pytest.raises(JaxposeError, match="coco/dogs: dog, lsp: person") as caught:
        shared_category(training)
    assert "\n" not in str(caught.value)


def test_the_joints_of_a_run_are_those_of_people():
    assert first_joints([(NOBODY, 1.0), (DOG, 1.0)]) == DOG.joints


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
        ({"augmentation.stray": 1.5}, "augmentation.stray is 1.5; it must be from 0 to 1"),
        ({"max_minutes": math.inf}, "max_minutes is inf; it must be 0 or more, and finite"),
        ({"seed": 10**20}, "seed is 100000000000000000000; it must be from 0 to 4294967295"),
        ({"plateau.patience": 2**31}, "plateau.patience is 2147483648; it must be from 1 to"),
        ({"augmentation.scale": (0.001, 1.0)}, r"augmentation.scale is .*0.01 <= low <= high"),
        ({"augmentation.scale": ("a", "b")}, "augmentation.scale is"),
        ({"validation": (("lsp", "test", "box", -1.0),)}, "the weight of lsp test in config.val"),
        ({"validation": (("lsp", "test", "box", math.nan),)}, "is nan; it must be 0 or more"),
        ({"joints": ("nose", 1)}, "config.joints contains 1; write names"),
        ({"joints": ("nose,tail",)}, "contains the name 'nose,tail'; write a list of names as"),
        ({"context_weight": 0.3, "network.num_context_maps": 0}, "context_weight needs context"),
    ],
)
def test_values_that_cannot_work_are_refused(changes, says):
    refused(changes, says)


def refused(changes, says):
    config = synthetic.get_config("tiny")
    config.update_from_flattened_dict(changes)
    with pytest.raises(JaxposeError, match=says) as caught:
        check_config(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RANGES)
def test_each_number_has_a_range(name):
    """Below and above it, every field is refused by its own name."""
    low, high = RANGES[name]
    kind = type(common.get_config().to_dict()[name]) if "." not in name else None
    kind = kind or type(common.get_config()[name.split(".")[0]][name.split(".")[1]])
    refused({name: kind(low - 1)}, f"^{name} is {kind(low - 1)}; it must be ")
    if high < math.inf:
        refused({name: kind(high + 1)}, f"^{name} is .*; it must be ")
    if kind is float:
        refused({name: math.nan}, f"^{name} is nan; it must be ")


def test_a_section_that_was_replaced_is_named():
    config = synthetic.get_config("tiny")
    config.network = {"width": 36, "num_blocks": 1}
    says = "^the config lacks the field network.grid; .* because config.network = ... removes all"
    with pytest.raises(JaxposeError, match=says):
        check_config(config)


def test_every_field_of_a_config_is_checked():
    fields = common.get_config().to_dict()
    flat = {
        f"{name}.{inner}" if isinstance(value, dict) else name: number
        for name, value in fields.items()
        for inner, number in (value.items() if isinstance(value, dict) else [("", value)])
    }
    numbers = {name for name, value in flat.items() if type(value) in (int, float)}
    assert numbers - {"eval.num_crops"} == RANGES.keys()  # which the evaluation checks
    assert flat.keys() == RANGES.keys() | set(OTHER_FIELDS)
