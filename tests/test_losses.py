"""Eqs. 7 and 8 against plain NumPy in float64, with every mask that a batch can have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpose
from jaxpose.losses import (
    coordinate_loss,
    euclidean_loss,
    heatmap_divergence,
    masked_count,
    masked_mean,
    oks_loss,
    probability_loss,
    variance_loss,
    wing_loss,
)

BLOCKS, PERSONS, JOINTS = 3, 8, 5


def batch(seed=0):
    """Predictions of K blocks; person 2 has no label, person 5 is padding."""
    rng = np.random.default_rng(seed)
    labeled = rng.random((PERSONS, JOINTS)) < 0.7
    known = rng.random((PERSONS, JOINTS)) < 0.8
    labeled[2] = False
    labeled[5] = known[5] = False
    return {
        "prediction": rng.random((BLOCKS, PERSONS, JOINTS, 2)),
        "target": rng.random((PERSONS, JOINTS, 2)),
        "logit": rng.normal(size=(BLOCKS, PERSONS, JOINTS)) * 5,
        "labeled": labeled,
        "known": known,
    }


def as_float32(arrays):
    return {name: jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else x.dtype)
            for name, x in arrays.items()}  # fmt: skip


def equation_7(prediction, target, mask):
    """Loop by loop, as the paper writes it; summed over the blocks."""
    total = 0.0
    for block in prediction:
        for person in range(len(target)):
            for joint in range(target.shape[1]):
                if mask[person, joint]:
                    d = block[person, joint] - target[person, joint]
                    total += np.abs(d).sum() + (d**2).sum()
    return total / mask.sum()


def equation_8(logit, labeled, mask):
    p = 1 / (1 + np.exp(-logit))
    entropy = -(labeled * np.log(p) + (1 - labeled) * np.log(1 - p))
    return (entropy * mask).sum() / mask.sum()


def test_coordinates_equal_the_equation():
    a, b = batch(), as_float32(batch())
    found = masked_mean(coordinate_loss(b["prediction"], b["target"]), b["labeled"])
    expected = equation_7(a["prediction"], a["target"], a["labeled"])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_probabilities_equal_the_equation():
    a, b = batch(), as_float32(batch())
    found = masked_mean(probability_loss(b["logit"], b["labeled"]), b["known"])
    np.testing.assert_allclose(found, equation_8(a["logit"], a["labeled"], a["known"]), rtol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, -90.0, 0.0, 90.0, 1e4])
def test_entropy_and_its_gradient_are_finite_and_exact(logit):
    for label in (False, True):
        value, slope = jax.value_and_grad(probability_loss)(jnp.float32(logit), label)
        expected = np.logaddexp(0.0, -logit if label else logit)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-30)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(slope, 1 / (1 + np.exp(-logit)) - label, atol=1e-6)


def test_what_the_mask_hides_changes_neither_value_nor_gradient():
    b = as_float32(batch())

    def loss(prediction):
        return masked_mean(coordinate_loss(prediction, b["target"]), b["labeled"])

    spoiled = jnp.where(b["labeled"][..., None], b["prediction"], jnp.nan)
    one, slope = jax.value_and_grad(loss)(b["prediction"])
    other, spoiled_slope = jax.value_and_grad(loss)(jnp.nan_to_num(spoiled, nan=1e9))
    assert one == other == loss(spoiled)
    np.testing.assert_array_equal(slope, spoiled_slope)
    assert (np.asarray(slope)[:, [2, 5]] == 0).all()


@pytest.mark.parametrize(
    "loss",
    [
        coordinate_loss,
        euclidean_loss,
        wing_loss,
        lambda prediction, target: oks_loss(prediction, target, 0.2, jnp.full(3, 0.1)),
        lambda prediction, target: heatmap_divergence(maps_of(prediction), target),
        lambda prediction, target: heatmap_divergence(maps_of(prediction), target, kind="kl"),
    ],
    ids=["coordinate", "euclidean", "wing", "oks", "jensen_shannon", "kl"],
)
@pytest.mark.parametrize("unknown", [np.nan, np.inf, 1e20, np.finfo(np.float32).max])
def test_masked_labels_that_are_not_finite_have_no_gradient(loss, unknown):
    """Behind a network the weights of which all joints share."""
    labeled = jnp.array([True, False, True])
    target = jnp.array([[0.4, 0.7], [unknown, 0.5], [0.1, 0.2]])

    def mean(weights, target, labeled):
        prediction = jnp.array([[0.5, 0.5], [0.2, 0.1], [0.3, 0.3]]) @ weights
        return masked_mean(loss(prediction, target), labeled)

    weights = jnp.array([[1.0, 0.2], [0.1, 0.9]])
    value, slope = jax.value_and_grad(mean)(weights, target, labeled)
    known, known_slope = jax.value_and_grad(mean)(weights, target.at[1].set(0.0), labeled)
    assert value == known and (np.asarray(slope) != 0).all()
    np.testing.assert_array_equal(slope, known_slope)
    assert np.isnan(mean(weights, target.at[1].set(np.nan), jnp.ones(3, bool)))


def maps_of(prediction):
    """Heat maps [J, 4, 4] that depend on the predictions [J, 2]."""
    rows, columns = jnp.arange(4.0)[:, None], jnp.arange(4.0)
    return prediction[:, :1, None] * rows + prediction[:, 1:, None] * columns


@pytest.mark.parametrize("loss", [coordinate_loss, euclidean_loss, wing_loss])
def test_a_prediction_that_is_not_finite_has_no_finite_loss(loss):
    assert np.isnan(loss(jnp.array([jnp.nan, 0.5]), jnp.array([0.5, 0.5])))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_mean_of_many_halves_is_a_half(dtype):
    mean = masked_mean(jnp.full(70_000, 0.5, dtype), jnp.ones(70_000, bool))
    assert mean == 0.5 and mean.dtype == jnp.float32


def test_nobody_labeled_gives_zero():
    value, slope = jax.value_and_grad(masked_mean)(jnp.ones((2, 3)), jnp.zeros((2, 3), bool))
    assert value == 0.0
    assert (np.asarray(slope) == 0).all()


def test_devices_add_up_to_the_whole_batch():
    """Unequal numbers of labels a device: a mean of means would be wrong."""
    b = as_float32(batch())
    weights = jnp.linspace(0.5, 2.0, 2)

    def loss(weights, prediction, target, labeled, axis_name=None):
        return masked_mean(
            coordinate_loss(prediction * weights, target), labeled, axis_name=axis_name
        )

    persons = b["prediction"], b["target"], b["labeled"]
    axes = (1, 0, 0)  # of the persons
    arguments = [
        x.reshape(*x.shape[:axis], 4, PERSONS // 4, *x.shape[axis + 1 :])
        for x, axis in zip(persons, axes, strict=True)
    ]
    share = jax.value_and_grad(functools.partial(loss, axis_name="devices"))
    values, slopes = jax.pmap(share, axis_name="devices", in_axes=(None, *axes))(
        weights, *arguments
    )
    value, slope = jax.value_and_grad(loss)(weights, *persons)
    np.testing.assert_allclose(np.sum(values), value, rtol=1e-6)
    np.testing.assert_allclose(np.sum(slopes, axis=0), slope, rtol=1e-6)


def test_a_part_divides_by_the_count_of_the_whole():
    b = as_float32(batch())
    distance = coordinate_loss(b["prediction"], b["target"])
    count = masked_count(b["labeled"])
    parts = sum(
        masked_mean(distance[:, part], b["labeled"][part], count=count)
        for part in (slice(0, 3), slice(3, 8))
    )
    np.testing.assert_allclose(parts, masked_mean(distance, b["labeled"]), rtol=1e-6)


def test_heatmap_divergence_is_numpys():
    """Against float64 NumPy on rectangular maps, with a target between the cells."""
    rng = np.random.default_rng(4)
    maps, target = 2 * rng.normal(size=(2, 6, 5, 3)), rng.random((2, 3, 2))
    for sigma, temperature in [(1.0, 1.0), (0.7, 2.0)]:
        found = heatmap_divergence(
            jnp.float32(np.moveaxis(maps, -1, 1)),
            jnp.float32(target),
            sigma=sigma,
            temperature=temperature,
        )
        assert found.shape == (2, 3)
        for b, j in np.ndindex(2, 3):
            p = np.exp(maps[b, ..., j] / temperature)
            p /= p.sum()
            x, y = target[b, j] * (5, 6) - 0.5
            columns, rows = np.meshgrid(np.arange(5), np.arange(6))
            q = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
            q /= q.sum()
            m = (p + q) / 2
            expected = ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
            np.testing.assert_allclose(found[b, j], expected, rtol=1e-5)


def test_heatmap_divergence_stays_finite_for_sharp_maps_and_far_targets():
    maps = jnp.zeros((1, 8, 8)).at[0, 0, 0].set(1e4)
    value, slope = jax.value_and_grad(
        lambda maps: heatmap_divergence(maps, jnp.array([[0.95, 0.95]]), sigma=0.2)[0]
    )(maps)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-5)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_strict_promotion_gives_the_same_numbers(dtype):
    rng = np.random.default_rng(0)
    prediction = jnp.asarray(rng.normal(size=(2, 3, 4, 2)), dtype)
    target = rng.normal(size=(3, 4, 2)).astype(np.float32)
    mask = rng.random((3, 4)) < 0.5

    def losses():
        position = coordinate_loss(prediction, target)
        presence = probability_loss(prediction[..., 0], mask)
        return masked_mean(position, mask), masked_mean(presence, mask, count=7)

    expected = losses()
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = losses()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype == jnp.float32
        assert ours == theirs


@pytest.mark.parametrize("loss", [coordinate_loss, euclidean_loss, wing_loss])
def test_no_gradient_at_the_target(loss):
    value, slope = jax.value_and_grad(loss)(jnp.array([0.3, 0.4]), jnp.array([0.3, 0.4]))
    assert value == 0
    assert slope.tolist() == [0, 0]
    assert np.isfinite(jax.hessian(loss)(jnp.zeros(2), jnp.zeros(2))).all()
    one_axis = jax.grad(loss)(jnp.array([0.3, 0.5]), jnp.array([0.3, 0.4]))
    assert one_axis[0] == 0 and one_axis[1] > 0


@pytest.mark.parametrize(
    "mask", [np.ones((2, 1), bool), np.ones((3, 2), bool), np.ones((2, 3)), np.ones((1, 2, 3, 4))]
)
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    """With a mask [B, 1], the sum would be divided by the number of persons."""
    with pytest.raises(ValueError, match="give booleans in the shape of the trailing axes"):
        masked_mean(jnp.ones((4, 2, 3)), mask)


def test_wing_loss_is_continuous_where_its_parts_meet():
    below, above = (wing_loss(jnp.array([x, 0.0]), jnp.zeros(2)) for x in (9.9999, 10.0001))
    np.testing.assert_allclose(below, above, rtol=1e-4)
    np.testing.assert_allclose(
        wing_loss(jnp.array([25.0, 0.0]), jnp.zeros(2)) - above, 15, rtol=1e-4
    )


def test_oks_loss_is_one_minus_coco_s_similarity():
    """Against the expression of COCO's own evaluation, for two persons of three joints."""
    rng = np.random.default_rng(1)
    truth, found = 100 * rng.random((2, 2, 3, 2))
    area, sigmas = np.array([4000.0, 900.0]), np.array([0.026, 0.062, 0.107])
    variances = (2 * sigmas) ** 2
    distance = ((found - truth) ** 2).sum(-1)
    expected = 1 - np.exp(-distance / variances / (area[:, None] + np.spacing(1)) / 2)
    np.testing.assert_allclose(oks_loss(found, truth, area, sigmas), expected, rtol=1e-5)


def test_oks_loss_of_padding_is_finite():
    loss = lambda x: oks_loss(x, jnp.zeros((3, 2)), 0.0, jnp.full(3, 0.05)).sum()  # noqa: E731
    value, slope = jax.value_and_grad(loss)(jnp.array([[0.0, 0.0], [1e-3, 0.0], [50.0, 9.0]]))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("kind", ["jensen_shannon", "kl"])
def test_divergence_vanishes_for_the_gaussian_itself(kind):
    target = jnp.array([0.3, 0.6])
    log_q = jnp.log(jaxpose.gaussian_heatmap(target, (12, 16), 1.5))
    mask = np.random.default_rng(0).random((12, 16)) < 0.7
    for where in (None, mask):
        value = heatmap_divergence(log_q + 7, target, sigma=1.5, kind=kind, where=where)
        np.testing.assert_allclose(value, 0, atol=1e-5)


@pytest.mark.parametrize("kind", ["jensen_shannon", "kl"])
def test_divergence_of_excluded_cells_is_finite(kind):
    heatmap = jnp.zeros((2, 6, 6)).at[:, 2:4].set(-jnp.inf)
    target = jnp.array([[0.5, 0.5], [9.0, -9.0]])
    loss = lambda h: heatmap_divergence(h, target, kind=kind).sum()  # noqa: E731
    value, slope = jax.value_and_grad(loss)(heatmap)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_regularizers_of_volumes_and_lines_are_numpys():
    rng = np.random.default_rng(2)
    for shape in ((9,), (4, 5, 6)):
        options = {"spatial_ndim": len(shape)}
        heatmap, target = rng.normal(size=(2, *shape)), rng.random((2, len(shape)))
        divergence = heatmap_divergence(heatmap, target, kind="kl", sigma=0.8, **options)
        variance = variance_loss(heatmap, sigma=0.8, **options)
        for b in range(2):
            p = np.exp(heatmap[b]) / np.exp(heatmap[b]).sum()
            index = np.meshgrid(*map(np.arange, shape), indexing="ij")[::-1]  # x first
            centers = target[b] * shape[::-1] - 0.5
            q = np.exp(-sum((i - c) ** 2 for i, c in zip(index, centers, strict=True)) / 1.28)
            q /= q.sum()
            np.testing.assert_allclose(divergence[b], (p * np.log(p / q)).sum(), rtol=1e-5)
            spread = [(p * i**2).sum() - (p * i).sum() ** 2 for i in index]
            expected = sum((v - 0.64) ** 2 for v in spread)
            np.testing.assert_allclose(variance[b], expected, rtol=1e-4)


def test_regularizers_are_averaged_over_the_labeled_joints():
    """An unlabeled joint's map changes neither the mean nor its gradient."""
    heatmap = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, 5, 6)), jnp.float32)
    target = jnp.full((2, 3, 2), 0.4)
    labeled = jnp.array([[True, True, False], [False, True, True]])

    def loss(heatmap):
        losses = heatmap_divergence(heatmap, target) + 0.1 * variance_loss(heatmap)
        return masked_mean(losses, labeled)

    value, slope = jax.value_and_grad(loss)(heatmap)
    spoiled = jnp.where(labeled[..., None, None], heatmap, 100 * heatmap)
    other, spoiled_slope = jax.value_and_grad(loss)(spoiled)
    assert value == other
    np.testing.assert_allclose(slope, spoiled_slope, atol=1e-8)
    assert not np.asarray(slope)[~np.asarray(labeled)].any()


def test_an_unknown_kind_of_divergence_is_named():
    with pytest.raises(ValueError, match="kind='js'"):
        heatmap_divergence(jnp.zeros((4, 4)), jnp.zeros(2), kind="js")
