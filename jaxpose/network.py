"""The network of Luvizon, Tabia and Picard: stem, then K prediction blocks.

Every block turns features into M = J * (C + 1) raw heat maps (J part maps, then C context maps per
joint), decodes coordinates from them by soft-argmax (section 3.2) and feeds the maps back into the
next block (section 3.1). Layer sizes are the authors'; ``width`` scales them all by one factor.

Symbols: B batch, J joints, C context maps per joint, K blocks, H and W the heat maps' rows and
columns (1/8 of the image's).
"""

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import layers
from jaxpose.depthwise import depthwise_conv
from jaxpose.errors import JaxposeError
from jaxpose.heatmaps import (
    Grid,
    aggregate_context,
    joint_logit,
    local_soft_argmax,
    soft_argmax,
)

PAPER_WIDTH = 576
EPSILON = 1e-3  # of batch norm, the authors' value; 1e-5 moves joints by up to 0.013 of the crop
MOMENTUM = 0.99
SIZE_MULTIPLE = 32  # of an image's sides: in a block's deepest level, a side is 1/32 as long


class PoseOutput(NamedTuple):
    """A network's output for a batch, by block (axis K); the last block's is the final prediction.

    Attributes:
      keypoints: [K, B, J, 2], (x, y) as a fraction of the crop's width and height, at least
        float32.
      presence_logits: [K, B, J], logits of the probability that the joint is in the crop (apply
        ``jax.nn.sigmoid``).
      heatmaps: [K, B, H, W, M] raw maps (part maps, then context maps grouped by joint), or None.
      context_keypoints: [K, B, J, 2], the weighted mean of the positions of each joint's context
        maps (eq. 6 with alpha = 0); None if the network has no context maps.
    """

    keypoints: jax.Array
    presence_logits: jax.Array
    heatmaps: jax.Array | None
    context_keypoints: jax.Array | None = None


class DecodedMaps(NamedTuple):
    """Positions ((x, y) as a fraction of the crop) and logits, decoded from each map separately.

    Attributes:
      part: [..., J, 2], positions of the part maps.
      part_logits: [..., J], logits of the joints' probabilities.
      context: [..., J, C, 2], positions of each joint's context maps.
      context_logits: [..., J, C], logits of the context maps' probabilities.
    """

    part: jax.Array
    part_logits: jax.Array
    context: jax.Array
    context_logits: jax.Array


def normalize(images: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """Map RGB images [...] in 0..255 (uint8 or float) to [-1, 1], the network's input."""
    return ((images.astype(jnp.float32) / 255.0 - 0.5) * 2.0).astype(dtype)


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any, limit: float) -> jax.Array:
    """Draw uniform numbers within +-limit, by NumPy from a JAX key.

    Gives the same values on every backend and needs no compilation. For the 20 shapes of this
    network, XLA takes 5 to 20 s on two CPU cores to compile JAX's random numbers, longer than to
    compile a training step.
    """

    def draw(words):
        rng = np.random.default_rng(np.asarray(words))
        return rng.uniform(-limit, limit, shape).astype(dtype)

    words = jax.random.key_data(key)
    if isinstance(words, jax.core.Tracer):  # under jit
        drawn = jax.ShapeDtypeStruct(shape, dtype)
        return jax.pure_callback(draw, drawn, words, vmap_method="sequential")
    return draw(words)


def glorot(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Draw a kernel [..., C_in, C_out], Glorot uniform: within +-sqrt(6 / (fan_in + fan_out)).

    Args:
      key: scalar ``jax.random`` key.
      shape: (..., C_in, C_out), the window first.
      dtype: dtype of the kernel.
    """
    *window, fan_in, fan_out = shape
    return _uniform(key, shape, dtype, (6.0 / (math.prod(window) * (fan_in + fan_out))) ** 0.5)


def depthwise_glorot(key: jax.Array, shape: tuple[int, int, int], dtype: Any) -> jax.Array:
    """Draw a [kh, kw, C] kernel, Glorot uniform as in Keras.

    Keras uses fan_in = kh * kw * C and fan_out = kh * kw.

    Args:
      key: scalar ``jax.random`` key.
      shape: (kh, kw, C).
      dtype: dtype of the kernel.
    """
    rows, columns, channels = shape
    return _uniform(key, shape, dtype, (6.0 / (rows * columns * (channels + 1))) ** 0.5)


class BatchNorm(nn.Module):
    """Batch norm over B, H, W with a shift and no scale; statistics in float32.

    With ``axis_name``, training steps compute the statistics over the whole batch, that is, over
    all devices of that axis.
    """

    train: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x):
        channels = (x.shape[-1],)
        beta = self.param("beta", nn.initializers.zeros, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", np.zeros, channels, np.float32)
        variance = self.variable("batch_stats", "variance", np.ones, channels, np.float32)
        if self.is_initializing():  # only the variables are needed
            return x
        if not self.train:
            scale = jax.lax.rsqrt(variance.value + EPSILON)
            shift = beta - mean.value * scale
            wide = x.astype(jnp.float32)
            wide = wide * layers.per_channel(scale, x) + layers.per_channel(shift, x)
            return wide.astype(x.dtype)
        y, batch_mean, batch_variance = layers.batch_norm(
            x, beta, epsilon=EPSILON, axis_name=self.axis_name
        )
        mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
        variance.value = MOMENTUM * variance.value + (1 - MOMENTUM) * batch_variance
        return y


def flax_max_pool(x: jax.Array, *, window: int, strides: int) -> jax.Array:
    """Pool x [B, H, W, C] like ``layers.max_pool``, with Flax's function.

    Model converters recognize this function. Returns [B, ceil(H / strides), ceil(W / strides), C].
    """
    shape = {"window_shape": (window, window), "strides": (strides, strides)}
    return nn.max_pool(x, **shape, padding="SAME")


class ConvNorm(nn.Module):
    """Convolution without bias (TensorFlow's "same" padding), then batch norm."""

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    strides: int = 1
    norm: Any = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", glorot, shape, jnp.float32)
        kernel = kernel.astype(self.dtype)
        if self.kernel_size == (1, 1) and self.strides == 1:
            x = layers.pointwise_conv(x, kernel[0, 0])
        else:
            x = layers.conv2d(x, kernel, strides=self.strides)
        return self.norm(name="norm")(x)


class SeparableNorm(nn.Module):
    """Depthwise convolution directly followed by a 1x1 convolution, then batch norm."""

    features: int
    kernel_size: int
    norm: Any = BatchNorm
    dtype: Any = jnp.float32
    portable: bool = False

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        size = self.kernel_size
        depthwise = self.param("depthwise", depthwise_glorot, (size, size, channels), jnp.float32)
        pointwise = self.param("pointwise", glorot, (channels, self.features), jnp.float32)
        implementation = "conv" if self.portable else None
        x = depthwise_conv(x, depthwise.astype(self.dtype), implementation=implementation)
        x = layers.pointwise_conv(x, pointwise.astype(self.dtype))
        return self.norm(name="norm")(x)


class ResidualSeparable(nn.Module):
    """Shortcut plus the separable convolution of ``relu(x)``; no activation after the sum.

    If input and output have equally many channels, the shortcut is the input; otherwise, it is a
    ReLU, a 1x1 convolution and batch norm of the input.
    """

    features: int
    conv: Any
    separable: Any

    @nn.compact
    def __call__(self, x):
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = self.conv(self.features, name="shortcut")(nn.relu(x))
        return shortcut + self.separable(self.features, name="main")(nn.relu(x))


class Stem(nn.Module):
    """Image [B, 8H, 8W, 3] to features [B, H, W, width] (the paper's Fig. 2)."""

    width: int
    conv: Any
    separable: Any
    pool: Any

    @nn.compact
    def __call__(self, x):
        def channels(paper):
            return paper * self.width // PAPER_WIDTH

        def conv(name, x, paper, kernel_size, strides=1):
            return self.conv(channels(paper), kernel_size, strides, name=name)(x)

        x = nn.relu(conv("conv1", x, 32, (3, 3), 2))
        x = nn.relu(conv("conv2", x, 32, (3, 3)))
        x = nn.relu(conv("conv3", x, 64, (3, 3)))
        reduced = nn.relu(conv("conv4", x, 96, (3, 3), 2))
        x = jnp.concatenate([reduced, self.pool(x, window=3, strides=2)], axis=-1)
        self.sow("intermediates", "concat1", x)

        short = nn.relu(conv("short1", x, 64, (1, 1)))
        short = conv("short2", short, 96, (3, 3))
        long = nn.relu(conv("long1", x, 64, (1, 1)))
        long = nn.relu(conv("long2", long, 64, (5, 1)))
        long = nn.relu(conv("long3", long, 64, (1, 5)))
        long = conv("long4", long, 96, (3, 3))
        x = jnp.concatenate([short, long], axis=-1)
        self.sow("intermediates", "concat2", x)

        reduced = conv("conv5", nn.relu(x), 192, (3, 3), 2)
        x = jnp.concatenate([reduced, self.pool(x, window=2, strides=2)], axis=-1)
        self.sow("intermediates", "concat3", x)
        separable = functools.partial(self.separable, kernel_size=3)
        return ResidualSeparable(self.width, self.conv, separable, name="residual")(x)


class BlockA(nn.Module):
    """Hourglass-like: three levels of residual separable convolutions (the paper's Fig. 3)."""

    width: int
    conv: Any
    separable: Any
    pool: Any

    @nn.compact
    def __call__(self, x):
        def residual(name, x, features):
            return ResidualSeparable(features, self.conv, self.separable, name=name)(x)

        half = self.width // 2
        level1 = residual("level1", x, self.width)
        x = self.pool(x, window=2, strides=2)
        x = self.conv(half, name="reduce")(nn.relu(x))
        x = residual("level2_1", x, half)
        level2 = residual("level2_2", x, half)
        x = self.pool(x, window=2, strides=2)
        for i in (1, 2, 3):
            x = residual(f"level3_{i}", x, half)
        x = residual("level2_3", level2 + layers.upsample(x), self.width)
        return level1 + layers.upsample(x)


class BlockB(nn.Module):
    """Features to raw heat maps, and these to the next block's input (the paper's Fig. 4).

    Returns (heatmaps [B, H, W, M], next block's input or None for the last block).
    """

    width: int
    num_maps: int
    last: bool
    conv: Any
    separable: Any
    dtype: Any

    @nn.compact
    def __call__(self, x):
        features = self.separable(self.width, name="separable")(nn.relu(x))
        kernel = self.param("heatmaps", glorot, (self.width, self.num_maps), jnp.float32)
        heatmaps = layers.pointwise_conv(nn.relu(features), kernel.astype(self.dtype))
        self.sow("intermediates", "separable_output", features)
        if self.last:
            return heatmaps, None
        reinjected = self.conv(self.width, name="reinject")(nn.relu(heatmaps))
        self.sow("intermediates", "reinject_output", reinjected)
        return heatmaps, x + features + reinjected


class PoseNet(nn.Module):
    """The pose network (section 3 and Figs. 2-4 of the paper), any number of blocks and joints.

    Called as ``net.apply(variables, images, train=False)`` with images [B, height, width, 3] in
    [-1, 1] (``normalize``), height and width divisible by 32; returns a ``PoseOutput``. In training
    ``net.apply(..., train=True, mutable=["batch_stats"])`` returns (output, new statistics).

    Example:
      >>> net = PoseNet(num_joints=3, num_blocks=2, num_context_maps=1, width=18)
      >>> images = normalize(jnp.zeros((1, 64, 64, 3)))
      >>> variables = jax.eval_shape(net.init, jax.random.key(0), images)  # net.init draws them
      >>> jax.eval_shape(net.apply, variables, images).keypoints.shape  # [K, B, J, 2]
      (2, 1, 3, 2)

    Attributes:
      num_joints: J, number of joints, and of part maps per block.
      num_blocks: K, number of prediction blocks; the last one gives the final prediction.
      num_context_maps: C, context maps per joint (eq. 6); with 0, only the part maps are used.
      alpha: weight of the part map relative to the context maps in eq. 6.
      width: channels of the features, 576 in the paper; a multiple of 18.
      kernel_size: size of the separable convolutions in the blocks; odd.
      grid: grid of the soft-argmax: "half_pixel", "align_corners" (the authors' code) or "paper".
      temperature: divides the maps before the softmax.
      window: side, in cells, of the window around each map's highest cell over which a prediction's
        soft-argmax is computed (``local_soft_argmax``); odd, or 0 for the whole map as in the
        paper. In training, it is always the whole map.
      dtype: dtype of the computation; parameters, statistics and the soft-argmax stay float32.
      axis_name: pmap axis over whose devices batch norm is synchronized in training.
      remat: recompute a block's activations in the backward pass, to save memory.
      portable: use the same implementation of every layer on all platforms, for converters to other
        formats; otherwise some layers use a faster implementation on CPUs.
    """

    num_joints: int = 16
    num_blocks: int = 8
    num_context_maps: int = 2
    alpha: float = 0.8
    width: int = PAPER_WIDTH
    kernel_size: int = 5
    grid: Grid = "half_pixel"
    temperature: float = 1.0
    window: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    portable: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool = False, heatmaps: bool = False) -> PoseOutput:
        self._check(images)
        norm = functools.partial(BatchNorm, train=train, axis_name=self.axis_name)
        conv = functools.partial(ConvNorm, norm=norm, dtype=self.dtype)
        separable = functools.partial(
            SeparableNorm,
            kernel_size=self.kernel_size,
            norm=norm,
            dtype=self.dtype,
            portable=self.portable,
        )
        pool = flax_max_pool if self.portable else layers.max_pool
        num_maps = self.num_joints * (1 + self.num_context_maps)
        block_a, block_b = BlockA, BlockB
        if self.remat:
            block_a, block_b = nn.remat(BlockA), nn.remat(BlockB)

        x = Stem(self.width, conv, separable, pool, name="stem")(images.astype(self.dtype))
        self.sow("intermediates", "stem_output", x)
        maps = []
        for k in range(1, self.num_blocks + 1):
            last = k == self.num_blocks
            x = block_a(self.width, conv, separable, pool, name=f"block{k}_a")(x)
            self.sow("intermediates", f"block{k}_a_output", x)
            raw, x = block_b(
                self.width, num_maps, last, conv, separable, self.dtype, name=f"block{k}_b"
            )(x)
            maps.append(raw)
        raw = jnp.stack(maps)
        output = decode_output(self, raw, window=0 if train else self.window)
        return output if heatmaps else output._replace(heatmaps=None)

    def _check(self, images):
        """Raise a JaxposeError for arguments or images that cannot work."""
        check_arguments({name: getattr(self, name) for name in ARGUMENTS})
        shape, by = images.shape, SIZE_MULTIPLE
        wrong = None
        if len(shape) != 4 or shape[-1] != 3:
            wrong = f"images have shape {tuple(shape)}; give [batch, height, width, 3] in [-1, 1]"
        elif not jnp.issubdtype(images.dtype, jnp.floating):
            wrong = f"images are {images.dtype}; map them to [-1, 1] with `normalize`"
        elif (shape[1] % by or shape[2] % by) and not all(
            isinstance(size, int) for size in shape[1:3]
        ):
            wrong = (
                f"symbolic image size {shape[1]}x{shape[2]} is not divisible by {by}; make both "
                f"sides multiples of {by}, as in "
                f"`jax.export.symbolic_shape('b, {by}*h, {by}*w, 3')`"
            )
        elif shape[1] % by or shape[2] % by:
            wrong = (
                f"image size {shape[1]}x{shape[2]} is not divisible by {by}; resize or crop to "
                f"{-(-shape[1] // by) * by}x{-(-shape[2] // by) * by}"
            )
        if wrong:
            raise JaxposeError(wrong)


ARGUMENTS: dict[str, Any] = {
    name: kind for name, kind in PoseNet.__annotations__.items() if kind in (int, float, Grid)
}
"""Types of the arguments that a checkpoint records: those that determine the network's output. The
other arguments of ``PoseNet`` determine how it is computed."""

# Smallest and largest values. A malformed checkpoint could otherwise exhaust time or memory.
RANGES: dict[str, tuple[float, float]] = {
    "num_joints": (1, 10_000),
    "num_blocks": (1, 100),
    "num_context_maps": (0, 100),
    "alpha": (0, 1),
    "width": (18, 18_000),
    "kernel_size": (1, 99),
    "temperature": (1e-6, 1e6),
    "window": (0, 999),
}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check arguments of ``PoseNet`` that were read from a file or entered by a user.

    Args:
      arguments: values of ``ARGUMENTS``, by name; missing ones have their defaults.

    Raises:
      JaxposeError: an argument that a checkpoint does not record, or a value that ``PoseNet``
        cannot use.

    Example:
      >>> check_arguments({"num_joints": 16, "width": 288})  # raises nothing
    """
    unknown = sorted(arguments.keys() - ARGUMENTS.keys())
    if unknown:
        raise JaxposeError(
            f"a network has no argument {', '.join(unknown)}; use only {', '.join(ARGUMENTS)}, or "
            "update jaxpose if a newer version wrote this"
        )
    values = {name: arguments.get(name, getattr(PoseNet, name)) for name in ARGUMENTS}
    for name, kind in ARGUMENTS.items():
        if wanted := _wanted_type(values[name], kind):
            raise JaxposeError(f"{name} is {values[name]!r:.60}; {wanted}")
    for name, (low, high) in RANGES.items():
        if not low <= values[name] <= high:
            raise JaxposeError(
                f"{name} is {values[name]!r:.60}; it must be from {low:g} to {high:g}"
            )
    if values["width"] % 18:
        raise JaxposeError(
            f"width is {values['width']}; it must be a multiple of 18, so that every layer has an "
            "integer number of channels"
        )
    if values["kernel_size"] % 2 == 0:
        raise JaxposeError(f"kernel_size is {values['kernel_size']}; it must be odd")
    if values["window"] and values["window"] % 2 == 0:
        raise JaxposeError(
            f"window is {values['window']}; it must be odd, or 0 for the whole heat map"
        )


def _wanted_type(value: Any, kind: Any) -> str:
    """Describe what a value must be to have a type of ``ARGUMENTS``; empty if it has the type."""
    if kind not in (int, float):
        return "" if value in get_args(kind) else f"choose one of {', '.join(get_args(kind))}"
    number = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, number) and not isinstance(value, bool):
        return ""
    return f"it must be {'an integer' if kind is int else 'a number'}"


def make_net(
    arguments: Mapping[str, Any],
    *,
    dtype: str = "float32",
    axis_name: str | None = None,
    remat: bool = False,
) -> PoseNet:
    """Build the network from the arguments that a checkpoint records.

    Args:
      arguments: arguments of ``PoseNet``, by name, as in ``check_arguments``.
      dtype: name of the dtype of the computation.
      axis_name: as in ``PoseNet``.
      remat: as in ``PoseNet``.

    Raises:
      JaxposeError: as in ``check_arguments``.
    """
    check_arguments(arguments)
    return PoseNet(**arguments, dtype=jnp.dtype(dtype), axis_name=axis_name, remat=remat)


def initial_variables(net: PoseNet, seed: int) -> dict:
    """Return the variables that ``net.init`` draws for a seed, without running the network.

    They are the same on every backend and for any number of devices.

    Args:
      net: the network.
      seed: seed of the key from which Flax derives each parameter's key.

    Returns:
      {"params", "batch_stats"} of NumPy float32 arrays.
    """
    net = net.clone(remat=False)  # remat would hide the values from the closure below
    images = jax.ShapeDtypeStruct((1, SIZE_MULTIPLE, SIZE_MULTIPLE, 3), jnp.float32)
    key = jax.random.key(seed, impl="threefry2x32")
    variables = {}

    def init(images):
        variables.update(net.init(key, images, train=False))

    # Keys and variables do not depend on the images and are computed during tracing; the network
    # itself is only traced. `lazy_init` does the same, but compiles 60 programs.
    with jax.ensure_compile_time_eval():
        jax.eval_shape(init, images)
    return jax.tree.map(np.array, variables)  # writable


def map_decoder(
    *, grid: Grid = "half_pixel", temperature: float = 1.0, window: int = 0
) -> Callable[[jax.Array], jax.Array]:
    """Return the function that computes positions [..., 2] from maps [..., H, W].

    Args:
      grid: as in ``soft_argmax``.
      temperature: as in ``soft_argmax``.
      window: side of the window of a ``local_soft_argmax``, in cells; 0 for ``soft_argmax``.
    """
    options: Any = {"grid": grid, "temperature": temperature}
    if window:
        return functools.partial(local_soft_argmax, window=window, **options)
    return functools.partial(soft_argmax, **options)


def decode_maps(
    heatmaps: jax.Array,
    *,
    num_joints: int,
    grid: Grid = "half_pixel",
    temperature: float = 1.0,
    window: int = 0,
) -> DecodedMaps:
    """Decode each of the M = J * (C + 1) heat maps separately (sections 3.2.1 and 3.2.2).

    Args:
      heatmaps: [..., H, W, M], J part maps, then the context maps grouped by joint: channel
        J + j * C + i is map i of joint j.
      num_joints: J.
      grid: as in ``soft_argmax``.
      temperature: as in ``soft_argmax``.
      window: as in ``map_decoder``.

    Returns:
      ``DecodedMaps``, with C = 0 if the network has no context maps.
    """
    read = map_decoder(grid=grid, temperature=temperature, window=window)
    positions = jax.vmap(read, in_axes=-1, out_axes=-2)(heatmaps)
    logits = jax.vmap(joint_logit, in_axes=-1, out_axes=-1)(heatmaps)
    num_context_maps = heatmaps.shape[-1] // num_joints - 1
    by_joint = (*heatmaps.shape[:-3], num_joints, num_context_maps)
    return DecodedMaps(
        part=positions[..., :num_joints, :],
        part_logits=logits[..., :num_joints],
        context=positions[..., num_joints:, :].reshape(*by_joint, 2),
        context_logits=logits[..., num_joints:].reshape(by_joint),
    )


def decode_output(net: PoseNet, heatmaps: jax.Array, *, window: int) -> PoseOutput:
    """Decode a network's keypoints and presence from its raw heat maps (section 3.2).

    Args:
      net: the network.
      heatmaps: [..., H, W, M], as in ``PoseOutput``.
      window: as in ``map_decoder``, in place of the network's own.

    Returns:
      ``PoseOutput`` with the leading axes of ``heatmaps``.
    """
    decoded = decode_maps(
        heatmaps,
        num_joints=net.num_joints,
        grid=net.grid,
        temperature=net.temperature,
        window=window,
    )
    aggregate = functools.partial(
        aggregate_context, decoded.part, decoded.context, decoded.context_logits
    )
    return PoseOutput(
        keypoints=aggregate(alpha=net.alpha),
        presence_logits=decoded.part_logits,
        heatmaps=heatmaps,
        context_keypoints=aggregate(alpha=0.0) if net.num_context_maps else None,
    )
