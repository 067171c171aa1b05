r"""Train the network that finds people in an image (`jaxpose/predict/finder.py`).

    python -m tools.train_finder --data_dir DATA --mpii PATH MORE --coco COCO.json DIR \
        --no_person DIR --output finder.npz

The stem and the features are initialized from a pose network that ships with jaxpose; the stem is
not trained. Samples are crops of single images and mosaics of four. A tenth of the images is held
out; the recall of their boxes is printed at the end. Since many people in these images are not
annotated, cells outside of the annotated boxes have a lower weight in the loss (`BACKGROUND`).
"""

import collections
import concurrent.futures
import functools
import pathlib
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

import tools
from jaxpose import coco
from jaxpose.checkpoints import packed, store
from jaxpose.data import augment
from jaxpose.data.images import decode
from jaxpose.data.prepared import open_split, read_example
from jaxpose.geometry import (
    IMAGE_RULE,
    Crop,
    apply_affine,
    crop_image,
    crop_to_image,
    example_crop,
    invert_affine,
)
from jaxpose.network import normalize
from jaxpose.predict.boxes import overlap
from jaxpose.predict.finder import STRIDE, Boxes, BoxMaps, FinderNet, find_boxes
from jaxpose.runtime.compilation import compiler_options
from tfds_builders import mat_file
from tfds_builders.coco import coco_dataset_builder
from tfds_builders.mpii.annotations import Person, persons
from tfds_builders.mpii.mpii_dataset_builder import validation_persons
from tfds_builders.report import Report

SIZE = 224  # side of a sample in pixels
IMAGE_SIZE = 384  # side of the network's input, which shows a whole image
STORED = 384  # longer side of the images in memory, at most
SEED = 0
HELD_OUT = 0.1  # fraction of the images that are held out
MPII_HEIGHT = 0.9  # median ratio of the longer side of the joints' box to `scale`
COCO_SIDE = 0.93  # ratio of a side of the joints' box to COCO's box, which includes hair and toes
SMALLEST = 10.0  # longer side in pixels below which a person has no weight in the loss
VISIBLE = 0.5  # visible fraction of a box below which a person has no weight in the loss
SIGMA = (
    0.1  # standard deviation of a target's Gaussian, as a fraction of the longer side of its box
)
# KINDS: probability of each kind of scene. BACKGROUND: weight of the cells outside of its boxes.
KINDS = {"mpii": 0.5, "coco": 0.2, "single": 0.18, "empty": 0.12}
BACKGROUND = {"mpii": 0.3, "coco": 0.6, "single": 0.3, "empty": 1.0}
# A crop's size is drawn so that the longer side of its person has so many pixels in the sample,
PERSON_SIDES = (24.0, 240.0)
WINDOWS = (0.5, 1.15)  # or so that its side is this multiple of the image's longer side.
MOSAICS = 0.35  # fraction of samples that are mosaics
LOG_EVERY = 25  # steps
EVALUATED = 100  # held-out images of each kind that are evaluated


class Scene(NamedTuple):
    """An image with the boxes of its people.

    Attributes:
      image: uint8 [H, W, 3].
      boxes: float64 [N, 4] (x, y, width, height) in pixels.
      unsure: float64 [M, 4], regions that may contain people without a box.
      kind: a key of `KINDS`.
    """

    image: np.ndarray
    boxes: np.ndarray
    unsure: np.ndarray
    kind: str


class Targets(NamedTuple):
    """Targets of the maps for one sample, or for a batch (with a leading axis). Units are cells.

    Attributes:
      heat: float32 [H, W], Gaussians with the value 1 in the cells of the people's centers.
      weight: float32 [H, W], weight of each cell in the loss of the center map.
      offset: float32 [H, W, 2], as in `BoxMaps`.
      log_size: float32 [H, W, 2], as in `BoxMaps`.
      near: float32 [H, W], weight of each cell in the loss of offset and size.
    """

    heat: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    log_size: np.ndarray
    near: np.ndarray


def stored(data: bytes, boxes: np.ndarray, unsure: np.ndarray, kind: str) -> Scene | None:
    """Decode an image and reduce it to `STORED` pixels; None if it cannot be decoded."""
    found = decode(data)
    if found is None:
        return None
    image, _ = found
    factor = min(1.0, STORED / max(image.shape[:2]))
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    boxes, unsure = (factor * np.reshape(b, (-1, 4)).astype(np.float64) for b in (boxes, unsure))
    return Scene(image, boxes, unsure, kind)


def mpii_box(person: Person) -> np.ndarray | None:
    """The box of six or more labeled joints; for fewer joints, a square of the annotated size."""
    if person.labeled.sum() >= 6:
        low, high = (f(person.keypoints[person.labeled], axis=0) for f in (np.min, np.max))
        return np.concatenate([low, np.maximum(high - low, 1.0)])
    if person.center is None or person.scale is None:
        return None
    side = MPII_HEIGHT * person.scale
    return np.concatenate([person.center - side / 2, [side, side]])


def mpii_scenes(folder: pathlib.Path) -> Iterator[tuple[str, Scene | None]]:
    """Yield split and scene of each of MPII's training images in a folder."""
    (annotations,) = sorted(folder.glob("mpii*.mat"))
    release = mat_file.read(annotations.read_bytes(), "RELEASE", annotations.name)
    by_image = collections.defaultdict(list)
    for person in persons(release, annotations.name, Report()):
        by_image[person.image_name].append(person)
    left_out = validation_persons()
    for name, group in by_image.items():
        file = folder / "images" / name
        if name in left_out or any(person.test for person in group) or not file.exists():
            continue
        boxes = [box for box in map(mpii_box, group) if box is not None]
        yield split_of(name), stored(file.read_bytes(), np.array(boxes), np.zeros(0), "mpii")


def coco_scenes(file: pathlib.Path, images: pathlib.Path) -> Iterator[tuple[str, Scene | None]]:
    """Yield split and scene of each image of a COCO file; ignored people become unsure regions."""
    by_image = collections.defaultdict(list)
    for annotation in coco.read_coco(file).annotations:
        by_image[annotation.image.file_name].append(annotation)
    for name, group in by_image.items():
        boxes, unsure = [], []
        for annotation in group:
            if annotation.box is None:
                continue
            x, y, width, height = annotation.box
            middle, size = (x + width / 2, y + height / 2), (COCO_SIDE * width, COCO_SIDE * height)
            joints = 0 if annotation.visibility is None else (annotation.visibility > 0).sum()
            sure = not annotation.ignore or (joints >= 6 and max(size) >= 48)
            chosen = boxes if sure and not annotation.crowd else unsure
            chosen.append((middle[0] - size[0] / 2, middle[1] - size[1] / 2, *size))
        data = (images / name).read_bytes()
        split = coco_dataset_builder.split_of(group[0].image, HELD_OUT)
        yield split, stored(data, np.array(boxes), np.array(unsure), "coco")


def single_scenes(name: str, data_dir: str, *, joints: int) -> Iterator[tuple[str, Scene | None]]:
    """Yield split and scene of a data set's training examples with enough labeled joints."""
    split = open_split(name, "train", data_dir=data_dir)
    for index in range(len(split.source)):
        example = read_example(split, index)
        points = np.asarray(example["keypoints"])[np.asarray(example["labeled"], bool)]
        if len(points) < joints:
            continue
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.concatenate([low, high - low])
        yield (
            split_of(f"{name} {example['image_name']}"),
            stored(example["image"], box, np.zeros(0), "single"),
        )


def empty_scenes(folder: pathlib.Path) -> Iterator[tuple[str, Scene | None]]:
    """Yield split and scene of the images without people in a folder."""
    for file in tools.jpegs(folder):
        yield split_of(file.name), stored(file.read_bytes(), np.zeros(0), np.zeros(0), "empty")


def split_of(name: str) -> str:
    """The split of an image, determined by its name."""
    return "validation" if zlib.crc32(name.encode()) % 1000 < 1000 * HELD_OUT else "train"


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def random_crop(rng: np.random.Generator, scene: Scene, side: float, window: bool) -> Crop:
    """Draw a square crop of a scene. The crop contains one of the people, if there are any.

    Args:
      rng: generator for the person, position, size and mirroring.
      scene: the scene.
      side: side of the sample in pixels.
      window: whether the crop's size is drawn relative to the image instead of the person.
    """
    height, width = scene.image.shape[:2]
    longer, person, target = max(width, height), max(width, height), side
    center, reach = np.array([width, height]) / 2, np.array([width, height]) / 4
    if len(scene.boxes):
        x, y, w, h = scene.boxes[rng.integers(len(scene.boxes))]
        center, person = np.array([x + w / 2, y + h / 2]), max(w, h)
        target = min(log_uniform(rng, PERSON_SIDES), 1.2 * side)
    length = min(side * person / target, 1.6 * longer)
    if window or not len(scene.boxes):
        length = longer * log_uniform(rng, WINDOWS)
    if len(scene.boxes):
        reach = np.full(2, max(length - person, 0.0) / 2)
    x, y = center + rng.uniform(-1, 1, 2) * reach
    return Crop((float(x), float(y)), float(length), flip=bool(rng.random() < 0.5))


def shown(scene: Scene, crop: Crop, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop a scene: image [size, size, 3], boxes and unsure regions in pixels of the crop."""
    image = crop_image(scene.image, crop, size)
    into = invert_affine(crop_to_image(crop))
    boxes = []
    for given in (scene.boxes, scene.unsure):
        corners = np.stack([given[:, :2], given[:, :2] + given[:, 2:]], axis=1)  # [N, 2, 2]
        moved = size * apply_affine(np.broadcast_to(into, (len(given), 2, 3)), corners)
        low, high = moved.min(axis=1), moved.max(axis=1)
        boxes.append(np.concatenate([low, high - low], axis=1))
    return image, boxes[0], boxes[1]


def clipped(boxes: np.ndarray, left: float, top: float, right: float, bottom: float):
    """Clip boxes to a rectangle; returns them and the fraction of each that is inside."""
    low = boxes[:, :2].clip((left, top), (right, bottom))
    high = (boxes[:, :2] + boxes[:, 2:]).clip((left, top), (right, bottom))
    inside = np.prod(high - low, axis=1) / np.maximum(np.prod(boxes[:, 2:], axis=1), 1e-9)
    return np.concatenate([low, high - low], axis=1), inside


def targets(boxes: np.ndarray, unsure: np.ndarray, background: np.ndarray) -> Targets:
    """Compute the targets of a sample.

    Args:
      boxes: [N, 4] in cells.
      unsure: [M, 4] in cells; cells inside have weight 0 in the loss of the center map.
      background: [H, H], weight of the cells outside of all boxes.
    """
    cells = len(background)
    middle = np.arange(cells) + 0.5
    weight = background.astype(np.float32).copy()
    for x, y, w, h in unsure:
        inside = (abs(middle - y - h / 2) <= h / 2)[:, None] & (abs(middle - x - w / 2) <= w / 2)
        weight[inside] = 0.0
    heat = np.zeros((cells, cells), np.float32)
    near = np.zeros((cells, cells), np.float32)
    offset, log_size = (np.zeros((cells, cells, 2), np.float32) for _ in range(2))
    for x, y, w, h in boxes:
        center = np.array([x + w / 2, y + h / 2])
        sigma = max(SIGMA * max(w, h), 0.6)
        steps = center - np.stack(np.meshgrid(middle, middle), axis=-1)
        value = np.exp(-(steps**2).sum(axis=-1) / (2 * sigma**2)).astype(np.float32)
        column, row = np.clip(center, 0, cells - 1).astype(int)
        value[row, column] = 1.0
        here = value > heat
        heat[here] = value[here]
        near[here] = np.where(value[here] > 0.3, value[here], near[here])
        offset[here] = steps[here]
        log_size[here] = np.log(np.maximum((w, h), 0.5))
    weight = np.maximum(weight, heat >= 0.3)
    return Targets(heat, weight, offset, log_size, near)


def sample(rng: np.random.Generator, scenes: dict[str, list[Scene]]) -> tuple[np.ndarray, Targets]:
    """Draw one training sample: a crop of a scene, or a mosaic of four."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    background = np.zeros((SIZE // STRIDE, SIZE // STRIDE), np.float32)
    boxes, unsure = [], []
    mosaic, cells = rng.random() < MOSAICS, SIZE // STRIDE
    xs = ys = [0, SIZE]
    if mosaic:
        x, y = (int(STRIDE * rng.integers(cells // 4, cells - cells // 4 + 1)) for _ in range(2))
        xs, ys = [0, x, SIZE], [0, y, SIZE]
    kinds, chances = list(KINDS), list(KINDS.values())
    for left, right in zip(xs, xs[1:], strict=False):
        for top, bottom in zip(ys, ys[1:], strict=False):
            kind = kinds[rng.choice(len(kinds), p=chances)]
            scene = scenes[kind][rng.integers(len(scenes[kind]))]
            side = max(right - left, bottom - top)
            window = not mosaic and kind == "mpii"
            part, known, maybe = shown(scene, random_crop(rng, scene, side, window), side)
            augment.color(rng, part, 0.35)
            part = part[: bottom - top, : right - left]
            image[top:bottom, left:right] = part
            rows, columns = (
                slice(a // STRIDE, b // STRIDE) for a, b in ((top, bottom), (left, right))
            )
            background[rows, columns] = BACKGROUND[kind]
            known, inside = clipped(known + (left, top, 0, 0), left, top, right, bottom)
            maybe, _ = clipped(maybe + (left, top, 0, 0), left, top, right, bottom)
            sought = (inside >= VISIBLE) & (known[:, 2:].max(axis=1, initial=0) >= SMALLEST)
            boxes.append(known[sought])
            unsure += [maybe, known[~sought]]
    known, maybe = np.concatenate(boxes) / STRIDE, np.concatenate(unsure) / STRIDE
    return image, targets(known, maybe, background)


def batch(
    scenes: dict[str, list[Scene]], size: int, seed: int, step: int
) -> tuple[np.ndarray, Targets]:
    """Draw the images [B, S, S, 3] and targets of one training step."""
    rng = np.random.default_rng((seed, step))
    images, wanted = zip(*(sample(rng, scenes) for _ in range(size)), strict=True)
    return np.stack(images), Targets(*(np.stack(values) for values in zip(*wanted, strict=True)))


def loss(maps: BoxMaps, wanted: Targets) -> tuple[jax.Array, jax.Array]:
    """Penalty-reduced focal loss of the center maps, and L1 loss of offset and size."""
    log_p = jax.nn.log_sigmoid(maps.center_logits)
    log_q = jax.nn.log_sigmoid(-maps.center_logits)
    p = jnp.exp(log_p)
    at_center = wanted.heat >= 1.0
    positive = jnp.where(at_center, (1 - p) ** 2 * log_p, 0.0)
    negative = jnp.where(at_center, 0.0, (1 - wanted.heat) ** 4 * p**2 * log_q)
    count = jnp.maximum(at_center.sum(), 1)
    center = -(wanted.weight * (positive + negative)).sum() / count
    error = abs(maps.offset - wanted.offset) / jnp.exp(wanted.log_size.max(axis=-1, keepdims=True))
    error = 2.0 * error.sum(axis=-1) + abs(maps.log_size - wanted.log_size).sum(axis=-1)
    return center, (wanted.near * error).sum() / jnp.maximum(wanted.near.sum(), 1.0)


def initial(name: str) -> tuple[FinderNet, dict]:
    """Initialize a network; stem and features are those of a pose network."""
    _, pose, metadata, _ = store.load_network(packed.path(name))
    net = FinderNet(metadata.network["width"], metadata.network["kernel_size"])
    drawn = jax.jit(net.init)(jax.random.key(SEED), jnp.zeros((1, 64, 64, 3)))
    variables = {kind: dict(values) for kind, values in drawn.items()}
    for kind in ("params", "batch_stats"):
        variables[kind]["stem"] = pose[kind]["stem"]
        variables[kind]["block"] = pose[kind]["block1_a"]
        variables[kind]["separable"] = pose[kind]["block1_b"]["separable"]
    variables["params"]["boxes"] = 0.1 * np.asarray(variables["params"]["boxes"])
    bias = np.array([-4.0, 0.0, 0.0, 1.5, 2.2], np.float32)  # low probability, typical size
    variables["params"]["bias"] = bias
    return net, jax.tree.map(jnp.asarray, variables)


def train(net, variables, scenes, *, steps, batch_size, rate, output):
    """Train the network; returns the exponential moving average of its variables."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 20, steps, rate / 100)
    frozen = {"stem": "frozen"}
    labels = {name: frozen.get(name, "free") for name in variables["params"]}
    optimizer = optax.multi_transform(
        {
            "free": optax.chain(
                optax.clip_by_global_norm(5.0), optax.adamw(schedule, weight_decay=1e-4)
            ),
            "frozen": optax.set_to_zero(),
        },
        labels,
    )
    state = optimizer.init(variables["params"])
    average = variables["params"]

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def update(variables, average, state, images, wanted, decay):
        def total(params):
            maps, new = net.apply(
                {**variables, "params": params},
                normalize(images),
                train=True,
                mutable=["batch_stats"],
            )
            center, size = loss(maps, wanted)
            return center + size, (new["batch_stats"], center, size)

        grads, (statistics, center, size) = jax.grad(total, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        average = optax.incremental_update(params, average, 1 - decay)
        return {"params": params, "batch_stats": statistics}, average, state, center, size

    sums, start = np.zeros(2), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        draw = functools.partial(batch, scenes, batch_size, SEED)
        following = pool.submit(draw, 0)
        for step in range(steps):
            images, wanted = following.result()
            following = pool.submit(draw, step + 1)
            decay = min(0.99, (1 + step) / (10 + step))
            variables, average, state, center, size = update(
                variables, average, state, images, wanted, decay
            )
            sums += [float(center), float(size)]
            if (step + 1) % LOG_EVERY == 0:
                seconds = (time.perf_counter() - start) / (step + 1)
                center, size = sums / LOG_EVERY
                print(
                    f"step {step + 1}: center loss {center:.3f}, box loss {size:.3f}, "
                    f"{seconds:.2f} s/step",
                    flush=True,
                )
                sums[:] = 0
            if (step + 1) % 100 == 0 or step + 1 == steps:
                best = {"params": average, "batch_stats": variables["batch_stats"]}
                save(net, best, output)
    return {"params": average, "batch_stats": variables["batch_stats"]}


def save(net: FinderNet, variables: dict, path: pathlib.Path) -> None:
    """Write the file that `jaxpose.predict.finder.load` reads."""
    record = {
        "network": {"width": net.width, "kernel_size": net.kernel_size},
        "image_size": IMAGE_SIZE,
    }
    packed.pack_record(variables, record, path)


def evaluate(net, variables, scenes: dict[str, list[Scene]]) -> None:
    """Print the recall on held-out images, and percentiles of each image's highest probability."""

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def boxes_of(images) -> Boxes:
        return find_boxes(net, variables, images)

    for kind, group in scenes.items():
        found_at = {n: [] for n in (1, 3, 5, 8, 20)}
        sides, highest, centers = [], [], []
        for scene in group[:EVALUATED]:
            crop = example_crop({"image": scene.image}, IMAGE_RULE)
            image, known, _ = shown(scene, crop, IMAGE_SIZE)
            box, probability = (np.asarray(x)[0] for x in boxes_of(image[None]))
            box = IMAGE_SIZE * box.astype(np.float64)
            highest.append(probability[0])
            for person in known:
                alike = np.array([overlap(person, b) for b in box])
                for n, values in found_at.items():
                    values.append(alike[:n].max() >= 0.5)
                best = box[alike.argmax()]
                sides.append(np.log(best[2:].max() / person[2:].max()))
                centers.append(
                    np.linalg.norm(best[:2] + best[2:] / 2 - person[:2] - person[2:] / 2)
                    / person[2:].max()
                )
        ranks = (5, 25, 50, 75, 95)
        print(
            f"{kind}: evaluated on {len(highest)} of {len(group)} held-out images; probability of "
            f"the most probable box of an image, percentiles {', '.join(map(str, ranks))}: "
            f"{np.percentile(highest, ranks).round(2)}"
        )
        if sides:
            text = ", ".join(f"{n}: {100 * np.mean(v):.1f}" for n, v in found_at.items())
            print(f"  recall (%) of the N most probable boxes, by N: {text}")
            side, center = (np.percentile(np.abs(e), [50, 80]) for e in (sides, centers))
            print(
                "  for each annotated box, the predicted box with the largest overlap: absolute "
                f"error of log(longer side), median {side[0]:.3f}, 80th percentile {side[1]:.3f}; "
                "distance between the centers, as a fraction of the annotated longer side, median "
                f"{center[0]:.3f}, 80th percentile {center[1]:.3f}"
            )


def all_scenes(arguments) -> dict[str, dict[str, list[Scene]]]:
    """Load the scenes of all data sets: by split, then by kind."""
    found = {split: {kind: [] for kind in KINDS} for split in ("train", "validation")}
    sources = [
        *map(mpii_scenes, arguments.mpii),
        coco_scenes(*arguments.coco),
        single_scenes("lsp/person_centric", arguments.data_dir, joints=14),
        single_scenes("coco/parse", arguments.data_dir, joints=14),
        single_scenes("lspet", arguments.data_dir, joints=14),
        empty_scenes(arguments.no_person),
    ]
    for source in sources:
        for split, scene in source:
            if scene is not None:
                found[split][scene.kind].append(scene)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Train a finder, write it to a file and evaluate it."""
    parser = tools.parser("train_finder", __doc__)
    parser.add_argument(
        "--data_dir",
        required=True,
        help="folder of the prepared data sets lsp/person_centric, lspet and coco/parse",
    )
    parser.add_argument(
        "--mpii",
        type=pathlib.Path,
        nargs="+",
        required=True,
        help="folders with MPII's annotation file, and its images in images/; MPII's validation "
        "and test images are excluded",
    )
    parser.add_argument(
        "--coco",
        type=pathlib.Path,
        nargs=2,
        required=True,
        metavar=("FILE", "DIR"),
        help="annotation file in COCO's format and folder of its images",
    )
    parser.add_argument(
        "--no_person", type=pathlib.Path, required=True, help="folder of JPEGs without people"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, required=True, help="file of the network (.npz) to write"
    )
    parser.add_argument(
        "--start",
        default="small",
        help="pose network that ships with jaxpose, to initialize from (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=1000, help="training steps (default: %(default)s)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="samples per step (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=1e-3, help="peak learning rate (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    tools.jpegs(options.no_person)  # before anything takes long
    scenes = all_scenes(options)
    for split, kinds in scenes.items():
        print(split, {kind: len(group) for kind, group in kinds.items()}, flush=True)
    net, variables = initial(options.start)
    variables = train(
        net, variables, scenes["train"], steps=options.steps, batch_size=options.batch_size,
        rate=options.rate, output=options.output,
    )  # fmt: skip
    evaluate(net, variables, scenes["validation"])


if __name__ == "__main__":
    tools.run(main)
