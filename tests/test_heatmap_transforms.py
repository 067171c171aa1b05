"""Every differentiable function of maps and positions under every transform.

One table: a function of one map or position, and the same in NumPy. The NumPy functions accept
complex numbers, so that a step along the imaginary axis gives the exact gradient.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxpose

RNG = np.random.default_rng(7)
BATCH = (2, 3)
TARGET = np.array([0.43, 0.61])
MASK = np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1], [1, 1, 1, 1, 0], [0, 1, 1, 1, 1]], bool)


def cells(size):
    return (np.arange(size) + 0.5) / size


def softmax(z, temperature=1.0, mask=True):
    z = z / temperature
    e = np.where(mask, np.exp(z - z.real.max()), 0)
    return e / e.sum()


def axes(p):
    """X, Y and so on in every cell."""
    return np.meshgrid(*map(cells, p.shape), indexing="ij")[::-1]


def mean(p):
    return np.stack([(p * x).sum() for x in axes(p)])


def moments(p):
    away = [x - m for x, m in zip(axes(p), mean(p), strict=True)]
    return mean(p), np.array([[(p * a * b).sum() for b in away] for a in away])


def highest(h):
    return np.unravel_index(h.real.argmax(), h.shape)


def local_mean(z):
    index = np.indices(z.shape) - np.reshape(highest(z), (-1, *[1] * z.ndim))
    return mean(softmax(z, mask=(abs(index) <= 1).all(0)))


def refined(h, cell, refinement):
    """Steps of one cell along each axis of the array, edges left alone."""
    n = h.ndim
    inside = [0 < c < size - 1 for c, size in zip(cell, h.shape, strict=True)]
    unit = np.eye(n, dtype=int)
    at = lambda *steps: h[tuple(np.add(cell, sum(steps, np.zeros(n, int))))]  # noqa: E731
    offset = np.zeros(n, h.dtype)
    free = [k for k in range(n) if inside[k]]
    if refinement == "quadratic":
        for k in free:
            before, here, after = at(-unit[k]), at(), at(unit[k])
            offset[k] = (after - before) / 2 / (2 * here - before - after)
    elif refinement == "quarter":
        for k in free:
            offset[k] = np.sign((at(unit[k]) - at(-unit[k])).real) / 4
    elif refinement == "dark" and free:
        log = lambda *steps: np.log(at(*steps))  # noqa: E731
        slope = [(log(unit[k]) - log(-unit[k])) / 2 for k in free]
        second = np.array(
            [
                [
                    log(unit[k]) + log(-unit[k]) - 2 * log()
                    if k == m
                    else (
                        log(unit[k], unit[m])
                        + log(-unit[k], -unit[m])
                        - log(unit[k], -unit[m])
                        - log(-unit[k], unit[m])
                    )
                    / 4
                    for m in free
                ]
                for k in free
            ]
        )
        offset[free] = -np.linalg.solve(second, slope)
    return ((np.array(cell) + offset + 0.5) / h.shape)[::-1]


def two_peaks(h):
    """The two highest cells that exceed all of their neighbors, refined."""
    peaks = []
    for cell in itertools.product(*map(range, h.shape)):
        around = tuple(slice(max(c - 1, 0), c + 2) for c in cell)
        if h[cell].real == h[around].real.max():
            peaks.append(cell)
    peaks = sorted(peaks, key=lambda cell: -h[cell].real)[:2]
    return np.stack([refined(h, cell, "quadratic") for cell in peaks]), h[
        tuple(np.transpose(peaks))
    ]


def gaussian(position, shape, sigma, mask=True):
    """Unnormalized, so that a far position is no 0 / 0 in the cases below."""
    square = 0
    for k, n in enumerate(shape[::-1]):
        sides = [1] * len(shape)
        sides[len(shape) - 1 - k] = n
        square = square + ((np.arange(n) - (position[k] * n - 0.5)) / sigma).reshape(sides) ** 2
    return np.where(mask, np.exp(-square / 2), 0)


def divergence(p, q, kind, mask=True):
    p, q = (np.where(mask, x, 1) for x in (p, q / q.sum()))
    m = (p + q) / 2
    if kind == "kl":
        return np.where(mask, p * np.log(p / q), 0).sum()
    return np.where(mask, p * np.log(p / m) + q * np.log(q / m), 0).sum() / 2


def wing(d, width=0.3, epsilon=0.1):
    d = np.where(d.real < 0, -d, d)
    beyond = d - width + width * np.log(1 + width / epsilon)
    return np.where(d.real < width, width * np.log(1 + d / epsilon), beyond).sum()


def packed(x):
    """Part [..., J, 2], context [..., J, 3, 2] and its logits [..., J, 3] in one array."""
    return x[..., :2], x[..., 2:8].reshape(*x.shape[:-1], 3, 2), x[..., 8:]


def context_mean(part, context, logits):
    p = 1 / (1 + np.exp(-logits))
    mean = (p[..., None] * context).sum(-2) / p.sum(-1, keepdims=True)
    return 0.8 * part + 0.2 * mean


class Case(NamedTuple):
    function: Callable  # of arrays [..., *shape]
    numpy: Callable  # of one array [*shape], real or complex
    inputs: np.ndarray = RNG.normal(0, 2, (*BATCH, 4, 5))
    small: bool = True  # bfloat16 input gives a float32 result, and its rounding makes no ties


FLAT = RNG.normal(0, 1, (4, 5))
LINE = RNG.normal(0, 2, (*BATCH, 6))
VOLUME = RNG.normal(0, 2, (*BATCH, 3, 4, 5))
POSITION = RNG.random((*BATCH, 2))
BUMPS = np.stack(
    [
        [
            gaussian(RNG.uniform(0.3, 0.7, 2), (6, 7), 1.2) * (1 + 0.05 * RNG.random((6, 7))) + 0.01
            for _ in range(BATCH[1])
        ]
        for _ in range(BATCH[0])
    ]
)
SOLID = np.stack(
    [
        [gaussian(RNG.uniform(0.3, 0.7, 3), (5, 6, 7), 1.3) + 0.01 for _ in range(BATCH[1])]
        for _ in range(BATCH[0])
    ]
)
TWO = np.stack(
    [
        [
            gaussian(RNG.uniform(0.1, 0.3, 2), (9, 9), 1.0)
            + gaussian(RNG.uniform(0.6, 0.9, 2), (9, 9), 0.9) / 2
            for _ in range(BATCH[1])
        ]
        for _ in range(BATCH[0])
    ]
)

CASES = {
    "soft_argmax": Case(jaxpose.soft_argmax, lambda z: mean(softmax(z))),
    "soft_argmax 1-D": Case(
        partial(jaxpose.soft_argmax, spatial_ndim=1), lambda z: mean(softmax(z)), LINE
    ),
    "soft_argmax 3-D": Case(
        partial(jaxpose.soft_argmax, spatial_ndim=3), lambda z: mean(softmax(z)), VOLUME
    ),
    "soft_argmax masked": Case(
        partial(jaxpose.soft_argmax, where=MASK, temperature=0.7),
        lambda z: mean(softmax(z, 0.7, MASK)),
    ),
    "soft_argmax_with_covariance": Case(
        jaxpose.soft_argmax_with_covariance, lambda z: moments(softmax(z))
    ),
    "soft_argmax_with_covariance 1-D": Case(
        partial(jaxpose.soft_argmax_with_covariance, spatial_ndim=1, temperature=0.5),
        lambda z: moments(softmax(z, 0.5)),
        LINE,
    ),
    "soft_argmax_with_covariance 3-D": Case(
        partial(jaxpose.soft_argmax_with_covariance, spatial_ndim=3),
        lambda z: moments(softmax(z)),
        VOLUME,
    ),
    "soft_argmax_with_covariance in pixels": Case(
        partial(jaxpose.soft_argmax_with_covariance, size=(8, 3), where=MASK),
        lambda z: tuple(
            x * scale
            for x, scale in zip(
                moments(softmax(z, mask=MASK)), ([8, 3], [[64, 24], [24, 9]]), strict=True
            )
        ),
    ),
    "soft_argmax of the temperature": Case(
        lambda t: jaxpose.soft_argmax(
            jnp.broadcast_to(
                FLAT.astype(jnp.promote_types(t.dtype, jnp.float32)), (*t.shape, *FLAT.shape)
            ),
            temperature=t,
        ),
        lambda t: mean(softmax(FLAT, t)),
        RNG.uniform(0.5, 2.0, BATCH),
    ),
    "local_soft_argmax": Case(partial(jaxpose.local_soft_argmax, window=3), local_mean),
    "local_soft_argmax 1-D": Case(
        partial(jaxpose.local_soft_argmax, window=3, spatial_ndim=1), local_mean, LINE
    ),
    "local_soft_argmax 3-D": Case(
        partial(jaxpose.local_soft_argmax, window=3, spatial_ndim=3), local_mean, VOLUME
    ),
    "spatial_softmax": Case(jaxpose.spatial_softmax, softmax),
    "spatial_softmax masked": Case(
        partial(jaxpose.spatial_softmax, where=MASK, temperature=2.0),
        lambda z: softmax(z, 2.0, MASK),
    ),
    "spatial_softmax 3-D": Case(partial(jaxpose.spatial_softmax, spatial_ndim=3), softmax, VOLUME),
    "spatial_log_softmax": Case(jaxpose.spatial_log_softmax, lambda z: np.log(softmax(z))),
    "spatial_expectation": Case(jaxpose.spatial_expectation, mean),
    "spatial_expectation 3-D": Case(
        partial(jaxpose.spatial_expectation, spatial_ndim=3), mean, VOLUME
    ),
    "joint_probability": Case(
        jaxpose.joint_probability, lambda z: 1 / (1 + np.exp(-z[highest(z)]))
    ),
    "joint_probability 1-D": Case(
        partial(jaxpose.joint_probability, spatial_ndim=1),
        lambda z: 1 / (1 + np.exp(-z[highest(z)])),
        LINE,
    ),
    "joint_logit": Case(jaxpose.joint_logit, lambda z: z[highest(z)]),
    "joint_logit 3-D": Case(
        partial(jaxpose.joint_logit, spatial_ndim=3), lambda z: z[highest(z)], VOLUME
    ),
    "aggregate_context": Case(
        lambda x: jaxpose.aggregate_context(*packed(x)),
        lambda x: context_mean(*packed(x)),
        RNG.random((*BATCH, 2, 11)),  # two joints, three context maps each
    ),
    "convert_grid": Case(
        partial(jaxpose.convert_grid, shape=(4, 5), source="half_pixel", target="kornia"),
        lambda x: 2 * (x * [5, 4] - 0.5) / [4, 3] - 1,
        POSITION,
    ),
    "hard_argmax quadratic": Case(
        jaxpose.hard_argmax, lambda h: refined(h, highest(h), "quadratic"), BUMPS
    ),
    "hard_argmax none": Case(
        partial(jaxpose.hard_argmax, refinement="none"),
        lambda h: refined(h, highest(h), "none"),
        BUMPS,
    ),
    "hard_argmax quarter": Case(
        partial(jaxpose.hard_argmax, refinement="quarter"),
        lambda h: refined(h, highest(h), "quarter"),
        BUMPS,
    ),
    "hard_argmax dark": Case(
        partial(jaxpose.hard_argmax, refinement="dark"),
        lambda h: refined(h, highest(h), "dark"),
        BUMPS,
    ),
    "hard_argmax dark 3-D": Case(
        partial(jaxpose.hard_argmax, refinement="dark", spatial_ndim=3),
        lambda h: refined(h, highest(h), "dark"),
        SOLID,
    ),
    "find_peaks": Case(lambda h: jaxpose.find_peaks(h, 2)[:2], two_peaks, TWO, small=False),
    "gaussian_heatmap": Case(
        partial(jaxpose.gaussian_heatmap, shape=(4, 5), sigma=1.3),
        lambda x: gaussian(x, (4, 5), 1.3),
        POSITION,
    ),
    "gaussian_heatmap sum 3-D": Case(
        partial(jaxpose.gaussian_heatmap, shape=(3, 4, 5), sigma=0.8, norm="sum"),
        lambda x: gaussian(x, (3, 4, 5), 0.8) / gaussian(x, (3, 4, 5), 0.8).sum(),
        RNG.random((*BATCH, 3)),
    ),
    "simcc_targets": Case(
        partial(jaxpose.simcc_targets, shape=(4, 5), sigma=2.0),
        lambda x: tuple(
            g / g.sum() for g in (gaussian(x[:1], (10,), 2.0), gaussian(x[1:], (8,), 2.0))
        ),
        POSITION,
    ),
    "heatmap_divergence": Case(
        lambda z: jaxpose.heatmap_divergence(z, TARGET, sigma=1.1),
        lambda z: divergence(softmax(z), gaussian(TARGET, (4, 5), 1.1), "jensen_shannon"),
    ),
    "heatmap_divergence masked": Case(
        lambda z: jaxpose.heatmap_divergence(z, TARGET, where=MASK),
        lambda z: divergence(
            softmax(z, mask=MASK), gaussian(TARGET, (4, 5), 1.0, MASK), "jensen_shannon", MASK
        ),
    ),
    "heatmap_divergence kl": Case(
        lambda z: jaxpose.heatmap_divergence(z, TARGET, kind="kl", temperature=1.5, where=MASK),
        lambda z: divergence(
            softmax(z, 1.5, MASK), gaussian(TARGET, (4, 5), 1.0, MASK), "kl", MASK
        ),
    ),
    "heatmap_divergence kl of the target": Case(
        lambda x: jaxpose.heatmap_divergence(
            CASES["heatmap_divergence kl"].inputs[0, 0], x, kind="kl"
        ),
        lambda x: divergence(
            softmax(CASES["heatmap_divergence kl"].inputs[0, 0]), gaussian(x, (4, 5), 1.0), "kl"
        ),
        POSITION,
    ),
    "heatmap_divergence 1-D": Case(
        lambda z: jaxpose.heatmap_divergence(z, TARGET[:1], spatial_ndim=1),
        lambda z: divergence(softmax(z), gaussian(TARGET[:1], (6,), 1.0), "jensen_shannon"),
        LINE,
    ),
    "variance_loss 3-D": Case(
        partial(jaxpose.variance_loss, spatial_ndim=3),
        lambda z: ((np.diag(moments(softmax(z))[1]) * [25, 16, 9] - 1) ** 2).sum(),
        VOLUME,
    ),
    "variance_loss": Case(
        partial(jaxpose.variance_loss, sigma=0.9),
        lambda z: ((np.diag(moments(softmax(z))[1]) * [25, 16] - 0.81) ** 2).sum(),
    ),
    "euclidean_loss": Case(
        lambda x: jaxpose.euclidean_loss(x, TARGET),
        lambda x: np.sqrt(((x - TARGET) ** 2).sum()),
        POSITION,
    ),
    "wing_loss": Case(
        lambda x: jaxpose.wing_loss(x, TARGET, width=0.3, epsilon=0.1),
        lambda x: wing(x - TARGET),
        POSITION,
    ),
    "oks_loss": Case(
        lambda x: jaxpose.oks_loss(x, TARGET, 2.0, np.array(0.2)),
        lambda x: 1 - np.exp(-((x - TARGET) ** 2).sum() / (2 * 2.0 * 0.4**2)),
        POSITION,
    ),
    "probability_loss": Case(
        lambda z: jaxpose.probability_loss(z, 0.3),
        lambda z: np.log1p(np.exp(z)) - 0.3 * z,
        RNG.normal(0, 2, BATCH),
        small=False,
    ),
    "coordinate_loss": Case(
        lambda x: jaxpose.coordinate_loss(x, TARGET),
        lambda x: (np.where(x.real < TARGET, TARGET - x, x - TARGET) + (x - TARGET) ** 2).sum(),
        POSITION,
        small=False,
    ),
}
FIRST = {name.split()[0]: name for name in reversed(CASES)}  # of each function
each_case = pytest.mark.parametrize("name", CASES)
# The first case of each function is quick, its variants are slow.
first_cases_quick = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FIRST.values() else pytest.mark.slow)
        for name in CASES
    ],
)


def test_every_differentiable_function_of_the_package_has_a_case():
    """masked_mean takes a whole batch to one number: tests/test_losses.py."""
    modules = {"heatmaps", "heatmap_targets", "peaks", "losses"}
    public = {name for name, home in jaxpose._HOME.items() if home in modules}
    assert FIRST.keys() == public - {"Peaks", "masked_mean"}


def flat(results):
    """All results of a function as one vector."""
    leaves = jax.tree.leaves(results)
    library = jnp if isinstance(leaves[0], jax.Array) else np
    return library.concatenate([leaf.reshape(-1) for leaf in leaves])


def flat_batch(results):
    """All results of a function of a batch, one vector for each of its inputs."""
    leaves = [leaf.reshape((*BATCH, -1)) for leaf in jax.tree.leaves(results)]
    return jnp.concatenate(leaves, axis=-1)


def weights(size):
    return np.sin(1 + np.arange(size))


def scalar(case):
    """A weighted sum of all results, so that no derivative is hidden."""

    def total(x):
        result = flat(case.function(x))
        return jnp.sum(result * jnp.asarray(weights(result.size), result.dtype))

    return total


def expected_values(case, inputs=None):
    inputs = case.inputs if inputs is None else inputs
    return np.stack([[flat(case.numpy(x)).real for x in row] for row in inputs])


def complex_gradient(case, x):
    """The weighted sum's gradient, exact: a step along the imaginary axis."""
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        moved = np.array(x, complex)
        moved[index] += 1e-30j
        result = flat(case.numpy(moved))
        found[index] = (result.imag * weights(result.size)).sum() / 1e-30
    return found


def expected_gradients(case, inputs=None):
    inputs = case.inputs if inputs is None else inputs
    return np.stack([[complex_gradient(case, x) for x in row] for row in inputs])


def over_batch(function):
    return jax.vmap(jax.vmap(function))


def values(case):
    return over_batch(lambda x: flat(case.function(x)))


def scale_of(expected):
    return np.abs(expected).max()


def assert_close(found, expected, tolerance):
    """Relative to the largest entry, since single entries pass through zero."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (scale_of(expected) or 1))


@first_cases_quick
def test_values_and_gradients_in_float64(name):
    case = CASES[name]
    with jax.enable_x64(True):
        inputs = jnp.asarray(case.inputs)
        found = jax.jit(values(case))(inputs)
        slopes = jax.jit(over_batch(jax.grad(scalar(case))))(inputs)
    assert found.dtype == slopes.dtype == jnp.float64
    assert_close(found, expected_values(case), 1e-10)
    assert_close(slopes, expected_gradients(case), 1e-10)


@first_cases_quick
def test_values_and_gradients_in_float32_under_strict_promotion(name):
    case = CASES[name]
    inputs = case.inputs.astype(np.float32)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = jax.jit(values(case))(inputs)
        slopes = jax.jit(over_batch(jax.grad(scalar(case))))(inputs)
    assert found.dtype == slopes.dtype == jnp.float32
    wide = inputs.astype(np.float64)
    assert_close(found, expected_values(case, wide), 1e-5)
    assert_close(slopes, expected_gradients(case, wide), 1e-5)


@first_cases_quick
def test_leading_axes_are_a_batch(name):
    case = CASES[name]
    with jax.enable_x64(True):
        found = jax.jit(lambda x: flat_batch(case.function(x)))(jnp.asarray(case.inputs))
    assert_close(found, expected_values(case), 1e-10)


# The transforms, each of a case and its batch. What is expected is the gradient, but for two.


def step_of(inputs):
    return np.cos(np.arange(inputs.size)).reshape(inputs.shape)


def jvp(case, inputs):
    along = lambda x, step: jax.jvp(scalar(case), (x,), (step,))[1]  # noqa: E731
    return over_batch(along)(inputs, step_of(inputs))


def expected_jvp(case):
    gradients = expected_gradients(case) * step_of(case.inputs)
    return gradients.sum(tuple(range(2, gradients.ndim)))


def hessian(case, inputs):
    """The hessian of one input times one direction."""
    one = inputs[0, 0]
    return jax.hessian(scalar(case))(one).reshape(one.size, one.size) @ step_of(one).reshape(-1)


def expected_hessian(case):
    """Central differences of the exact gradient."""
    one = case.inputs[0, 0]
    ahead, behind = (complex_gradient(case, one + h * step_of(one)) for h in (1e-5, -1e-5))
    return (ahead - behind).reshape(-1) / 2e-5


def scanned(case, inputs):
    row = lambda carry, x: (carry, jax.vmap(jax.grad(scalar(case)))(x))  # noqa: E731
    return jax.lax.scan(row, 0, inputs)[1]


def shard_mapped(case, inputs):
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
    function = over_batch(jax.grad(scalar(case)))
    return jax.shard_map(function, mesh=mesh, in_specs=P("b"), out_specs=P("b"))(inputs)


def last_axis(case, inputs):
    inputs = jnp.moveaxis(jnp.moveaxis(inputs, 1, -1), 0, -1)
    return jax.vmap(jax.vmap(jax.grad(scalar(case)), in_axes=-1), in_axes=-1)(inputs)


def gradient_by(transform):
    return lambda case, inputs: over_batch(transform(scalar(case)))(inputs)


TRANSFORMS = {
    "jvp": jvp,
    "jacfwd": gradient_by(jax.jacfwd),
    "jacrev": gradient_by(jax.jacrev),
    "remat": gradient_by(lambda f: jax.grad(jax.checkpoint(f))),
    "hessian": hessian,
    "scan": scanned,
    "shard_map": shard_mapped,
    "in_axes -1 of -1": last_axis,
}
EXPECTED = {"jvp": expected_jvp, "hessian": expected_hessian}


@pytest.mark.slow
@each_case
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(name, transform):
    case = CASES[name]
    with jax.enable_x64(True):
        found = jax.jit(lambda x: TRANSFORMS[transform](case, x))(jnp.asarray(case.inputs))
        expected = EXPECTED[transform](case) if transform in EXPECTED else expected_gradients(case)
        assert_close(found, expected, 1e-7 if transform == "hessian" else 1e-10)


@pytest.mark.slow
@each_case
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_sharded_batches(name, axis_type):
    case = CASES[name]
    mesh = jax.make_mesh((2,), ("b",), axis_types=(axis_type,))
    # A constant gradient carries no sharding of its own: the mesh comes from the context.
    with jax.enable_x64(True), jax.set_mesh(mesh):
        inputs = jax.device_put(case.inputs, NamedSharding(mesh, P("b")))
        found = jax.jit(lambda x: flat_batch(case.function(x)))(inputs)
        slopes = jax.jit(over_batch(jax.grad(scalar(case))))(inputs)
    assert_close(found, expected_values(case), 1e-10)
    assert_close(slopes, expected_gradients(case), 1e-10)


@pytest.mark.slow
@each_case
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_small_floats_are_computed_in_float32(name, dtype):
    case = CASES[name]
    if not case.small:
        pytest.skip("keeps the type of the predictions, or rounding makes ties")
    inputs = jnp.asarray(case.inputs, dtype)
    wide = np.asarray(inputs, np.float64)
    found = jax.jit(values(case))(inputs)
    assert found.dtype == jnp.float32
    assert_close(found, expected_values(case, wide), 1e-5)
    slopes = jax.jit(over_batch(jax.grad(scalar(case))))(inputs)
    assert slopes.dtype == dtype
    assert_close(np.float64(slopes), expected_gradients(case, wide), 1e-2)


@pytest.mark.slow
@each_case
def test_no_nan_is_made_on_the_way(name):
    case = CASES[name]
    with jax.debug_nans(True):
        over_batch(jax.value_and_grad(scalar(case)))(case.inputs.astype(np.float32))
