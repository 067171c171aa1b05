"""Batches: the right person in the right row, whatever makes them; masks; whole evaluations."""

import jax
import numpy as np
import pytest

from jaxpose.data.augment import Augmentation
from jaxpose.data.batches import evaluation_batches, example_name, labeled_joints
from jaxpose.data.sampling import epoch_draws, steps_per_epoch
from jaxpose.errors import JaxposeError
from jaxpose.geometry import (
    IMAGE_RULE,
    LSP_RULE,
    CropRule,
    apply_affine,
)
from tests.support.drawn_people import (
    MILD,
    NETWORK,
    PEOPLE,
    assert_same,
    person,
    split_of,
    take,
    training,
)


def test_batch_has_the_documented_arrays():
    (batch,) = take(training([(PEOPLE, 1.0)]), 1)
    assert {name: (a.shape, a.dtype.name) for name, a in batch._asdict().items()} == {
        "image": ((4, 48, 48, 3), "uint8"),
        "keypoints": ((4, 5, 2), "float32"),
        "labeled": ((4, 5), "bool"),
        "known": ((4, 5), "bool"),
        "weight": ((4,), "float32"),
        "index": ((4,), "int64"),
        "readable": ((4,), "bool"),
        "crop_to_image": ((4, 2, 3), "float64"),
    }


def test_each_joint_is_where_its_color_is():
    """Red is the image's right wrist; where the crop is mirrored, it is the left one."""
    mirrored = 0
    for batch in take(training([(PEOPLE, 1.0)], augmentation=MILD, image_size=96), 8):
        for row in range(4):
            flip = np.linalg.det(batch.crop_to_image[row][:, :2]) < 0
            mirrored += flip
            channels = {0: 0 if flip else 1, 1: 1 if flip else 0, 2: 3}
            for channel, joint in channels.items():
                if not batch.labeled[row, joint]:
                    continue
                mass = batch.image[row, :, :, channel].astype(np.float64)
                index = np.arange(96) + 0.5
                found = np.array([mass.sum(0) @ index, mass.sum(1) @ index]) / mass.sum() / 96
                x, y = batch.keypoints[row, joint]
                if min(x, y, 1 - x, 1 - y) > 0.15:  # the whole dot is in the crop
                    np.testing.assert_allclose(found, (x, y), atol=0.1 / 96 * 2)
    assert 5 < mirrored < 27


def test_crop_to_image_leads_back_to_the_annotation():
    (batch,) = take(training([(PEOPLE, 1.0)]), 1)
    for row, index in enumerate(batch.index):
        back = apply_affine(batch.crop_to_image[row], batch.keypoints[row].astype(float))
        flip = np.linalg.det(batch.crop_to_image[row][:, :2]) < 0
        truth = PEOPLE.source[index]["keypoints"][[0, 2] if flip else [2, 0]]
        seen = batch.labeled[row, :2]
        np.testing.assert_allclose(back[:2][seen], truth[seen], atol=1e-4)


def test_each_split_may_have_its_own_rule():
    splits = [(split_of(4), 1.0), (split_of(4, first=4), 1.0)]
    rules = [CropRule("scale", 1.0), CropRule("scale", 2.0)]
    for batch in take(training(splits, rule=rules, augmentation=Augmentation()), 2):
        for index, matrix in zip(batch.index, batch.crop_to_image, strict=True):
            enlargement = 1.0 if index < 4 else 2.0
            np.testing.assert_allclose(matrix[0, 0], enlargement * person(index)["scale"])


def test_masks():
    splits = [(PEOPLE._replace(annotated=(True, True, False, True)), 1.0)]
    batch = take(training(splits, augmentation=Augmentation()), 1)[0]
    # left_wrist is not annotated, pelvis does not exist, right_ankle is known not to be labeled.
    assert (batch.known == [False, True, False, True, True]).all()
    assert (batch.labeled[:, 2:] == [False, True, False]).all()
    assert not batch.keypoints[~batch.labeled].any()


def test_mirrored_masks_follow_the_person():
    """Where only left wrists are annotated, a mirrored person's right one is."""
    splits = [(PEOPLE._replace(annotated=(False, True, True, True)), 1.0)]
    for batch in take(training(splits), 4):
        flips = np.linalg.det(batch.crop_to_image[..., :2]) < 0
        np.testing.assert_array_equal(batch.known[:, 0], ~flips)
        np.testing.assert_array_equal(batch.known[:, 1], flips)


def test_images_without_people_train_the_joints_that_others_label():
    joints = ("right_wrist", "upper_neck", "pelvis", "left_wrist")
    annotated = PEOPLE._replace(annotated=(True, True, False, True))
    backgrounds = split_of(5, name="backgrounds")._replace(joints=joints, has_people=False)
    splits = [(annotated, 1.0), (backgrounds, 1.0)]
    np.testing.assert_array_equal(labeled_joints(splits, NETWORK), [False, True, False, True, True])
    batches = take(training(splits), 4)
    absent = np.concatenate([b.known[b.index >= 11] for b in batches])
    assert len(absent) == 5  # left_wrist and pelvis are labeled nowhere, they lack the ankle
    assert (absent == [False, True, False, True, False]).all()


def test_joints_outside_the_crop_are_not_labeled_but_known():
    narrow = CropRule("scale", 0.3)
    batches = take(training([(PEOPLE, 1.0)], rule=narrow), 4)
    keypoints = np.concatenate([b.keypoints for b in batches])
    labeled = np.concatenate([b.labeled for b in batches])
    assert 0 < labeled[:, [0, 1, 3]].sum() < labeled[:, [0, 1, 3]].size
    assert (keypoints[labeled] >= 0).all() and (keypoints[labeled] <= 1).all()
    assert all(b.known[:, [0, 1, 3]].all() for b in batches)


def test_an_epoch_holds_everyone_once_and_the_next_in_another_order():
    splits = [(split_of(5), 1.0), (split_of(7, first=5), 1.0)]
    assert steps_per_epoch(splits, 4) == 3
    batches = take(training(splits), 6)
    first, second = np.concatenate([b.index for b in batches]).reshape(2, 12)
    assert sorted(first) == sorted(second) == list(range(12))
    assert (first != second).any()


def test_same_person_differs_between_epochs_and_draws():
    batches = take(training([(split_of(2), 2.0)]), 2)
    crops = {b.image[row].tobytes() for b in batches for row in range(4) if b.index[row] == 0}
    assert len(crops) == 4


def test_weights_are_mean_draws():
    sizes, weights = (10, 7, 4), (1.0, 2.4, 0.5)
    counts = []
    for epoch in range(300):
        index, draw = epoch_draws(sizes, weights, 1, epoch)
        assert len(index) == 10 + (14 + 3) + 2
        assert len(set(zip(index.tolist(), draw.tolist(), strict=True))) == len(index)
        counts.append(np.bincount(index, minlength=21))
    counts = np.array(counts)
    assert (counts[:, :10] == 1).all() and counts[:, 10:17].min() == 2 and counts.max() == 3
    np.testing.assert_allclose(counts[:, 10:17].mean(0), 2 + 3 / 7, atol=0.12)
    np.testing.assert_allclose(counts[:, 17:].mean(0), 0.5, atol=0.12)


def test_draws_of_one_person_are_numbered_from_zero():
    index, draw = epoch_draws((6,), (2.5,), 0, 0)
    for person_index in range(6):
        mine = sorted(draw[index == person_index])
        assert mine == list(range(len(mine)))


def test_seeds_differ():
    a, b = (take(training([(PEOPLE, 1.0)], seed=seed), 1)[0] for seed in (3, 4))
    assert (a.index != b.index).any()


@pytest.mark.parametrize("start", [1, 2, 3, 7])
def test_resuming_gives_the_same_batches(start):
    splits = [(PEOPLE, 1.5)]
    whole = take(training(splits), start + 2)
    assert_same(take(training(splits, start_step=start), 2), whole[start:])


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_batch(count):
    whole = take(training([(PEOPLE, 1.0)]), 3)
    shares = [
        take(training([(PEOPLE, 1.0)], process_index=i, process_count=count), 3)
        for i in range(count)
    ]
    joined = [
        jax.tree.map(lambda *parts: np.concatenate(parts), *(share[step] for share in shares))
        for step in range(3)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 7, 8])
def test_evaluation_counts_everyone_once(count, size):
    shares = [
        list(
            evaluation_batches(
                split_of(size),
                joints=NETWORK,
                image_size=32,
                batch_size=4,
                rule=IMAGE_RULE,
                process_index=i,
                process_count=count,
            )
        )
        for i in range(count)
    ]
    assert {len(share) for share in shares} == {-(-size // 4)}
    rows = [
        (int(index), float(weight))
        for share in shares
        for batch in share
        for index, weight in zip(batch.index, batch.weight, strict=True)
    ]
    assert sorted(i for i, _ in rows if i >= 0) == list(range(size))
    assert all(weight == (index >= 0) for index, weight in rows)


def test_padding_is_black_unknown_and_readable():
    (batch,) = evaluation_batches(
        split_of(1), joints=NETWORK, image_size=32, batch_size=3, rule=IMAGE_RULE
    )
    assert batch.image[0].any() and not batch.image[1:].any()
    assert batch.readable.all() and not batch.known[1:].any()
    assert not batch.labeled[1:].any()


def test_evaluation_crop_of_the_image_is_padded_to_a_square():
    (batch,) = evaluation_batches(
        split_of(1), joints=NETWORK, image_size=64, batch_size=1, rule=IMAGE_RULE
    )
    _, _, width, height = person(0)["box"]
    side = max(width, height)
    expected = [[side, 0, (width - side) / 2], [0, side, (height - side) / 2]]
    np.testing.assert_allclose(batch.crop_to_image[0], expected)


@pytest.mark.parametrize("broken", [b"", b"no image", person(3)["image"][:300]])
def test_unreadable_image_is_named_and_weighs_nothing(broken):
    people = [person(i) for i in range(4)]
    people[2]["image"] = broken
    splits = [(split_of(3, name="others"), 1.0), (PEOPLE._replace(source=people), 1.0)]
    batches = take(training(splits, batch_size=7, rule=LSP_RULE), 1)
    (row,) = np.flatnonzero(~batches[0].readable)
    assert example_name(splits, batches[0].index[row]) == "im0002.png (person 2 of people train)"
    assert batches[0].weight.sum() == 6 and batches[0].weight[row] == 0
    for name in ("image", "labeled", "known", "keypoints"):
        assert not getattr(batches[0], name)[row].any()
    assert np.isfinite(batches[0].crop_to_image).all()


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(batch_size=12), "batch_size is 12, more than the 11 persons of an epoch"),
        (
            dict(batch_size=5, process_count=2),
            "batch size 5 is not divisible by the number of processes",
        ),
        (dict(process_index=2, process_count=2), "process_index 2 is out of range"),
        (dict(seed=-1), "seed -1"),
    ],
)
def test_errors_of_arguments(changes, message):
    with pytest.raises(JaxposeError, match=message):
        training([(PEOPLE, 1.0)], **changes)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weight_must_be_positive(weight):
    with pytest.raises(JaxposeError, match="of people train must be positive"):
        training([(PEOPLE, weight)])
