"""Weights files in the layout of the paper's authors, of any size, from random arrays.

Written after the layout's description alone, without the package.
"""

import h5py
import numpy as np


class Numbering:
    """Keras's names of layers without one: ``conv2d``, ``conv2d_1``, ... over the whole network."""

    def __init__(self, start):
        self.count, self.start = {}, start

    def __call__(self, kind):
        number = self.start + self.count.setdefault(kind, 0)
        self.count[kind] += 1
        return f"{kind}_{number}" if number else kind


def write(
    path, *, blocks=2, joints=16, contexts=2, width=36, kernel=5, start=0, repeat="", bytes_=False,
    frozen=True, whole_model=False, compression=None,
):  # fmt: skip
    """Writes a file as Keras 2 does; returns {group: {data set: array}} in the file's order.

    ``start``: the first number of unnamed layers; ``repeat``: what is appended to named layers in
    blocks after the first ("{}" takes the block's number - 1).
    """
    rng = np.random.default_rng(0)
    name = Numbering(start)
    maps = joints * (1 + contexts)
    half = width // 2

    def conv(layer, rows, columns, inputs, outputs):
        return {f"{layer}/kernel:0": (rows, columns, inputs, outputs)}

    def separable(layer, size, inputs, outputs):
        return {
            f"{layer}/depthwise_kernel:0": (size, size, inputs, 1),
            f"{layer}/pointwise_kernel:0": (1, 1, inputs, outputs),
        }

    def norm(layer, channels):
        kinds = ("beta", "moving_mean", "moving_variance")
        return {f"{layer}/{kind}:0": (channels,) for kind in kinds}

    def group(*layers):
        weights = {k: shape for layer in layers for k, shape in layer.items()}
        # First all that is trained, then all statistics, as Keras flattens a nested model.
        order = sorted(weights, key=lambda k: "moving" in k)
        return {k: rng.normal(size=weights[k]).astype(np.float32) for k in order}

    groups = {"input_1": {}}
    if frozen:
        constants = [name("separable_conv2d") for _ in range(4 if contexts else 2)]
    a, b, c, d, e = (n * width // 576 for n in (32, 64, 96, 192, 384))
    stem_convs = [
        (3, 3, 3, a), (3, 3, a, a), (3, 3, a, b), (3, 3, b, c),
        (1, 1, b + c, b), (3, 3, b, c),
        (1, 1, b + c, b), (5, 1, b, b), (1, 5, b, b), (3, 3, b, c),
        (3, 3, d, d),
    ]  # fmt: skip
    convs = [conv(name("conv2d"), *shape) for shape in stem_convs]
    norms = [norm(name("batch_normalization"), shape[-1]) for shape in stem_convs]
    groups["Stem"] = group(
        # By graph depth: the deeper branch comes before its neighbors.
        *(layer[rank] for rank in (0, 1, 2, 3, 6, 7, 4, 8, 5, 9, 10) for layer in (convs, norms)),
        conv("sepconv1_shortcut_conv", 1, 1, e, width),
        separable("sepconv1_conv", 3, e, width),
        norm("sepconv1_shortcut", width),
        norm("sepconv1", width),
    )
    for k in range(1, blocks + 1):
        suffix = repeat.format(k - 1) if k > 1 else ""
        layers = [
            conv(name("conv2d"), 1, 1, width, half), norm(name("batch_normalization"), half),
            conv(f"sepconv_l2_3_shortcut_conv{suffix}", 1, 1, half, width),
            norm(f"sepconv_l2_3_shortcut{suffix}", width),
        ]  # fmt: skip
        for level in ("l2_1", "l3_1", "l3_2", "l3_3", "l2_2", "l2_3", "l1"):
            inputs, outputs = half, half
            if level in ("l1", "l2_3"):
                inputs, outputs = (width if level == "l1" else half), width
            layers.append(separable(f"sepconv_{level}_conv{suffix}", kernel, inputs, outputs))
            layers.append(norm(f"sepconv_{level}{suffix}", outputs))
        groups[f"rBlock{k}"] = group(*layers)
        groups[f"SepConv{k}"] = group(
            separable(name("separable_conv2d"), kernel, width, width),
            norm(name("batch_normalization"), width),
        )
        groups[f"RegMap{k}"] = group(conv(name("conv2d"), 1, 1, width, maps))
        if k < blocks:
            groups[f"fReMap{k}"] = group(
                conv(name("conv2d"), 1, 1, maps, width), norm(name("batch_normalization"), width)
            )
            groups[f"add_{k}"] = {}
    if frozen:
        channels = [joints] * 2 + [joints * contexts] * 2
        of_both = [separable(n, 32, c, c) for n, c in zip(constants, channels, strict=False)]
        groups["sSAM"] = group(*of_both[:2])
        if contexts:
            groups["cSAM"] = group(*of_both[2:])
            groups["Agg"] = group({"dense/kernel:0": (joints * contexts, joints)})
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        text = (lambda names: [n.encode() for n in names]) if bytes_ else list
        root.attrs["layer_names"] = text(groups)
        for group_name, weights in groups.items():
            target = root.create_group(group_name)
            target.attrs["weight_names"] = text(weights) or np.zeros(0)
            for weight, value in weights.items():
                target.create_dataset(weight, data=value, compression=compression)
    return groups
