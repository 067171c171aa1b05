"""Batches: the right person in the right row, whatever makes them; masks; whole evaluations."""

import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from jaxpose.augment import Augmentation
from jaxpose.errors import JaxposeError
from jaxpose.geometry import LSP_RULE, PICTURE_RULE, CropRule, apply_affine
from jaxpose.input_pipeline import (
    PreparedSplit,
    annotations,
    epoch_draws,
    evaluation_batches,
    example_name,
    open_split,
    steps_per_epoch,
    train_batches,
)

JOINTS = ("right_wrist", "neck", "left_wrist", "right_ankle")  # of the data set
NETWORK = ("left_wrist", "right_wrist", "pelvis", "upper_neck", "right_ankle")
FULL = Augmentation(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.3)
MILD = Augmentation(rotation=20.0, scale=(0.9, 1.2), flip=True)
PICTURE = CropRule("scale", 1.0)


def person(index, suffix=".png"):
    """A gray picture with a red right wrist, a green left wrist and a blue neck; no ankle."""
    rng = np.random.default_rng(index)
    height, width = rng.integers(60, 90, 2)
    keypoints = rng.uniform(24, 36, (4, 2)).astype(np.float32) + [[-12, 0], [0, -9], [12, 9], [0, 0]]
    image = np.zeros((height, width, 3), np.float64)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for (px, py), channel in zip(keypoints[:3], (0, 2, 1), strict=True):
        blob = np.exp(-((x[None] - px) ** 2 + (y[:, None] - py) ** 2) / (2 * 1.8**2))
        image[..., channel] += 240 * blob
    encoded = cv2.imencode(suffix, np.rint(image[..., ::-1]).astype(np.uint8))[1].tobytes()
    keypoints[3] = 0
    labelled = np.array([True, True, True, False])
    return {
        "image": encoded,
        "image_name": f"im{index:04d}{suffix}".encode(),
        "person": index % 3,
        "keypoints": keypoints.astype(np.float32),
        "labelled": labelled,
        "visible": labelled & [True, False, True, False],
        "box": np.array([0, 0, width, height], np.float32),
        "center": np.array([width / 2, height / 2], np.float32),
        "scale": float(max(width, height)),
        "head_size": 0.0,
        "separated": True,
    }


def split_of(size, name="people", first=0):
    return PreparedSplit(
        name,
        "train",
        [person(first + i) for i in range(size)],
        JOINTS,
        flip_pairs=(("right_wrist", "left_wrist"),),
        annotated=(True, True, True, True),
    )


def training(splits, **changes):
    arguments = dict(
        joints=NETWORK,
        image_size=48,
        batch_size=4,
        rule=PICTURE,
        augmentation=FULL,
        seed=3,
    )
    return train_batches(splits, **{**arguments, **changes})


def take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


PEOPLE = split_of(11)


def test_batch_has_the_documented_arrays():
    (batch,) = take(training([(PEOPLE, 1.0)]), 1)
    assert {name: (a.shape, a.dtype.name) for name, a in batch.items()} == {
        "image": ((4, 48, 48, 3), "uint8"),
        "keypoints": ((4, 5, 2), "float32"),
        "labelled": ((4, 5), "bool"),
        "known": ((4, 5), "bool"),
        "weight": ((4,), "float32"),
        "index": ((4,), "int64"),
        "readable": ((4,), "bool"),
        "crop_to_image": ((4, 2, 3), "float64"),
    }


def test_each_joint_is_where_its_colour_is():
    """Red is the picture's right wrist; where the crop is mirrored, it is the left one."""
    mirrored = 0
    for batch in take(training([(PEOPLE, 1.0)], augmentation=MILD, image_size=96), 8):
        for row in range(4):
            flip = np.linalg.det(batch["crop_to_image"][row][:, :2]) < 0
            mirrored += flip
            channels = {0: 0 if flip else 1, 1: 1 if flip else 0, 2: 3}
            for channel, joint in channels.items():
                if not batch["labelled"][row, joint]:
                    continue
                mass = batch["image"][row, :, :, channel].astype(np.float64)
                index = np.arange(96) + 0.5
                found = np.array([mass.sum(0) @ index, mass.sum(1) @ index]) / mass.sum() / 96
                x, y = batch["keypoints"][row, joint]
                if min(x, y, 1 - x, 1 - y) > 0.15:  # the whole dot is in the crop
                    np.testing.assert_allclose(found, (x, y), atol=0.1 / 96 * 2)
    assert 5 < mirrored < 27


def test_crop_to_image_leads_back_to_the_annotation():
    (batch,) = take(training([(PEOPLE, 1.0)]), 1)
    for row, index in enumerate(batch["index"]):
        back = apply_affine(batch["crop_to_image"][row], batch["keypoints"][row].astype(float))
        flip = np.linalg.det(batch["crop_to_image"][row][:, :2]) < 0
        truth = PEOPLE.source[index]["keypoints"][[0, 2] if flip else [2, 0]]
        seen = batch["labelled"][row, :2]
        np.testing.assert_allclose(back[:2][seen], truth[seen], atol=1e-4)


def test_masks():
    splits = [(PEOPLE._replace(annotated=(True, True, False, True)), 1.0)]
    batch = take(training(splits, augmentation=Augmentation()), 1)[0]
    # left_wrist is not annotated, pelvis does not exist, right_ankle is known not to be labelled.
    assert (batch["known"] == [False, True, False, True, True]).all()
    assert (batch["labelled"][:, 2:] == [False, True, False]).all()
    assert not batch["keypoints"][~batch["labelled"]].any()


def test_joints_outside_the_crop_are_not_labelled_but_known():
    narrow = CropRule("scale", 0.3)
    batches = take(training([(PEOPLE, 1.0)], rule=narrow), 4)
    keypoints = np.concatenate([b["keypoints"] for b in batches])
    labelled = np.concatenate([b["labelled"] for b in batches])
    assert 0 < labelled[:, [0, 1, 3]].sum() < labelled[:, [0, 1, 3]].size
    assert (keypoints[labelled] >= 0).all() and (keypoints[labelled] <= 1).all()
    assert all(b["known"][:, [0, 1, 3]].all() for b in batches)


def test_an_epoch_holds_everyone_once_and_the_next_in_another_order():
    splits = [(split_of(5), 1.0), (split_of(7, first=5), 1.0)]
    assert steps_per_epoch(splits, 4) == 3
    batches = take(training(splits), 6)
    first, second = (np.concatenate([b["index"] for b in part]) for part in (batches[:3], batches[3:]))
    assert sorted(first) == sorted(second) == list(range(12))
    assert (first != second).any()


def test_same_person_differs_between_epochs_and_draws():
    batches = take(training([(split_of(2), 2.0)]), 2)
    looks = {b["image"][row].tobytes() for b in batches for row in range(4) if b["index"][row] == 0}
    assert len(looks) == 4


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
    assert (a["index"] != b["index"]).any()


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
        {name: np.concatenate([share[step][name] for share in shares]) for name in whole[0]}
        for step in range(3)
    ]
    assert_same(joined, whole)


def test_worker_processes_give_the_same_batches_and_end():
    splits = [(PEOPLE, 1.5)]
    expected = take(training(splits, start_step=2), 5)
    batches = training(splits, start_step=2, workers=2)
    assert_same([next(batches) for _ in range(5)], expected)
    workers = _worker_pids()
    assert len(workers) == 2
    batches.close()
    assert not _worker_pids()
    with pytest.raises(StopIteration):
        next(batches)


def _worker_pids():
    import multiprocessing

    return [p.pid for p in multiprocessing.active_children() if p.pid]


@pytest.mark.slow
def test_killed_workers_are_started_again():
    expected = take(training([(PEOPLE, 1.0)]), 30)
    batches = training([(PEOPLE, 1.0)], workers=2)
    ours = [next(batches) for _ in range(4)]
    os.kill(_worker_pids()[0], signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="worker was killed"):
        ours += [next(batches) for _ in range(26)]
    batches.close()
    assert_same(ours, expected)
    assert not _worker_pids()


def test_no_threads_are_left():
    before = set(threading.enumerate())
    take(training([(PEOPLE, 1.0)]), 2)
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


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
                rule=PICTURE_RULE,
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
        for index, weight in zip(batch["index"], batch["weight"], strict=True)
    ]
    assert sorted(i for i, _ in rows if i >= 0) == list(range(size))
    assert all(weight == (index >= 0) for index, weight in rows)


def test_padding_is_black_unknown_and_readable():
    (batch,) = evaluation_batches(
        split_of(1), joints=NETWORK, image_size=32, batch_size=3, rule=PICTURE_RULE
    )
    assert batch["image"][0].any() and not batch["image"][1:].any()
    assert batch["readable"].all() and not batch["known"][1:].any()
    assert not batch["labelled"][1:].any()


def test_evaluation_crop_of_the_picture_is_padded_to_a_square():
    (batch,) = evaluation_batches(
        split_of(1), joints=NETWORK, image_size=64, batch_size=1, rule=PICTURE_RULE
    )
    _, _, width, height = person(0)["box"]
    side = max(width, height)
    corner = ((width - side) / 2, (height - side) / 2)
    np.testing.assert_allclose(batch["crop_to_image"][0], [[side, 0, corner[0]], [0, side, corner[1]]])


@pytest.mark.parametrize("broken", [b"", b"no picture", person(3)["image"][:300]])
def test_unreadable_picture_is_named_and_weighs_nothing(broken):
    people = [person(i) for i in range(4)]
    people[2]["image"] = broken
    splits = [(split_of(3, name="others"), 1.0), (PEOPLE._replace(source=people), 1.0)]
    batches = take(training(splits, batch_size=7, rule=LSP_RULE), 1)
    (row,) = np.flatnonzero(~batches[0]["readable"])
    assert example_name(splits, batches[0]["index"][row]) == "im0002.png (person 2 of people train)"
    assert batches[0]["weight"].sum() == 6 and batches[0]["weight"][row] == 0
    for name in ("image", "labelled", "known", "keypoints"):
        assert not batches[0][name][row].any()
    assert np.isfinite(batches[0]["crop_to_image"]).all()


def test_annotations_stack_everything_but_pictures():
    stacked = annotations(PEOPLE)
    assert "image" not in stacked
    assert stacked["keypoints"].shape == (11, 4, 2) and stacked["scale"].dtype == np.float32
    assert stacked["image_name"][10] == "im0010.png" and stacked["person"].tolist()[:4] == [0, 1, 2, 0]


def test_annotations_by_the_networks_joints():
    stacked = annotations(PEOPLE, NETWORK)
    own = annotations(PEOPLE)
    np.testing.assert_array_equal(stacked["keypoints"][:, 1], own["keypoints"][:, 0])
    np.testing.assert_array_equal(stacked["keypoints"][:, 3], own["keypoints"][:, 1])
    assert not stacked["labelled"][:, 2].any() and not stacked["keypoints"][:, 2].any()
    assert stacked["labelled"].dtype == bool


class _Gone:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise OSError("file gone\nmore of it")


def test_files_deleted_during_training_end_in_one_line():
    batches = training([(PEOPLE._replace(source=_Gone()), 1.0)])
    with pytest.raises(JaxposeError, match=r"cannot be read \(file gone\); are its files") as caught:
        next(batches)
    batches.close()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(batch_size=12), "11 persons an epoch, fewer than one batch of 12"),
        (dict(batch_size=5, process_count=2), "batch size 5 does not divide among 2 processes"),
        (dict(process_index=2, process_count=2), "process 2 is none of 2"),
        (dict(seed=-1), "seed -1"),
    ],
)
def test_errors_of_arguments(changes, message):
    with pytest.raises(JaxposeError, match=message):
        training([(PEOPLE, 1.0)], **changes)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weight_must_be_positive(weight):
    with pytest.raises(JaxposeError, match="of people train is not a positive number"):
        training([(PEOPLE, weight)])


def test_data_set_that_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(JaxposeError) as caught:
        open_split("lsp/person_centric", "train", data_dir=str(tmp_path))
    assert f"run: python -m tfds_builders lsp --source PATH --data_dir {tmp_path}" in str(caught.value)


def test_missing_configuration_is_named(tmp_path):
    folder = tmp_path / "lsp" / "person_centric" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(JaxposeError, match="name one: lsp/person_centric"):
        open_split("lsp", "train", data_dir=str(tmp_path))
    with pytest.raises(JaxposeError, match="is not a whole prepared data set"):
        open_split("lsp/person_centric", "train", data_dir=str(tmp_path))
