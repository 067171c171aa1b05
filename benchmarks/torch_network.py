"""Our implementation of the network in PyTorch, for comparison in `benchmarks.network`.

Modules carry the names of jaxpose's variables, so that `load` can walk both trees together. Memory
layout is channels_last. Symbols: B batch, J joints, K blocks, H W the heat maps' size, M maps.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-3
PAPER_WIDTH = 576


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return the rows (before, after) of TensorFlow's "same" padding."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """Convolution without bias, TensorFlow's "same" padding, then batch norm without a scale."""

    def __init__(self, inputs, outputs, kernel_size=(1, 1), stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, bias=False)
        self.norm = norm(outputs)

    def forward(self, x):
        pads = [
            same_padding(n, k, s)
            for n, k, s in zip(x.shape[2:], self.conv.kernel_size, self.conv.stride, strict=True)
        ]
        (top, bottom), (left, right) = pads
        if top == bottom and left == right:
            y = F.conv2d(x, self.conv.weight, None, self.conv.stride, (top, left))
        else:
            y = self.conv(F.pad(x, (left, right, top, bottom)))
        return self.norm(y)

    def load(self, params, statistics):
        copy_kernel(self.conv.weight, params["kernel"])
        load_norm(self.norm, params["norm"], statistics["norm"])


class SeparableNorm(nn.Module):
    """Depthwise convolution, 1x1 convolution, batch norm."""

    def __init__(self, inputs, outputs, kernel_size):
        super().__init__()
        self.depthwise = nn.Conv2d(
            inputs, inputs, kernel_size, padding=kernel_size // 2, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = norm(outputs)

    def forward(self, x):
        return self.norm(self.pointwise(self.depthwise(x)))

    def load(self, params, statistics):
        copy_kernel(self.depthwise.weight, np.asarray(params["depthwise"])[:, :, None])
        copy_kernel(self.pointwise.weight, np.asarray(params["pointwise"])[None, None])
        load_norm(self.norm, params["norm"], statistics["norm"])


class Residual(nn.Module):
    """shortcut + separable convolution of ReLU."""

    def __init__(self, inputs, outputs, kernel_size=5):
        super().__init__()
        self.main = SeparableNorm(inputs, outputs, kernel_size)
        self.shortcut = ConvNorm(inputs, outputs) if inputs != outputs else None

    def forward(self, x):
        active = F.relu(x)
        return (x if self.shortcut is None else self.shortcut(active)) + self.main(active)

    def load(self, params, statistics):
        load_children(self, params, statistics)


class Stem(nn.Module):
    def __init__(self, width):
        super().__init__()
        c = lambda paper: paper * width // PAPER_WIDTH  # noqa: E731
        self.conv1 = ConvNorm(3, c(32), (3, 3), 2)
        self.conv2 = ConvNorm(c(32), c(32), (3, 3))
        self.conv3 = ConvNorm(c(32), c(64), (3, 3))
        self.conv4 = ConvNorm(c(64), c(96), (3, 3), 2)
        both = c(96) + c(64)
        self.short1 = ConvNorm(both, c(64))
        self.short2 = ConvNorm(c(64), c(96), (3, 3))
        self.long1 = ConvNorm(both, c(64))
        self.long2 = ConvNorm(c(64), c(64), (5, 1))
        self.long3 = ConvNorm(c(64), c(64), (1, 5))
        self.long4 = ConvNorm(c(64), c(96), (3, 3))
        self.conv5 = ConvNorm(2 * c(96), c(192), (3, 3), 2)
        self.residual = Residual(c(192) + 2 * c(96), width, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        pads = [same_padding(n, 3, 2) for n in x.shape[2:]]
        # After a ReLU, a border of zeros gives the same maximum as a border of minus infinity.
        pooled = F.max_pool2d(F.pad(x, (*pads[1], *pads[0])), 3, 2)
        x = torch.cat([F.relu(self.conv4(x)), pooled], 1)
        short = self.short2(F.relu(self.short1(x)))
        long = F.relu(self.long2(F.relu(self.long1(x))))
        long = self.long4(F.relu(self.long3(long)))
        x = torch.cat([short, long], 1)
        x = torch.cat([self.conv5(F.relu(x)), F.max_pool2d(x, 2)], 1)
        return self.residual(x)

    def load(self, params, statistics):
        load_children(self, params, statistics)


class BlockA(nn.Module):
    def __init__(self, width):
        super().__init__()
        half = width // 2
        self.level1 = Residual(width, width)
        self.reduce = ConvNorm(width, half)
        self.level2_1 = Residual(half, half)
        self.level2_2 = Residual(half, half)
        self.level3_1 = Residual(half, half)
        self.level3_2 = Residual(half, half)
        self.level3_3 = Residual(half, half)
        self.level2_3 = Residual(half, width)

    def forward(self, x):
        level1 = self.level1(x)
        x = self.level2_1(self.reduce(F.relu(F.max_pool2d(x, 2))))
        level2 = self.level2_2(x)
        x = self.level3_3(self.level3_2(self.level3_1(F.max_pool2d(x, 2))))
        x = self.level2_3(level2 + F.interpolate(x, scale_factor=2, mode="nearest"))
        return level1 + F.interpolate(x, scale_factor=2, mode="nearest")

    def load(self, params, statistics):
        load_children(self, params, statistics)


class BlockB(nn.Module):
    def __init__(self, width, maps, last):
        super().__init__()
        self.separable = SeparableNorm(width, width, 5)
        self.heatmaps = nn.Conv2d(width, maps, 1, bias=False)
        self.reinject = None if last else ConvNorm(maps, width)

    def forward(self, x):
        features = self.separable(F.relu(x))
        heatmaps = self.heatmaps(F.relu(features))
        if self.reinject is None:
            return heatmaps, None
        return heatmaps, x + features + self.reinject(F.relu(heatmaps))

    def load(self, params, statistics):
        copy_kernel(self.heatmaps.weight, np.asarray(params["heatmaps"])[None, None])
        load_children(self, params, statistics)


class TorchPoseNet(nn.Module):
    """A network of K blocks: images [B, 3, 8H, 8W] to keypoints [K, B, J, 2], logits [K, B, J].

    Grid half_pixel; two context maps per joint by default.
    """

    def __init__(self, *, joints=16, blocks=8, context=2, width=PAPER_WIDTH, alpha=0.8):
        super().__init__()
        self.joints, self.context, self.alpha = joints, context, alpha
        self.stem = Stem(width)
        for k in range(1, blocks + 1):
            self.add_module(f"block{k}_a", BlockA(width))
            self.add_module(f"block{k}_b", BlockB(width, joints * (1 + context), k == blocks))
        self.blocks = blocks
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        x = self.stem(images)
        maps = []
        for k in range(1, self.blocks + 1):
            x = getattr(self, f"block{k}_a")(x)
            heatmaps, x = getattr(self, f"block{k}_b")(x)
            maps.append(heatmaps)
        return self.read(torch.stack(maps))

    def read(self, heatmaps):
        """Compute keypoints and presence logits of raw maps [K, B, M, H, W]: eqs. 1-6."""
        blocks, batch, _, height, width = heatmaps.shape
        probability = torch.softmax(heatmaps.flatten(-2), -1).unflatten(-1, (height, width))
        columns, rows = (
            (torch.arange(size, device=probability.device) + 0.5) / size for size in (width, height)
        )
        # Avoid matrix products, which bfloat16 autocasting would round.
        x, y = (probability.sum(-2) * columns).sum(-1), (probability.sum(-1) * rows).sum(-1)
        positions = torch.stack([x, y], -1)
        logits = heatmaps.amax((-2, -1))
        part, presence_logits = positions[:, :, : self.joints], logits[:, :, : self.joints]
        shape = (blocks, batch, self.joints, self.context)
        weights = torch.softmax(F.logsigmoid(logits[:, :, self.joints :].reshape(shape)), -1)
        context = positions[:, :, self.joints :].reshape(*shape, 2)
        context = (weights[..., None] * context).sum(-2)
        return self.alpha * part + (1 - self.alpha) * context, presence_logits

    def load(self, variables):
        """Copy jaxpose's {"params", "batch_stats"}."""
        with torch.no_grad():
            load_children(self, variables["params"], variables["batch_stats"])


def loss(model, images, keypoints, labeled, known):
    """Compute eq. 7 + 0.01 * eq. 8 on every block, as in jaxpose.training.step."""
    prediction, logits = model(images)
    difference = prediction - keypoints
    distance = (difference.abs() + difference.square()).sum(-1)
    entropy = F.binary_cross_entropy_with_logits(
        logits, labeled.expand_as(logits), reduction="none"
    )
    coordinate = (distance * labeled).sum() / labeled.sum()
    return coordinate + 0.01 * (entropy * known).sum() / known.sum()


def rmsprop(model):
    """Make Keras's RMSProp: epsilon 1e-7 outside the root, rho 0.9."""
    return torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)


def norm(channels):
    layer = nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.01)
    layer.weight.requires_grad_(False)  # no scale: stays 1
    return layer


def load_norm(layer, params, statistics):
    copy(layer.bias, params["beta"])
    copy(layer.running_mean, statistics["mean"])
    copy(layer.running_var, statistics["variance"])


def load_children(module, params, statistics):
    for name, child in module.named_children():
        if hasattr(child, "load"):
            child.load(params[name], statistics[name])


def copy_kernel(weight, kernel):
    """Copy a kernel [kh, kw, I, O] to [O, I, kh, kw]."""
    copy(weight, np.asarray(kernel).transpose(3, 2, 0, 1))


def copy(target, array):
    target.copy_(torch.from_numpy(np.ascontiguousarray(array)))
