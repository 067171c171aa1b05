import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jaxpose.heatmaps import (
    aggregate_context,
    convert_grid,
    joint_logit,
    joint_probability,
    local_soft_argmax,
    soft_argmax,
    soft_argmax_with_covariance,
    spatial_expectation,
    spatial_log_softmax,
    spatial_softmax,
)

RNG = np.random.default_rng(0)
RANDOM = RNG.normal(0, 3, (3, 4, 5, 7))


def grid_of(name, size):
    index = np.arange(size, dtype=np.float64)
    table = {"half_pixel": (index + 0.5) / size, "paper": (index + 1) / size}
    return table[name] if name in table else index / (size - 1)


def softmax(heatmap, temperature=1.0):
    z = np.asarray(heatmap, np.float64) / temperature
    e = np.exp(z - z.max((-2, -1), keepdims=True))
    return e / e.sum((-2, -1), keepdims=True)


def reference(heatmap, temperature=1.0, grid="half_pixel"):
    """Equations 1 to 4 in NumPy, in float64."""
    p = softmax(heatmap, temperature)
    x = (p.sum(-2) * grid_of(grid, p.shape[-1])).sum(-1)
    y = (p.sum(-1) * grid_of(grid, p.shape[-2])).sum(-1)
    return np.stack([x, y], -1)


def gradient(heatmap, cotangent):
    """softmax * (grid - result), for one map and one cotangent (x, y)."""
    p, (x, y) = softmax(heatmap), reference(heatmap)
    columns, rows = grid_of("half_pixel", p.shape[1]), grid_of("half_pixel", p.shape[0])[:, None]
    return p * (cotangent[0] * (columns - x) + cotangent[1] * (rows - y))


def one_hot(row, column, height=6, width=9, peak=1e4):
    heatmap = np.zeros((height, width))
    heatmap[row, column] = peak
    return heatmap


MAPS = {
    "random": RANDOM,
    "corners": np.stack([one_hot(r, c) for r in (0, -1) for c in (0, -1)]),
    "moderate corners": np.stack([one_hot(r, c, peak=6.0) for r in (0, -1) for c in (0, -1)]),
    "huge logits": np.where(RNG.random((8, 6, 6)) < 0.5, -1e4, 1e4) + RNG.normal(size=(8, 6, 6)),
    "huge below": RNG.normal(size=(2, 5, 6)) - 1e4,
    "constant": np.full((2, 4, 6), -7.25),
    "one cell": np.zeros((2, 1, 1)),
    "one row": RNG.normal(size=(2, 1, 6)),
}


@pytest.mark.parametrize("maps", MAPS)
def test_equals_the_equations_in_float64(maps):
    heatmap = MAPS[maps].astype(np.float32)
    np.testing.assert_allclose(soft_argmax(heatmap), reference(heatmap), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", ["align_corners", "paper"])
@pytest.mark.parametrize("maps", ["random", "corners", "huge logits"])
def test_other_grids_equal_the_equations_in_float64(maps, grid):
    heatmap = MAPS[maps].astype(np.float32)
    np.testing.assert_allclose(
        soft_argmax(heatmap, grid=grid), reference(heatmap, grid=grid), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", [8, 32, 64])
def test_float32_sums_do_not_drift(size):
    """A peak and many small weights: a running sum over all cells would be 2e-5 off."""
    peaks = np.linspace(0.5, 14, 10)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        maps = np.stack([one_hot(*corner, size, size, peak) for peak in peaks])
        for heatmap in (maps, maps[4]):
            np.testing.assert_allclose(soft_argmax(heatmap), reference(heatmap), rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 30.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_temperature_divides_the_logits(temperature, offset):
    heatmap = (RANDOM + offset).astype(np.float32)
    np.testing.assert_allclose(
        soft_argmax(heatmap, temperature=temperature),
        reference(heatmap, temperature),
        rtol=0,
        atol=1e-6,
    )


def test_align_corners_of_a_single_cell_is_its_edge():
    assert soft_argmax(jnp.zeros((1, 1)), grid="align_corners").tolist() == [0.0, 0.0]


def test_order_is_x_then_y():
    x, y = soft_argmax(one_hot(row=1, column=7))
    assert np.isclose(x, 7.5 / 9)
    assert np.isclose(y, 1.5 / 6)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        result = soft_argmax(jnp.asarray(RANDOM))
        assert result.dtype == jnp.float64
        np.testing.assert_allclose(result, reference(RANDOM), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_small_floats_are_summed_in_float32(dtype):
    heatmap = jnp.asarray(RNG.normal(size=(2, 64, 64)), dtype)
    result = soft_argmax(heatmap)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, reference(np.float64(heatmap)), rtol=0, atol=1e-6)


def test_bfloat16_is_stable_at_huge_logits():
    heatmap = jnp.asarray([[-1e4, 1e4], [1e4, -1e4]], jnp.bfloat16)
    assert soft_argmax(heatmap).tolist() == [0.5, 0.5]
    assert jax.grad(lambda h: soft_argmax(h).sum())(heatmap).dtype == jnp.bfloat16


def test_integers_are_logits_too():
    np.testing.assert_allclose(
        soft_argmax(jnp.array([[0, 3], [1, 2]])), reference([[0, 3], [1, 2]]), atol=1e-6
    )


def test_masked_cells_take_no_part():
    heatmap = jnp.asarray(RANDOM[0, 0]).at[:, 3:].set(-jnp.inf)
    narrow = reference(RANDOM[0, 0, :, :3])
    np.testing.assert_allclose(soft_argmax(heatmap), narrow * [3 / 7, 1], atol=1e-6)
    slope = jax.grad(lambda h: soft_argmax(h)[0])(heatmap)
    assert np.isfinite(slope).all()
    assert not slope[:, 3:].any()


# Derivatives

ONE = RANDOM[1, 2].astype(np.float32)
COTANGENT = np.array([0.7, -1.3])


def scalar(heatmap):
    return soft_argmax(heatmap) @ jnp.asarray(COTANGENT, jnp.float32)


def test_gradient_is_softmax_times_distance():
    np.testing.assert_allclose(jax.grad(scalar)(ONE), gradient(ONE, COTANGENT), atol=1e-6)


def test_gradient_at_huge_logits():
    heatmap = MAPS["huge logits"][0].astype(np.float32)
    np.testing.assert_allclose(jax.grad(scalar)(heatmap), gradient(heatmap, COTANGENT), atol=1e-6)


def test_both_modes_agree_with_the_closed_form():
    rows = np.stack([gradient(ONE, unit) for unit in np.eye(2)])
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(soft_argmax))(ONE), rows, atol=1e-6)
    step = RNG.normal(size=ONE.shape).astype(np.float32)
    _, change = jax.jvp(soft_argmax, (ONE,), (step,))
    np.testing.assert_allclose(change, (rows * step).sum((1, 2)), atol=1e-6)


def hessian_of_x(heatmap):
    """d2x / dz_a dz_b = p_a (X_a - x) [a = b] - p_a p_b (X_a - x + X_b - x)."""
    p, (x, _) = softmax(heatmap), reference(heatmap)
    away = np.broadcast_to(grid_of("half_pixel", p.shape[1]) - x, p.shape).ravel()
    p = p.ravel()
    both = np.diag(p * away) - np.outer(p, p) * (away[:, None] + away)
    return both.reshape(2 * heatmap.shape)


@pytest.mark.parametrize(
    "second",
    [jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacrev(jax.jacfwd(f))],
    ids=["forward over reverse", "reverse over reverse", "reverse over forward"],
)
def test_second_derivatives_are_exact(second):
    result = jax.jit(second(lambda h: soft_argmax(h)[0]))(ONE)
    np.testing.assert_allclose(result, hessian_of_x(ONE), atol=1e-6)


def test_vmap_of_hessian():
    result = jax.jit(jax.vmap(jax.hessian(lambda h: soft_argmax(h)[0])))(
        RANDOM[0].astype(np.float32)
    )
    np.testing.assert_allclose(result, [hessian_of_x(h) for h in RANDOM[0]], atol=1e-6)


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_derivatives_agree_with_differences(mode):
    with jax.enable_x64(True):
        check_grads(jax.jit(soft_argmax), (jnp.asarray(RANDOM[0]),), order=2, modes=[mode])


def test_temperature_may_be_traced_and_learned():
    with jax.enable_x64(True):
        read = jax.jit(lambda h, t: soft_argmax(h, temperature=t))
        check_grads(read, (jnp.asarray(RANDOM[0]), jnp.asarray(0.6)), order=1)


@pytest.mark.parametrize("lowest", [-np.inf, np.finfo(np.float32).min, -1e6])
def test_masked_cells_leave_the_temperature_its_derivatives(lowest):
    """Two cells, so x = s / 6 + (1 - s) / 2 with s = sigmoid(1 / t), and a third that is masked."""
    heatmap = jnp.array([[1.0, 0.0, lowest]])
    x = lambda t: soft_argmax(heatmap, temperature=t)[0]  # noqa: E731

    def derivatives(t):
        s = 1 / (1 + np.exp(-1 / t))
        first = s * (1 - s) / (3 * t**2)
        return first, -first * ((1 - 2 * s) / t**2 + 2 / t)

    for t in (0.5, 1.0, 3.0):
        first, second = derivatives(t)
        np.testing.assert_allclose(jax.grad(x)(t), first, rtol=1e-5)
        np.testing.assert_allclose(jax.jacfwd(x)(t), first, rtol=1e-5)
        np.testing.assert_allclose(jax.hessian(x)(t), second, rtol=1e-4)
        np.testing.assert_allclose(jax.vmap(jax.grad(x))(jnp.array([t]))[0], first, rtol=1e-5)
    of_map = jax.grad(lambda h: soft_argmax(h, temperature=0.5)[0])(heatmap)
    assert of_map[0, 2] == 0 and np.isfinite(of_map).all()


def test_masked_cells_and_a_temperature_for_each_map():
    heatmap = np.where(RNG.random((3, 4, 5)) < 0.3, -np.inf, RNG.normal(size=(3, 4, 5)))
    heatmap[:, 0, 0] = 0.0
    temperatures = np.array([0.3, 1.0, 4.0])
    with jax.enable_x64(True):
        sums = lambda h, t: jnp.sum(jnp.sin(3 * soft_argmax(h, temperature=t)))  # noqa: E731
        found = jax.jit(jax.grad(sums, argnums=1))(heatmap, temperatures)
        step = 1e-6
        for i in range(3):
            moved = [temperatures + sign * step * (np.arange(3) == i) for sign in (1, -1)]
            slope = (sums(heatmap, moved[0]) - sums(heatmap, moved[1])) / (2 * step)
            np.testing.assert_allclose(found[i], slope, rtol=1e-6)


@pytest.mark.parametrize("heatmap", [[[1.0, 0.0, -np.inf]], [[1.0, 1.0, 0.0]]])
def test_derivatives_at_the_coldest_temperatures_are_finite(heatmap):
    x = lambda t: soft_argmax(jnp.array(heatmap), temperature=t)[0]  # noqa: E731
    for t in (1e-20, 1e-30):
        assert jax.grad(x)(t) == 0
        assert jax.jacfwd(x)(t) == 0


def test_one_temperature_a_map():
    temperatures = np.linspace(0.2, 2, 4).astype(np.float32)
    maps = RANDOM[0].astype(np.float32)
    expected = np.stack([reference(h, t) for h, t in zip(maps, temperatures, strict=True)])
    read = jax.vmap(lambda h, t: soft_argmax(h, temperature=t))
    np.testing.assert_allclose(read(maps, temperatures), expected, atol=1e-6)
    np.testing.assert_allclose(soft_argmax(maps, temperature=temperatures), expected, atol=1e-6)


# Transforms. Each takes a function of one map to one of maps [3, 4, H, W].


def nested(inner, outer):
    """vmap of vmap over maps whose batch axes were moved to where in_axes says."""

    def transform(f):
        both = jax.vmap(jax.vmap(f, in_axes=inner), in_axes=outer)
        place = inner % 3 + 1  # the inner function sees [H, W] and one batch axis
        return lambda maps: both(jnp.moveaxis(jnp.moveaxis(maps, 1, place), 0, outer))

    return transform


def scanned(f, maps):
    return jax.lax.scan(lambda carry, h: (carry, jax.vmap(f)(h)), 0, maps)[1]


def sharded(f, maps):
    mesh = Mesh(np.array(jax.devices()[:4]), "b")
    spread = jax.shard_map(jax.vmap(jax.vmap(f)), mesh=mesh, in_specs=P("b"), out_specs=P("b"))
    return spread(jnp.concatenate([maps, maps[:1]]))[:3]


def on_all_devices(f, maps):
    return jax.pmap(jax.vmap(f))(maps)


TWICE = {
    "vmap of vmap": lambda f: jax.vmap(jax.vmap(f)),
    "vmap of jit": lambda f: jax.vmap(jax.jit(jax.vmap(jax.jit(f)))),
    "checkpoint": lambda f: jax.vmap(jax.vmap(jax.checkpoint(f))),
    "map": lambda f: lambda maps: jax.lax.map(jax.vmap(f), maps),
    "scan": lambda f: partial(scanned, f),
    "pmap": lambda f: partial(on_all_devices, f),
    "shard_map": lambda f: partial(sharded, f),
    "in_axes 0 of -1": nested(0, -1),
    "in_axes -1 of 0": nested(-1, 0),
    "in_axes -1 of -1": nested(-1, -1),
    "in_axes 1 of 1": nested(1, 1),
    "in_axes 1 of 2": nested(1, 2),
}


@pytest.mark.parametrize("transform", TWICE)
def test_transforms_of_the_value(transform):
    result = jax.jit(TWICE[transform](soft_argmax))(RANDOM.astype(np.float32))
    np.testing.assert_allclose(result, reference(RANDOM), atol=1e-6)


@pytest.mark.parametrize("transform", TWICE)
def test_transforms_of_the_gradient(transform):
    result = jax.jit(TWICE[transform](jax.grad(scalar)))(RANDOM.astype(np.float32))
    expected = np.stack([[gradient(h, COTANGENT) for h in maps] for maps in RANDOM])
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("transform", TWICE)
def test_gradient_of_the_transforms(transform):
    read = TWICE[transform](scalar)
    result = jax.jit(jax.grad(lambda maps: read(maps).sum()))(RANDOM.astype(np.float32))
    expected = np.stack([[gradient(h, COTANGENT) for h in maps] for maps in RANDOM])
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_transforms_without_jit():
    maps = jnp.asarray(RANDOM, jnp.float32)
    np.testing.assert_allclose(jax.vmap(jax.vmap(soft_argmax))(maps), reference(RANDOM), atol=1e-6)
    slope = jax.vmap(jax.grad(scalar))(maps[0])
    np.testing.assert_allclose(slope, [gradient(h, COTANGENT) for h in RANDOM[0]], atol=1e-6)


def test_leading_axes_are_maps():
    np.testing.assert_array_equal(
        soft_argmax(RANDOM), jax.vmap(jax.vmap(soft_argmax))(jnp.asarray(RANDOM))
    )


def test_exports_with_a_symbolic_batch():
    batch = jax.export.symbolic_shape("b, 5, 7, 4")
    maps = np.moveaxis(RANDOM, 1, -1).astype(np.float32)
    read = jax.jit(jax.vmap(jax.vmap(soft_argmax), in_axes=-1, out_axes=1))
    exported = jax.export.export(read)(jax.ShapeDtypeStruct(batch, jnp.float32))
    np.testing.assert_allclose(exported.call(maps), reference(RANDOM), atol=1e-6)


# Probability and context


def test_joint_logit_is_the_maximum():
    heatmap = jnp.asarray(RANDOM, jnp.bfloat16)
    assert joint_logit(heatmap).dtype == jnp.float32
    np.testing.assert_array_equal(joint_logit(heatmap), np.float32(heatmap).max((-2, -1)))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_joint_logit_and_probability_of_lines_and_volumes(ndim):
    highest = RANDOM.max(tuple(range(-ndim, 0)))
    logit = joint_logit(RANDOM, spatial_ndim=ndim)
    np.testing.assert_array_equal(logit, np.float32(highest))
    probability = joint_probability(RANDOM, spatial_ndim=ndim)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-highest)), rtol=1e-6)


def test_joint_probability_is_the_sigmoid_of_the_maximum():
    np.testing.assert_allclose(
        joint_probability(RANDOM), 1 / (1 + np.exp(-RANDOM.max((-2, -1)))), rtol=1e-6
    )
    assert joint_probability(jnp.full((2, 2), -1e4)) == 0
    assert joint_probability(jnp.full((2, 2), 1e4)) == 1


def test_gradient_of_the_logit_goes_to_the_highest_cell():
    expected = np.zeros_like(ONE)
    expected.flat[ONE.argmax()] = 1
    np.testing.assert_array_equal(jax.grad(joint_logit)(ONE), expected)
    last = jax.vmap(jax.grad(joint_logit), in_axes=2, out_axes=2)(np.dstack([ONE, -ONE]))
    np.testing.assert_array_equal(last[..., 0], expected)


PART = RNG.random((3, 5, 2)).astype(np.float32)
CONTEXT = RNG.random((3, 5, 4, 2)).astype(np.float32)
LOGITS = RNG.normal(0, 3, (3, 5, 4)).astype(np.float32)


def test_aggregation_is_equation_6():
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))[..., None]
    expected = 0.7 * PART + 0.3 * (p * CONTEXT).sum(-2) / p.sum(-2)
    np.testing.assert_allclose(
        aggregate_context(PART, CONTEXT, LOGITS, alpha=0.7), expected, rtol=0, atol=1e-6
    )


def test_aggregation_takes_08_of_the_part_by_default():
    np.testing.assert_array_equal(
        aggregate_context(PART, CONTEXT, LOGITS),
        aggregate_context(PART, CONTEXT, LOGITS, alpha=0.8),
    )


@pytest.mark.parametrize("logit", [-200.0, -1e4, -np.inf])
def test_aggregation_with_every_probability_at_zero_is_finite(logit):
    logits = np.full_like(LOGITS, logit)
    mean = 0.8 * PART + 0.2 * CONTEXT.mean(-2)
    np.testing.assert_allclose(aggregate_context(PART, CONTEXT, logits), mean, atol=1e-6)
    slopes = jax.jit(jax.grad(lambda *a: aggregate_context(*a).sum(), argnums=(0, 1, 2)))
    assert all(np.isfinite(slope).all() for slope in slopes(PART, CONTEXT, logits))


def test_aggregation_without_context_is_the_part():
    np.testing.assert_array_equal(
        aggregate_context(PART, CONTEXT[:, :, :0], LOGITS[:, :, :0]), PART
    )


def test_aggregation_is_at_least_float32():
    result = aggregate_context(*(jnp.asarray(a, jnp.bfloat16) for a in (PART, CONTEXT, LOGITS)))
    assert result.dtype == jnp.float32


def test_aggregation_gradients_agree_with_differences():
    with jax.enable_x64(True):
        arguments = [jnp.asarray(np.float64(a)) for a in (PART, CONTEXT, LOGITS)]
        check_grads(jax.jit(aggregate_context), arguments, order=1)


# What a person enters


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_argmax(jnp.zeros((4, 4)), grid="pixel"), "grid='pixel'"),
        (lambda: soft_argmax(jnp.zeros(4)), r"shape \(4,\)"),
        (lambda: soft_argmax(jnp.zeros((3, 0, 4))), "no cells"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), temperature=0), "temperature=0"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), temperature=-1.0), "temperature=-1.0"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), temperature=1e-50), "not positive in float32"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), temperature=np.float32(-1)), "float32.-1"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), temperature=np.array(np.nan)), "array.nan"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), temperature=jnp.zeros(())), "Array.0"),
        (lambda: soft_argmax(jnp.zeros((2, 4, 4)), temperature=jnp.array([1, 0])), "not positive"),
        (
            lambda: soft_argmax(jnp.zeros((2, 3, 4, 4)), temperature=jnp.ones(2)),
            r"temperature of shape \(2,\) does not broadcast .* \(2, 3\); use axes of size 1",
        ),
        (
            lambda: soft_argmax_with_covariance(jnp.zeros((2, 3, 4, 4)), size=jnp.ones((2, 2))),
            r"size\[..., 0\] of shape \(2,\) does not broadcast",
        ),
        (lambda: joint_logit(jnp.zeros(4)), r"shape \(4,\)"),
    ],
)
def test_errors_name_the_bad_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


SMALL = [jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.int4, jnp.uint4, jnp.int8, jnp.bool_]


@pytest.mark.parametrize("dtype", SMALL)
def test_the_smallest_types_give_float32(dtype):
    maps = jnp.asarray(RNG.integers(0, 2, (3, 4, 5)), dtype)
    wide = maps.astype(jnp.float32)
    for function in (soft_argmax, joint_logit, joint_probability, jax.vmap(soft_argmax)):
        found = function(maps)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, function(wide))


def test_gradient_of_a_float8_map_is_float8():
    maps = jnp.asarray(RNG.normal(size=(4, 5)), jnp.float8_e4m3fn)
    found = jax.grad(lambda h: soft_argmax(h)[0])(maps)
    assert found.dtype == maps.dtype
    wide = gradient(np.float64(maps), (1.0, 0.0))
    np.testing.assert_allclose(np.float64(found), wide, atol=0.07 * np.abs(wide).max())


MAPS_OF_FLAGS = np.float32(RNG.normal(size=(2, 3, 8, 6)))
CALLS_OF_FLAGS = {
    "one map": lambda m: soft_argmax(m[0, 0]),
    "batch": soft_argmax,
    "vmap": lambda m: jax.vmap(jax.vmap(soft_argmax, in_axes=-1), in_axes=2)(m),
    "other grid": lambda m: soft_argmax(m, grid="align_corners"),
    "temperature for each joint": lambda m: soft_argmax(m, temperature=np.ones(3, np.float64)),
    "more temperatures than maps": lambda m: soft_argmax(m[0, 0], temperature=jnp.arange(1.0, 4)),
    "traced temperature": lambda m: jax.jit(soft_argmax)(m, temperature=jnp.bfloat16(0.5)),
    "gradient": lambda m: jax.grad(lambda m: jnp.sum(soft_argmax(m)))(m),
    "gradient of temperature": lambda m: jax.grad(lambda t: soft_argmax(m, temperature=t).sum())(
        jnp.float32(0.5)
    ),
    "forward mode": lambda m: jax.jvp(soft_argmax, (m,), (m,))[1],
    "bfloat16": lambda m: soft_argmax(m.astype(jnp.bfloat16)),
    "int32": lambda m: joint_logit(m.astype(jnp.int32)),
    "probability": joint_probability,
    "context": lambda m: aggregate_context(
        soft_argmax(m[0]),
        soft_argmax(m[:, :, None]).astype(jnp.bfloat16),
        joint_logit(m)[..., None],
        alpha=np.float64(0.7),
    ),
}


@pytest.mark.parametrize("call", CALLS_OF_FLAGS)
def test_strict_promotion_gives_the_same_numbers(call):
    maps = jnp.asarray(MAPS_OF_FLAGS)
    expected = CALLS_OF_FLAGS[call](maps)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = CALLS_OF_FLAGS[call](maps)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", "paper"])
def test_exports_with_symbolic_height_and_width(grid):
    sizes = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w"), jnp.float32)
    read = partial(soft_argmax, grid=grid)
    square = jax.grad(lambda h: jnp.sum(jnp.square(read(h))))
    for function in (read, square, jax.vmap(read, in_axes=-1), joint_logit):
        exported = jax.export.export(jax.jit(function))(sizes)
        for shape in ((2, 5, 7), (1, 1, 1)):
            maps = jnp.asarray(RNG.normal(size=shape), jnp.float32)
            np.testing.assert_allclose(exported.call(maps), function(maps), rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("a"), P("a", "b")])
def test_sharded_maps(axis_type, spec):
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(axis_type, axis_type))
    maps = jnp.asarray(RNG.normal(size=(2, 4, 5, 7)), jnp.float32)
    sharded = jax.device_put(maps, NamedSharding(mesh, spec))
    function = lambda m: jnp.sum(jnp.sin(soft_argmax(m)) * joint_logit(m)[..., None])  # noqa: E731
    found = jax.jit(soft_argmax)(sharded)
    assert found.sharding.is_equivalent_to(sharded.sharding, 3)
    np.testing.assert_allclose(found, soft_argmax(maps), rtol=0, atol=1e-6)
    gradients = (jax.jit(jax.grad(function))(each) for each in (sharded, maps))
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-6)


# Masks


def test_where_excludes_cells_like_minus_infinity():
    mask = RNG.random(RANDOM.shape) < 0.6
    mask[..., 0, 0] = True
    excluded = np.where(mask, RANDOM, -np.inf).astype(np.float32)
    found = soft_argmax(RANDOM.astype(np.float32), where=mask)
    np.testing.assert_allclose(found, reference(excluded), atol=1e-6)
    over_maps = jax.vmap(lambda h, m: soft_argmax(h, where=m), in_axes=(0, 0))
    np.testing.assert_array_equal(over_maps(RANDOM.astype(np.float32), mask), found)


def test_where_may_hide_nan_and_infinity():
    heatmap = jnp.asarray(RANDOM[0, 0], jnp.float32)
    mask = jnp.ones((5, 7), bool).at[1, 2:5].set(False)
    spoiled = heatmap.at[1, 2:5].set(jnp.array([jnp.nan, jnp.inf, -jnp.inf]))
    read = jax.value_and_grad(lambda h: soft_argmax(h, where=mask).sum())
    for found, expected in zip(read(spoiled), read(heatmap), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_where_broadcasts_to_the_maps():
    columns = jnp.arange(7) < 3
    narrow = reference(RANDOM[..., :3]) * [3 / 7, 1]
    np.testing.assert_allclose(soft_argmax(RANDOM, where=columns), narrow, atol=1e-6)


@pytest.mark.parametrize("function", [soft_argmax, soft_argmax_with_covariance, local_soft_argmax])
def test_a_map_without_cells_under_the_mask_counts_as_flat(function):
    mask = jnp.zeros((2, 5, 7), bool).at[1].set(True)
    read = lambda h: function(h, where=mask)  # noqa: E731
    found = read(RANDOM[0, :2])
    first = found[0] if function is soft_argmax_with_covariance else found
    np.testing.assert_allclose(first[0], [0.5, 0.5], atol=1e-6)
    slope = jax.jacrev(read)(jnp.asarray(RANDOM[0, :2], jnp.float32))
    for leaf in jax.tree.leaves(slope):
        assert np.isfinite(leaf).all()
        assert not leaf[0].any()


# Mean and covariance


@pytest.mark.parametrize("size", [8, 64, 256])
@pytest.mark.parametrize("sigma", [0.4, 1.0, 5.0])
def test_covariance_of_narrow_peaks_keeps_its_digits(size, sigma):
    """Relative to the variances: a difference of uncentered moments would lose them all."""
    rows, columns = np.mgrid[:size, :size]
    for x, y in [(0.5, 0.5), (0.02, 0.97), (0.71, 0.13)]:
        dx, dy = columns + 0.5 - x * size, rows + 0.5 - y * size
        heatmap = np.float32(-(dx**2 + dy**2 + dx * dy) / (2 * sigma**2))
        p = softmax(heatmap)
        away = np.stack([columns, rows]) + 0.5
        away = (away - (p * away).sum((1, 2))[:, None, None]) / size
        expected = np.einsum("hw,ihw,jhw->ij", p, away, away)
        _, found = soft_argmax_with_covariance(heatmap)
        deviations = np.sqrt(np.diag(expected))
        error = (found - expected) / np.outer(deviations, deviations)
        assert abs(error).max() < 5e-5


def test_the_mean_beside_the_covariance_is_the_soft_argmax():
    for options in ({}, {"grid": "paper"}, {"temperature": 0.4}, {"spatial_ndim": 3}):
        mean, covariance = soft_argmax_with_covariance(RANDOM, **options)
        # Up to the rounding of sums in another order.
        np.testing.assert_allclose(mean, soft_argmax(RANDOM, **options), rtol=0, atol=2e-7)
        np.testing.assert_array_equal(covariance, covariance.swapaxes(-1, -2))


def test_a_size_for_each_map_gives_its_pixels():
    sizes = np.float32([[640, 480], [100, 50], [7, 5]])
    mean, covariance = soft_argmax_with_covariance(RANDOM[:, 0])
    in_pixels = soft_argmax_with_covariance(RANDOM[:, 0], size=sizes)
    np.testing.assert_allclose(in_pixels[0], mean * sizes, rtol=1e-6)
    area = sizes[:, :, None] * sizes[:, None]
    np.testing.assert_allclose(in_pixels[1], covariance * area, rtol=1e-6)


def test_covariance_on_align_corners_is_wider_by_the_spacing():
    _, half_pixel = soft_argmax_with_covariance(ONE)
    _, align_corners = soft_argmax_with_covariance(ONE, grid="align_corners")
    spacing = np.array([7 / 6, 5 / 4])
    np.testing.assert_allclose(align_corners, half_pixel * np.outer(spacing, spacing), rtol=1e-5)


# Other numbers of axes


def test_order_of_three_axes_is_x_y_z():
    volume = np.zeros((4, 6, 9), np.float32)
    volume[3, 1, 7] = 1e4
    found = soft_argmax(volume, spatial_ndim=3)
    np.testing.assert_allclose(found, [7.5 / 9, 1.5 / 6, 3.5 / 4], rtol=1e-6)


def test_a_map_of_one_row_reads_like_a_line():
    line = RANDOM[0, 0].astype(np.float32)
    found = soft_argmax(line, spatial_ndim=1)
    assert found.shape == (5, 1)
    np.testing.assert_allclose(found[:, 0], soft_argmax(line[:, None])[:, 0], atol=1e-6)


@pytest.mark.parametrize("ndim", [1, 3])
def test_float32_sums_of_lines_and_volumes_do_not_drift(ndim):
    shape = {1: (512,), 3: (48, 64, 56)}[ndim]
    for corner in itertools.product((0, -1), repeat=ndim):
        for peak in (0.5, 5.0, 11.0):
            heatmap = np.zeros(shape)
            heatmap[corner] = peak
            p = np.exp(heatmap) / np.exp(heatmap).sum()
            others = [tuple(i for i in range(ndim) if i != k) for k in reversed(range(ndim))]
            sides = [p.sum(axes) for axes in others]
            expected = [(s * grid_of("half_pixel", s.size)).sum() for s in sides]
            found = soft_argmax(np.float32(heatmap), spatial_ndim=ndim)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# Window, softmax, expectation


def test_local_soft_argmax_ignores_what_lies_outside_its_window():
    heatmap = jnp.asarray(RNG.normal(size=(12, 14)), jnp.float32).at[3, 4].set(9.0)
    other = heatmap.at[9, 10].set(8.9)
    for window in (1, 3, 7):
        near = local_soft_argmax(heatmap, window=window)
        np.testing.assert_array_equal(local_soft_argmax(other, window=window), near)
    slope = jax.grad(lambda h: local_soft_argmax(h, window=3)[0])(other)
    assert np.argwhere(slope).min(0).tolist() == [2, 3]
    assert np.argwhere(slope).max(0).tolist() == [4, 5]


def test_a_window_of_one_cell_is_the_argmax_and_a_wide_one_the_soft_argmax():
    found = local_soft_argmax(RANDOM, window=1)
    flat = RANDOM.reshape(3, 4, -1).argmax(-1)
    expected = np.stack([(flat % 7 + 0.5) / 7, (flat // 7 + 0.5) / 5], -1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    wide = local_soft_argmax(RANDOM, window=13)
    np.testing.assert_allclose(wide, soft_argmax(RANDOM), rtol=1e-6)


def test_softmax_and_expectation_are_the_two_steps_of_the_soft_argmax():
    for options in ({"spatial_ndim": 1}, {}, {"spatial_ndim": 3}):
        p = spatial_softmax(RANDOM, temperature=0.6, **options)
        found = spatial_expectation(p, **options)
        expected = soft_argmax(RANDOM, temperature=0.6, **options)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        log_p = spatial_log_softmax(RANDOM, temperature=0.6, **options)
        np.testing.assert_allclose(jnp.exp(log_p), p, rtol=1e-5)


def test_softmax_under_a_mask():
    mask = RNG.random((5, 7)) < 0.5
    p = spatial_softmax(RANDOM, where=mask)
    assert (np.asarray(p)[..., ~mask] == 0).all()
    np.testing.assert_allclose(p.sum((-2, -1)), 1, rtol=1e-6)
    log_p = spatial_log_softmax(RANDOM, where=mask)
    assert (np.asarray(log_p)[..., ~mask] == -np.inf).all()
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-5)


# Grids of other libraries: where cell i of n lies, as each of them defines it

CELLS = {
    "half_pixel": lambda n: (np.arange(n) + 0.5) / n,
    "align_corners": lambda n: np.linspace(0, 1, n),
    "paper": lambda n: np.arange(1, n + 1) / n,
    "index": lambda n: np.arange(n),
    "kornia": lambda n: np.linspace(-1, 1, n),
    "dsntnn": lambda n: np.linspace(-(n - 1) / n, (n - 1) / n, n),
    "integral_regression": lambda n: np.arange(n) / n - 0.5,
    "torch_align_corners": lambda n: np.linspace(-1, 1, n),
    "torch": lambda n: ((np.arange(n) + 0.5) / n * 2) - 1,
}


@pytest.mark.parametrize("source", CELLS)
@pytest.mark.parametrize("target", CELLS)
def test_every_cell_lies_where_both_libraries_say(source, target):
    shape = (2, 9, 6)
    for axis, size in enumerate(reversed(shape)):
        positions = np.zeros((size, 3), np.float32)
        positions[:, axis] = CELLS[source](size)
        found = convert_grid(positions, shape, source=source, target=target)
        np.testing.assert_allclose(found[:, axis], CELLS[target](size), atol=1e-5)


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", "paper"])
def test_decoding_on_one_grid_converts_to_any_other(grid):
    found = convert_grid(soft_argmax(ONE, grid=grid), (5, 7), source=grid, target="index")
    expected = 7 * reference(ONE)[0] - 0.5, 5 * reference(ONE)[1] - 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_argmax(jnp.zeros((4, 4)), spatial_ndim=4), "spatial_ndim=4 is not 1, 2 or 3"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), spatial_ndim=3), r"give \[\.\.\., D, H, W\]"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), where=jnp.ones(3, bool)), r"\(3,\) does not broad"),
        (lambda: soft_argmax(jnp.zeros((4, 4)), where=jnp.ones((4, 4))), "where has dtype float32"),
        (lambda: local_soft_argmax(jnp.zeros((4, 4)), window=4), "window=4"),
        (lambda: local_soft_argmax(jnp.zeros((4, 4)), window=2.5), "window=2.5"),
        (lambda: soft_argmax_with_covariance(jnp.zeros((4, 4)), size=4), r"size has shape \(\)"),
        (lambda: spatial_softmax(jnp.zeros((4, 4)), temperature=0), "temperature=0"),
        (lambda: spatial_expectation(jnp.zeros((4, 4)), grid="kornia"), "grid='kornia'"),
        (lambda: convert_grid(jnp.zeros(2), (4,), source="index", target="paper"), "do not fit"),
        (lambda: convert_grid(jnp.zeros(1), (4,), source="cell", target="paper"), "'cell' is unk"),
    ],
)
def test_errors_of_the_family_name_the_bad_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
