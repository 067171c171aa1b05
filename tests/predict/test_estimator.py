"""The estimator: what must not matter does not, and bad input gets one line."""

import concurrent.futures
import copy
import io
import multiprocessing as mp
import pickle
import threading

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpose import geometry
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import Calibration
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.views import agreed_positions
from jaxpose.predict import PoseEstimator, as_image, search
from jaxpose.predict import estimator as estimator_module
from jaxpose.predict.tracking import follow
from jaxpose.skeleton import LSP, MPII, flip_permutation
from tests.support import small_estimator
from tests.support.small_estimator import METADATA


@pytest.fixture(scope="module")
def estimator():
    return small_estimator.estimator()


@pytest.fixture(scope="module")
def photo():
    small = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((180, 240), Image.BICUBIC))


def test_positions_follow_the_box_of_a_larger_black_image(estimator, photo):
    box = [[40.0, 50.0, 90.0, 130.0]]
    larger = np.zeros((400, 500, 3), np.uint8)
    larger[70:310, 110:290] = photo
    plain = estimator.predict(photo, box)
    moved = estimator.predict(larger, np.add(box, [[110.0, 70.0, 0.0, 0.0]]))
    assert np.ptp(plain.keypoints, axis=1).max() > 5  # the answers do differ among joints
    np.testing.assert_allclose(moved.keypoints - [110.0, 70.0], plain.keypoints, atol=0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_answers_do_not_depend_on_the_exif_orientation(estimator, photo, orientation, tmp_path):
    as_stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: np.rot90,
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(as_stored(photo))).save(path, exif=exif)
    box = [[20, 30, 90, 150]]
    np.testing.assert_array_equal(
        estimator.predict(path, box).keypoints, estimator.predict(photo, box).keypoints
    )


def test_a_jpeg_answers_as_the_png_of_its_pixels(estimator, photo, tmp_path):
    box = [[20, 30, 90, 150]]
    png, jpeg = tmp_path / "photo.png", tmp_path / "photo.jpg"
    Image.fromarray(photo).save(png)
    Image.fromarray(photo).save(jpeg, quality=100, subsampling=0)
    found, again = estimator.predict(png, box), estimator.predict(jpeg, box)
    np.testing.assert_allclose(again.keypoints, found.keypoints, atol=2.0)


def pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))


def test_threads_compile_each_program_once(photo):
    estimator = PoseEstimator(small_estimator.variables(), METADATA)
    alone = small_estimator.estimator().predict(photo, [[20, 30, 90, 150]])
    predictions = []
    look = lambda: predictions.append(estimator.predict(photo, [[20, 30, 90, 150]]))  # noqa: E731
    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(predictions) == 8 and len(estimator._programs) == 1
    for prediction in predictions:
        np.testing.assert_array_equal(prediction.keypoints, alone.keypoints)


def test_sizes_between_powers_of_two_share_a_program(estimator, photo):
    boxes = np.tile([[20.0, 30.0, 90.0, 150.0]], (7, 1))
    for count in (5, 6, 7):
        estimator.predict(photo, boxes[:count])
    sizes = {rows for kind, rows in estimator._programs if kind == "plain"}
    assert sizes <= {1, 2, 4, 8, 16, 32} and 8 in sizes


def test_photos_of_any_size_share_a_program(monkeypatch):
    chex.clear_trace_counter()
    once = chex.assert_max_traces(estimator_module.predict_poses, n=1)
    monkeypatch.setattr(estimator_module, "predict_poses", once)
    estimator = PoseEstimator(small_estimator.variables(), METADATA)
    for height, width in ((80, 120), (300, 64), (81, 81)):
        photo = np.zeros((height, width, 3), np.uint8)
        estimator.predict(photo, [[10, 10, 50, 60]])
        estimator.predict(photo, [[5, 8, 20, 30]], num_crops=1)


def test_maps_are_what_the_answer_was_read_off(estimator, photo):
    box = [20.0, 30.0, 90.0, 150.0]
    maps = estimator.maps(photo, box)
    assert maps.heatmaps.shape == (8, 8, 48)
    found = estimator.predict(photo, [box])
    pixels = geometry.apply_affine(geometry.crop_to_image(maps.crop), maps.keypoints)
    np.testing.assert_allclose(pixels, found.keypoints[0], atol=0.01)
    np.testing.assert_allclose(maps.confidence, found.confidence[0], atol=1e-4)
    of_crop = estimator.maps(photo, maps.crop)
    assert of_crop.crop == maps.crop
    for ours, theirs in zip(of_crop[1:], maps[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


CALIBRATION = Calibration(bias=tuple(np.linspace(-1, 1, 16)), presence=0.3, spread=-1.5)


def test_confidence_follows_from_presence_and_the_spread_of_the_part_map(estimator, photo):
    calibrated = PoseEstimator(
        small_estimator.variables(), METADATA._replace(calibration=CALIBRATION)
    )
    box = [20.0, 30.0, 90.0, 150.0]
    found = calibrated.predict(photo, [box])
    parts = calibrated.maps(photo, box).heatmaps[..., :16].astype(np.float64)
    weights = np.exp(parts - parts.max(axis=(0, 1)))
    weights /= weights.sum(axis=(0, 1))
    y, x = (np.indices((8, 8))[..., None] + 0.5) / 8
    variance = sum(
        (weights * at**2).sum(axis=(0, 1)) - (weights * at).sum(axis=(0, 1)) ** 2 for at in (x, y)
    )
    logits = parts.max(axis=(0, 1))
    linear = CALIBRATION.bias + 0.3 * logits - 1.5 * np.log(np.maximum(variance, 1e-8)) / 2
    np.testing.assert_allclose(found.confidence[0], 1 / (1 + np.exp(-linear)), atol=2e-3)
    np.testing.assert_allclose(found.presence[0], 1 / (1 + np.exp(-logits)), atol=1e-4)
    np.testing.assert_allclose(found.scores, found.confidence.mean(axis=1))
    np.testing.assert_allclose(calibrated.maps(photo, box).confidence, found.confidence[0])


def test_without_a_calibration_the_confidence_is_the_presence(estimator, photo):
    found = estimator.predict(photo, [[20, 30, 90, 150]])
    np.testing.assert_array_equal(found.confidence, found.presence)


def test_the_prediction_names_its_joints(estimator, photo):
    found = estimator.predict(photo, [[20, 30, 90, 150]])
    assert found.joints == estimator.joints == MPII.joints
    dogs = PoseEstimator(small_estimator.variables(), METADATA._replace(category="dog"))
    assert found.category == "person" and dogs.predict(photo, []).category == "dog"
    assert found.keypoints.shape == (1, 16, 2) and found.confidence.shape == (1, 16)


def test_many_boxes_at_once_are_many_calls(estimator, photo):
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(0, 90, (5, 2)), rng.uniform(40, 120, (5, 2))], axis=1)
    together = estimator.predict(photo, boxes)
    for i, box in enumerate(boxes):
        alone = estimator.predict(photo, box[None])
        np.testing.assert_allclose(together.keypoints[i], alone.keypoints[0], atol=1e-4 * 150)
        np.testing.assert_allclose(together.confidence[i], alone.confidence[0], atol=1e-4)


def test_several_crops_are_the_mean_of_the_enlarged_boxes_that_agree(estimator, photo):
    corner, extent = np.array([50.0, 70.0]), np.array([70.0, 110.0])
    boxes = [[*(corner + (1 - size) / 2 * extent), *(size * extent)] for size in (1.0, 0.9, 1.1)]
    several = estimator.predict(photo, boxes[:1], num_crops=3)
    each = estimator.predict(photo, boxes)
    assert np.ptp(each.keypoints, axis=0).max() > 1  # the sizes do differ in their predictions
    side = estimator.crop_of(boxes[0]).side
    agreed = agreed_positions(each.keypoints, each.confidence, side=side)
    np.testing.assert_allclose(several.keypoints[0], agreed, atol=0.02)
    np.testing.assert_allclose(several.confidence[0], each.confidence.mean(axis=0), atol=1e-4)
    np.testing.assert_array_equal(several.boxes, boxes[:1])


def test_no_box_gives_no_person(estimator, photo):
    assert estimator.predict(photo, []).keypoints.shape == (0, 16, 2)


@pytest.mark.parametrize("nothing", [None, [], np.zeros((0, 4))], ids=["None", "list", "array"])
def test_a_detector_that_finds_nobody_starts_no_search(estimator, photo, nothing, monkeypatch):
    for method in ("_find_persons", "_search"):
        monkeypatch.setattr(PoseEstimator, method, None)
    found = estimator.predict(photo, detector=lambda _: nothing)
    assert found.keypoints.shape == (0, 16, 2) and found.boxes.shape == (0, 4)


def test_flip_test_answers_a_mirrored_photo_with_the_mirrored_answer(photo):
    alike = CALIBRATION._replace(bias=(0.0,) * 16)  # left and right have one bias
    metadata = METADATA._replace(calibration=alike)
    estimator = PoseEstimator(small_estimator.variables(), metadata)
    box = np.array([[30.0, 40.0, 100.0, 150.0]])
    mirrored_box = box.copy()
    mirrored_box[:, 0] = photo.shape[1] - box[:, 0] - box[:, 2]
    plain = estimator.predict(photo, box, flip_test=True)
    mirrored = estimator.predict(np.ascontiguousarray(photo[:, ::-1]), mirrored_box, flip_test=True)
    order = flip_permutation(MPII.joints)
    back = mirrored.keypoints[:, order] * [-1.0, 1.0] + [photo.shape[1], 0.0]
    np.testing.assert_allclose(back, plain.keypoints, atol=0.1)
    for name in ("presence", "confidence"):
        ours, theirs = getattr(plain, name), getattr(mirrored, name)
        np.testing.assert_allclose(theirs[:, order], ours, atol=2e-3)
        assert np.abs(theirs - ours).max() > 0.01  # left and right do differ


def test_photos_are_turned_upright(estimator, photo):
    turned = np.ascontiguousarray(np.rot90(photo))  # shown turned back by its EXIF
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(as_image(Image.open(file)), photo)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_images_of_every_mode_become_rgb(photo, mode):
    gray = Image.fromarray(photo).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    else:
        image = gray.convert(mode) if mode in ("L", "1", "LA") else Image.fromarray(photo)
        image = image.convert(mode)
    found = as_image(image)
    assert found.shape == photo.shape and found.dtype == np.uint8
    if mode in ("L", "LA", "I;16"):
        np.testing.assert_allclose(found[..., 0], np.asarray(gray), atol=1)


def test_joints_without_training_are_not_returned(estimator, photo):
    trained = tuple(name for name in MPII.joints if name in LSP.joints[:12])
    metadata = METADATA._replace(trained_joints=trained)
    some = PoseEstimator(small_estimator.variables(), metadata)
    kept = [MPII.joints.index(name) for name in some.joints]
    assert "pelvis" not in some.joints and len(some.joints) == 12
    assert all(set(limb) <= set(some.joints) for limb in some.limbs)
    everything = estimator.predict(photo, [[20, 20, 90, 150]])
    np.testing.assert_array_equal(
        some.predict(photo, [[20, 20, 90, 150]]).keypoints, everything.keypoints[:, kept]
    )


def test_found_persons_come_best_first(estimator, photo):
    found = estimator.predict(photo, min_score=0.0)
    assert len(found.scores) and (np.diff(found.scores) <= 0).all()
    np.testing.assert_array_equal(found.image, photo)


@pytest.mark.parametrize("limit", [float("nan"), 1.5])
def test_a_minimum_score_that_no_person_reaches_is_refused(limit, estimator, photo):
    with pytest.raises(JaxposeError, match=f"min_score is {limit}"):
        estimator.predict(photo, min_score=limit)


@pytest.mark.parametrize("function", [PoseEstimator.predict, follow])
def test_docstrings_name_the_default_minimum_score(function):
    assert f"The default is {search.MIN_SCORE}" in " ".join(function.__doc__.split())


def test_poses_that_the_search_finds_are_those_in_their_boxes(photo):
    metadata = METADATA._replace(category="dog")  # the finder finds persons only
    estimator = PoseEstimator(small_estimator.variables(), metadata)
    found = estimator.predict(photo, min_score=0.0)
    assert len(found.scores) and (np.diff(found.scores) <= 0).all()
    again = estimator.predict(photo, found.boxes)
    np.testing.assert_allclose(found.keypoints, again.keypoints, atol=0.05)
    np.testing.assert_array_equal(found.image, photo)


def test_limits_hold_for_given_boxes_and_for_those_of_a_detector(estimator, photo):
    boxes = [[20, 30, 90, 150], [60, 30, 90, 150], [10, 60, 60, 90]]
    scores = estimator.predict(photo, boxes).scores
    assert len(set(scores.tolist())) == 3
    order = np.argsort(-scores)
    for limits, left in (
        ({}, 3),
        ({"max_persons": 2}, 2),
        ({"min_score": scores[order[0]] - 1e-4}, 1),
        ({"min_score": 1.0}, 0),
    ):
        given = estimator.predict(photo, boxes, **limits)
        detected = estimator.predict(photo, detector=lambda _: boxes, **limits)
        np.testing.assert_array_equal(given.boxes, np.take(boxes, np.sort(order[:left]), axis=0))
        np.testing.assert_array_equal(detected.boxes, np.take(boxes, order[:left], axis=0))


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, pickled], ids=["deep", "flat", "pickle"]
)
def test_copies_answer_as_the_original(estimator, photo, copied, used):
    """Before and after it has compiled programs, which are not copied."""
    original = PoseEstimator(small_estimator.variables(), METADATA)
    box = [[20, 30, 90, 150]]
    if used:
        original.predict(photo, box)
    other = copied(original)
    assert other._programs == {} and len(original._programs) == used
    assert (other.joints, other.limbs, other.net) == (original.joints, original.limbs, original.net)
    expected = estimator.predict(photo, box)
    np.testing.assert_array_equal(other.predict(photo, box).keypoints, expected.keypoints)
    np.testing.assert_array_equal(original.predict(photo, box).keypoints, expected.keypoints)


def predicted_elsewhere(estimator, photo):
    return estimator.predict(photo, [[20, 30, 90, 150]]).keypoints


def test_a_spawned_process_takes_an_estimator(estimator, photo):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
        found = pool.submit(predicted_elsewhere, estimator, photo).result(timeout=120)
    np.testing.assert_array_equal(found, predicted_elsewhere(estimator, photo))


def made_elsewhere(_, photo):
    return small_estimator.estimator.__wrapped__().predict(photo)


def loaded_elsewhere(_, photo):
    return PoseEstimator.from_pretrained().predict(photo)


@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.parametrize("use", [predicted_elsewhere, made_elsewhere, loaded_elsewhere])
def test_a_forked_process_gets_one_line_and_does_not_wait(estimator, photo, use):
    def child(pipe):
        try:
            pipe.send(use(estimator, photo))
        except JaxposeError as error:
            pipe.send(str(error))

    ours, theirs = mp.Pipe()
    process = mp.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    try:
        assert ours.poll(60)
        assert "forked after JAX was used" in ours.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_pool_hands_the_error_on(estimator, photo):
    with mp.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(predicted_elsewhere, (estimator, photo))
        with pytest.raises(JaxposeError, match="forked after JAX was used"):
            result.get(timeout=60)


class Tensor:
    """As other libraries have it: NumPy can read it, or it lies on a device."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        if self.array is None:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.array


@pytest.mark.parametrize("kind", [jnp.asarray, Tensor])
def test_arrays_of_other_libraries_are_taken(estimator, photo, kind):
    box = [[20, 30, 90, 150]]
    np.testing.assert_array_equal(
        estimator.predict(kind(photo), box).keypoints, estimator.predict(photo, box).keypoints
    )


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (io.BytesIO(b"data"), r"a _io.BytesIO; give a path, a PIL image or an array"),
        (b"data", r"is a bytes; give a path.*PIL.Image.open\(io.BytesIO\(data\)\)"),
        (bytearray(b"data"), "is a bytearray; give a path"),
        ([np.zeros((4, 4, 3), np.uint8)], "is a list; call this once for each image"),
        (("a.jpg",), "is a tuple; call this once for each image"),
        (None, "is a NoneType; give a path"),
        (7, "is a int; give a path"),
        (Tensor(None), "Tensor that NumPy cannot read; give an array in the CPU's memory"),
        (jnp.zeros((3, 4, 4), jnp.uint8), r"uint8 \(3, 4, 4\); give uint8 \[height, width, 3\]"),
    ],
)
def test_what_is_not_an_image_is_named(estimator, image, says):
    with pytest.raises(JaxposeError, match=says) as raised:
        estimator.predict(image)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "image, boxes, says",
    [
        ("nowhere.jpg", None, "no file nowhere.jpg"),
        (np.zeros((4, 4, 3), np.float32), None, "float32"),
        (np.zeros((0, 4, 3), np.uint8), None, r"\(0, 4, 3\)"),
        (np.zeros((40, 40, 3), np.uint8), [[1, 2, 0, 4]], "no area"),
        (np.zeros((40, 40, 3), np.uint8), [[1, 2, float("nan"), 4]], "no area"),
        (np.zeros((40, 40, 3), np.uint8), [[50, 2, 3, 4]], "50,2,3,4 lies outside.*40x40"),
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


def test_a_heic_image_is_told_apart(estimator, tmp_path):
    path = tmp_path / "photo.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(JaxposeError, match="photo.HEIC is a HEIC image; convert it to JPEG"):
        estimator.predict(path)


def test_a_network_that_is_not_shipped_is_named():
    with pytest.raises(JaxposeError, match="ships no network 'huge'"):
        PoseEstimator.from_pretrained("huge")


def test_a_checkpoint_round_trip_keeps_the_answers(estimator, photo, tmp_path):
    manager = store.open_manager(tmp_path / "checkpoints" / "best", keep=1)
    store.save(manager, 3, small_estimator.variables(), METADATA, wait=True)
    store.finish(manager)
    loaded = PoseEstimator.from_checkpoint(tmp_path)
    assert loaded.source == tmp_path / "checkpoints" / "best" / "3"
    box = [[20, 20, 90, 150]]
    np.testing.assert_array_equal(
        loaded.predict(photo, box).keypoints, estimator.predict(photo, box).keypoints
    )
