"""The estimator: what must not matter does not, and bad input gets one line."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet, initial_variables
from jaxpose.predict import PoseEstimator, as_picture
from jaxpose.skeleton import LSP, MPII, flip_permutation

SIZE = 64
NETWORK = {
    "num_joints": 16, "num_blocks": 1, "num_context_maps": 2, "alpha": 0.8, "width": 18,
    "kernel_size": 5, "grid": "half_pixel", "temperature": 1.0,
}  # fmt: skip
METADATA = {
    "network": NETWORK,
    "joints": list(MPII.joints),
    "flip_pairs": [list(pair) for pair in MPII.flip_pairs],
    "limbs": [list(pair) for pair in MPII.limbs],
    "trained_joints": list(MPII.joints),
    "image_size": SIZE,
    "crop": {"source": "joints", "enlargement": 1.25, "shift": 0.0},
}


@pytest.fixture(scope="module")
def estimator():
    variables = initial_variables(PoseNet(**NETWORK), 0)
    # Sharper maps than fresh ones: else every answer is the crop's middle and nothing is tested.
    variables["params"]["block1_b"]["heatmaps"] *= 1000.0
    return PoseEstimator(variables, METADATA)


@pytest.fixture(scope="module")
def picture():
    small = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((180, 240), Image.BICUBIC))


def test_positions_follow_the_box_of_a_larger_black_picture(estimator, picture):
    box = [[40.0, 50.0, 90.0, 130.0]]
    larger = np.zeros((400, 500, 3), np.uint8)
    larger[70:310, 110:290] = picture
    plain = estimator.predict(picture, box)
    moved = estimator.predict(larger, np.add(box, [[110.0, 70.0, 0.0, 0.0]]))
    assert np.ptp(plain.keypoints, axis=1).max() > 5  # the answers do differ among joints
    np.testing.assert_allclose(moved.keypoints - [110.0, 70.0], plain.keypoints, atol=0.5)


def test_many_boxes_at_once_are_many_calls(estimator, picture):
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(0, 90, (5, 2)), rng.uniform(40, 120, (5, 2))], axis=1)
    together = estimator.predict(picture, boxes)
    for i, box in enumerate(boxes):
        alone = estimator.predict(picture, box[None])
        np.testing.assert_allclose(together.keypoints[i], alone.keypoints[0], atol=1e-4 * 150)
        np.testing.assert_allclose(together.confidence[i], alone.confidence[0], atol=1e-4)


def test_no_box_gives_no_person(estimator, picture):
    assert estimator.predict(picture, []).keypoints.shape == (0, 16, 2)


def test_flip_test_answers_a_mirrored_photo_with_the_mirrored_answer(estimator, picture):
    box = np.array([[30.0, 40.0, 100.0, 150.0]])
    mirrored_box = box.copy()
    mirrored_box[:, 0] = picture.shape[1] - box[:, 0] - box[:, 2]
    plain = estimator.predict(picture, box, flip_test=True)
    mirrored = estimator.predict(
        np.ascontiguousarray(picture[:, ::-1]), mirrored_box, flip_test=True
    )
    back = mirrored.keypoints[:, flip_permutation(MPII.joints)]
    back = back * [-1.0, 1.0] + [picture.shape[1], 0.0]
    np.testing.assert_allclose(back, plain.keypoints, atol=0.1)


def test_photos_are_turned_upright(estimator, picture):
    turned = np.ascontiguousarray(np.rot90(picture))  # shown turned back by its EXIF
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(as_picture(Image.open(file)), picture)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_pictures_of_every_mode_become_rgb(picture, mode):
    grey = Image.fromarray(picture).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert(mode) if mode in ("L", "1", "LA") else Image.fromarray(picture)
        image = image.convert(mode)
    found = as_picture(image)
    assert found.shape == picture.shape and found.dtype == np.uint8
    if mode in ("L", "LA", "I;16"):
        np.testing.assert_allclose(found[..., 0], np.asarray(grey), atol=1)


def test_joints_without_training_are_not_returned(estimator, picture):
    metadata = {**METADATA, "trained_joints": [n for n in MPII.joints if n in LSP.joints[:12]]}
    some = PoseEstimator(estimator._variables, metadata)
    kept = [MPII.joints.index(name) for name in some.joints]
    assert "pelvis" not in some.joints and len(some.joints) == 12
    assert all(set(limb) <= set(some.joints) for limb in some.limbs)
    everything = estimator.predict(picture, [[20, 20, 90, 150]])
    np.testing.assert_array_equal(
        some.predict(picture, [[20, 20, 90, 150]]).keypoints, everything.keypoints[:, kept]
    )


def test_whole_photo_looks_twice(estimator, picture):
    first = estimator.predict(picture, passes=1)
    assert first.boxes.tolist() == [[0.0, 0.0, 180.0, 240.0]]
    second = estimator.predict(picture)
    again = estimator.predict(picture, second.boxes)
    np.testing.assert_allclose(second.keypoints, again.keypoints, atol=1e-3)


@pytest.mark.parametrize(
    "image, boxes, says",
    [
        ("nowhere.jpg", None, "no file nowhere.jpg"),
        (np.zeros((4, 4, 3), np.float32), None, "float32"),
        (np.zeros((0, 4, 3), np.uint8), None, r"\(0, 4, 3\)"),
        (np.zeros((40, 40, 3), np.uint8), [[1, 2, 0, 4]], "no area"),
        (np.zeros((40, 40, 3), np.uint8), [[1, 2, float("nan"), 4]], "no area"),
        (np.zeros((40, 40, 3), np.uint8), [1, 2, 3, 4], "one x, y, width, height"),
        (np.zeros((40, 40, 3), np.uint8), "box", "one x, y, width, height"),
    ],
)
def test_bad_input_is_named(estimator, image, boxes, says):
    with pytest.raises(JaxposeError, match=says):
        estimator.predict(image, boxes)


def test_a_broken_file_is_named(estimator, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    with pytest.raises(JaxposeError, match="broken.jpg cannot be read"):
        estimator.predict(path)


def test_a_checkpoint_round_trip_keeps_the_answers(estimator, picture, tmp_path):
    from jaxpose import checkpoint

    manager = checkpoint.open_manager(tmp_path / "checkpoints" / "best", keep=1)
    variables = {k: jax_to_numpy(v) for k, v in estimator._variables.items()}
    checkpoint.save(manager, 3, variables, {**METADATA, "step": 3}, wait=True)
    checkpoint.finish(manager)
    loaded = PoseEstimator.from_checkpoint(tmp_path)
    box = [[20, 20, 90, 150]]
    np.testing.assert_array_equal(
        loaded.predict(picture, box).keypoints, estimator.predict(picture, box).keypoints
    )


def jax_to_numpy(tree):
    import jax

    return jax.tree.map(lambda x: np.asarray(jnp.asarray(x)), tree)
