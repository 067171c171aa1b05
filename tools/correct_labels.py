r"""Correct a data set's labels by a trained network's predictions for many crops of each person.

    python -m tools.correct_labels --checkpoint runs/base --data_dir DATA --dataset lspet \
        --output corrections.tsv

The network sees several views of every training person: crops of several sizes and rotations, each
also flipped horizontally. If its predictions for the views agree on a joint's position, this
position replaces a label that contradicts it (`moved`) or a missing label (`filled`). With
`--drop`, a label is also removed (`dropped`) if the predictions disagree with each other and few of
them are near it. This is off by default because most of these labels are right: they belong to
poses that the network does not predict well. This command wrote
`tfds_builders/lspet/corrections.tsv`, which turns LSPET into `lspet/corrected`.

The file has one line per correction: image, joint, old x and y, new x and y (pixels; empty if there
is none), and the reason.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import tools
from jaxpose.checkpoints import store
from jaxpose.data.images import decode
from jaxpose.data.prepared import PreparedSplit, open_split, read_example
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.inference import predict_blocks
from jaxpose.evaluation.views import mirror_positions
from jaxpose.geometry import (
    IMAGE_RULE,
    LSP_RULE,
    Crop,
    apply_affine,
    crop_image,
    crop_to_image,
    example_crop,
)
from jaxpose.network import make_net
from jaxpose.runtime.compilation import compiler_options
from jaxpose.skeleton import flip_permutation, joint_index
from jaxpose.storage import check_folder, written_file

# The first two are distances, as fractions of the crop's side.
RADIUS = 0.05  # a view closer than this to the median of all views agrees with it
CONTRADICTION = 0.1  # a median farther than this from the label contradicts it
MIN_AGREEING_FRACTION = 0.8  # the views agree if at least this fraction agrees with the median
MIN_SUPPORTING_FRACTION = 0.25  # a label is kept if at least this fraction of the views is near it
MIN_PRESENCE = 0.5  # mean presence above which a missing joint is filled in
TURNS = (0.0, 90.0, 180.0, 270.0)
TILTS = (-25.0, 0.0, 25.0)
SIZES = (1.0, 1.2)
REASONS = ("moved", "filled", "dropped")


class Views(NamedTuple):
    """Predictions for V views of one person.

    Attributes:
      keypoints: [V, J, 2] pixels of the stored image, in the order of the data set's joints.
      presence: [V, J] probabilities that the joints are in the crop.
    """

    keypoints: np.ndarray
    presence: np.ndarray


def decide(
    keypoints: np.ndarray, labeled: np.ndarray, views: Views, side: float
) -> list[tuple[int, str, np.ndarray | None]]:
    """Decide on the corrections of one person.

    Args:
      keypoints: [J, 2] labels, pixels.
      labeled: bool [J], whether the joint has a label.
      views: predictions.
      side: side of the person's crop in pixels, the unit of the thresholds.

    Returns:
      (joint, reason, new position or None) for every label that changes.
    """
    median = np.median(views.keypoints, axis=0)
    off = np.linalg.norm(views.keypoints - median, axis=-1) / side
    agreed = (off < RADIUS).mean(axis=0) >= MIN_AGREEING_FRACTION
    near_label = np.linalg.norm(views.keypoints - keypoints, axis=-1) / side < CONTRADICTION
    wrong = np.linalg.norm(median - keypoints, axis=-1) / side > CONTRADICTION
    changes = []
    for joint in range(len(keypoints)):
        if not labeled[joint]:
            if agreed[joint] and views.presence[:, joint].mean() > MIN_PRESENCE:
                changes.append((joint, "filled", median[joint]))
        elif agreed[joint] and wrong[joint]:
            changes.append((joint, "moved", median[joint]))
        elif not agreed[joint] and near_label[:, joint].mean() < MIN_SUPPORTING_FRACTION:
            changes.append((joint, "dropped", None))
    return changes


class Teacher:
    """A network and the mapping of its joints to a data set's.

    Args:
      path: path of a checkpoint.
      split: the split whose labels are corrected.
      which: "best" or "latest" checkpoint of a workdir.
      dtype: dtype of the computation.
    """

    def __init__(self, path: str, split: PreparedSplit, *, which: str, dtype: str):
        variables, metadata, _ = store.load(path, which=which)
        net = make_net(metadata.network, dtype=dtype)
        names = metadata.joints
        self.size = metadata.image_size
        self.order = joint_index(names, split.joints)
        # Whether the network was trained on each of the data set's joints; -1 in `order` selects an
        # arbitrary one.
        self.known = joint_index(metadata.trained_joints, split.joints) >= 0
        if not self.known.any():
            raise JaxposeError(
                f"{path} was trained on none of the joints of {split.name}; give another "
                "checkpoint or data set"
            )
        flipped = flip_permutation(names, metadata.flip_pairs)

        def predict(images):
            both = jnp.concatenate([images, images[:, :, ::-1]])
            keypoints, presence = predict_blocks(net, variables, both)
            straight, mirrored = jnp.split(keypoints[-1], 2)
            first, second = jnp.split(presence[-1], 2)
            mirrored, second = mirror_positions(mirrored, flipped=flipped), second[..., flipped]
            return jnp.stack([straight, mirrored]), jnp.stack([first, second])

        self._predict = jax.jit(predict, compiler_options=compiler_options())

    def __call__(self, images: np.ndarray, crops: list[Crop]) -> Views:
        """Predict N crops and their mirror images, as 2 x N views.

        Args:
          images: uint8 [N, S, S, 3].
          crops: the crops that the images show.
        """
        keypoints, presence = (np.asarray(x) for x in self._predict(images))
        matrices = np.stack([crop_to_image(crop) for crop in crops])
        pixels = apply_affine(matrices[None], keypoints)
        return Views(pixels[:, :, self.order], presence[:, :, self.order])


def corrections(
    teacher: Teacher, split: PreparedSplit, *, persons_at_once: int = 4
) -> Iterator[tuple[str, int, np.ndarray | None, np.ndarray | None, str]]:
    """Yield every correction: image name, joint, old position, new position, reason."""
    starts = range(0, len(split.source), persons_at_once)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in starts:
            group = list(range(first, min(first + persons_at_once, len(split.source))))
            padded = group + [group[-1]] * (persons_at_once - len(group))  # compiles only once
            examples = list(pool.map(lambda i: read_example(split, i), padded))
            images = list(pool.map(lambda e: decode(e["image"])[0], examples))
            examples = [{**e, "image": i} for e, i in zip(examples, images, strict=True)]
            turned = _predict_views(teacher, pool, examples, [_turned_crops(e) for e in examples])
            best = [_best_turn(views) for views in turned]
            crops = [_tilted_crops(e, turn) for e, turn in zip(examples, best, strict=True)]
            looked = _predict_views(teacher, pool, examples, crops)
            for example, views, _ in zip(examples, looked, group, strict=False):
                keypoints = np.asarray(example["keypoints"], np.float64)
                labeled = np.asarray(example["labeled"])
                side = example_crop(example, LSP_RULE).side
                name = example["image_name"]
                name = name.decode() if isinstance(name, bytes) else str(name)
                for joint, reason, new in decide(keypoints, labeled, views, side):
                    if not teacher.known[joint]:
                        continue
                    old = keypoints[joint] if labeled[joint] else None
                    yield name, joint, old, new, reason


def _predict_views(teacher, pool, examples, crops) -> list[Views]:
    """Predict the views of each person: every crop, original and mirrored."""
    flat = [(e["image"], crop) for e, own in zip(examples, crops, strict=True) for crop in own]
    shown = list(pool.map(lambda pair: crop_image(pair[0], pair[1], teacher.size), flat))
    views = teacher(np.stack(shown), [crop for _, crop in flat])
    count = len(crops[0])
    keypoints = views.keypoints.reshape(2, len(examples), count, -1, 2)
    presence = views.presence.reshape(2, len(examples), count, -1)
    return [
        Views(
            np.concatenate(keypoints[:, i], axis=0),
            np.concatenate(presence[:, i], axis=0),
        )
        for i in range(len(examples))
    ]


def _turned_crops(example) -> list[Crop]:
    whole = example_crop(example, IMAGE_RULE)
    person = example_crop(example, LSP_RULE)
    return [crop._replace(rotation=turn) for turn in TURNS for crop in (whole, person)]


def _best_turn(views: Views) -> float:
    """Return the rotation whose four views agree best."""
    keypoints = views.keypoints.reshape(2, len(TURNS), 2, -1, 2)
    spread = keypoints.std(axis=(0, 2)).mean(axis=(1, 2))
    return TURNS[int(spread.argmin())]


def _tilted_crops(example, turn: float) -> list[Crop]:
    whole = example_crop(example, IMAGE_RULE)
    person = example_crop(example, LSP_RULE)
    crops = [whole] + [person._replace(side=person.side * size) for size in SIZES]
    return [crop._replace(rotation=turn + tilt) for tilt in TILTS for crop in crops]


def write(
    path: pathlib.Path, joints: tuple[str, ...], rows, *, reasons: tuple[str, ...] = REASONS
) -> dict[str, int]:
    """Write the corrections whose reason is in ``reasons``; returns their number by reason."""
    counts: dict[str, int] = {}
    with written_file(path) as local, local.open("w", encoding="utf-8") as file:
        file.write("image\tjoint\told_x\told_y\tnew_x\tnew_y\treason\n")
        for name, joint, old, new, reason in rows:
            if reason not in reasons:
                continue
            positions = [f"{v:.1f}" for p in (old, new) for v in (p if p is not None else ())]
            if old is None:
                positions = ["", "", *positions]
            if new is None:
                positions = [*positions, "", ""]
            file.write("\t".join([name, joints[joint], *positions, reason]) + "\n")
            counts[reason] = counts.get(reason, 0) + 1
    return counts


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = tools.parser("correct_labels", __doc__)
    parser.add_argument(
        "--checkpoint", required=True, help="workdir or checkpoint of the network that predicts"
    )
    parser.add_argument(
        "--which",
        default="best",
        choices=["best", "latest"],
        help="checkpoint of a workdir to use (default: %(default)s)",
    )
    parser.add_argument("--data_dir", required=True, help="folder of the prepared data sets")
    parser.add_argument(
        "--dataset", default="lspet", help="data set to correct (default: %(default)s)"
    )
    parser.add_argument(
        "--output", required=True, type=pathlib.Path, help="file of corrections to write"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16"],
        help="dtype of the computation (default: %(default)s)",
    )
    parser.add_argument(
        "--drop",
        action="store_true",
        help="also remove a label if the predictions for the crops disagree with each other and "
        "few of them are near the label",
    )
    options = parser.parse_args(arguments)
    reasons = REASONS if options.drop else tuple(r for r in REASONS if r != "dropped")
    check_folder(options.output)
    split = open_split(options.dataset, "train", data_dir=options.data_dir)
    teacher = Teacher(options.checkpoint, split, which=options.which, dtype=options.dtype)
    counts = write(options.output, split.joints, corrections(teacher, split), reasons=reasons)
    changes = ", ".join(f"{counts.get(reason, 0)} labels {reason}" for reason in reasons)
    print(f"{options.output}: {changes} ({len(split.source)} persons)")


if __name__ == "__main__":
    tools.run(main)
