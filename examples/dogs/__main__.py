"""`python -m examples.dogs --out DIR`: draw dogs and their annotation file in COCO's format."""

import argparse
import json
import os
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

JOINTS = (
    *("nose", "withers", "tail_tip"),
    *("left_front_paw", "right_front_paw", "left_hind_paw", "right_hind_paw"),
)
LIMBS = (
    *(("nose", "withers"), ("withers", "tail_tip")),
    *(("withers", "left_front_paw"), ("withers", "right_front_paw")),
    *(("tail_tip", "left_hind_paw"), ("tail_tip", "right_hind_paw")),
)
SHIFT = 4  # fractional bits of coordinates in OpenCV's drawing functions
MARGIN = 0.06  # margin of the box around the joints, as a fraction of the dog's length


class Dog(NamedTuple):
    """A drawn dog.

    Attributes:
      image: uint8 [H, W, 3], BGR as OpenCV writes it.
      keypoints: [7, 2] in COCO's pixel indices, (x, y).
      box: x, y, width, height in pixels.
      inside: [7] whether the joint is in the image.
    """

    image: np.ndarray
    keypoints: np.ndarray
    box: np.ndarray
    inside: np.ndarray


def draw(rng: np.random.Generator) -> Dog:
    """Draw a dog from the side, on a background with clutter.

    Its left legs are the near ones if it looks to the left, otherwise the far ones, which are
    darker.
    """
    width, height = rng.integers(140, 260, 2).tolist()
    image = _background(rng, width, height)
    length = rng.uniform(0.4, 0.75) * min(width, height)
    looks_left = rng.random() < 0.5
    tilt = rng.uniform(-0.35, 0.35)
    middle = np.array([width, height]) * rng.uniform(0.42, 0.58, 2)

    # In units of the body's length, x toward the nose and y down.
    withers, rump = np.array([0.35, 0.0]), np.array([-0.35, rng.uniform(-0.05, 0.05)])
    nose = withers + [rng.uniform(0.2, 0.38), rng.uniform(-0.35, 0.1)]
    tail = rump + [rng.uniform(-0.4, -0.15), rng.uniform(-0.4, 0.15)]
    shoulder, hip = withers + [0, 0.12], rump + [0.03, 0.12]
    near_front, far_front, near_hind, far_hind = (
        hip_or_shoulder + [rng.uniform(-0.2, 0.2), rng.uniform(0.38, 0.5)]
        for hip_or_shoulder in (shoulder, shoulder, hip, hip)
    )
    cosine, sine = np.cos(tilt), np.sin(tilt)
    turn = length * np.array([[cosine, -sine], [sine, cosine]])
    if looks_left:
        turn = np.diag([-1, 1]) @ turn

    def place(*points):
        return middle + np.array(points) @ turn.T

    fur = rng.integers(60, 220, 3)
    thick = 0.07 * length
    _line(image, place(shoulder, far_front), 0.6 * fur, thick)
    _line(image, place(hip, far_hind), 0.6 * fur, thick)
    _line(image, place(rump, tail), fur, 0.6 * thick)
    _line(image, place(withers + [-0.02, 0.06], rump + [0.02, 0.06]), fur, 0.26 * length)
    _line(image, place(shoulder, near_front), fur, thick)
    _line(image, place(hip, near_hind), fur, thick)
    skull = nose - 0.45 * (nose - withers)
    _line(image, place(withers, skull), fur, 0.16 * length)
    _line(image, place(skull, skull), fur, 0.2 * length)
    _line(image, place(skull, nose), fur, 0.1 * length)
    _line(image, place(nose, nose), np.full(3, 20), 0.06 * length)

    front, hind = (near_front, far_front), (near_hind, far_hind)
    if not looks_left:  # the right legs are near
        front, hind = front[::-1], hind[::-1]
    points = place(nose, withers, tail, *front, *hind)
    inside = ((points >= 0) & (points < (width, height))).all(axis=1)
    seen = np.clip(points, 0, (width, height))
    low = np.clip(seen.min(axis=0) - MARGIN * length, 0, None)
    high = np.minimum(seen.max(axis=0) + MARGIN * length, (width, height))
    noise = rng.normal(0, 6, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return Dog(image, points - 0.5, np.concatenate([low, high - low]), inside)


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Draw a color gradient with some lines and disks, uint8 [H, W, 3]."""
    corners = rng.integers(40, 256, (2, 2, 3)).astype(np.uint8)
    image = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(2, 8)):
        start, end = rng.uniform(0, (width, height), (2, 2))
        end = end if rng.random() < 0.5 else start
        _line(image, np.array([start, end]), rng.integers(0, 256, 3), rng.uniform(3, 25))
    return image


def _line(image: np.ndarray, ends: np.ndarray, color: np.ndarray, thickness: float) -> None:
    """Draw a line [2, 2] with round ends, in pixels; a disk if both ends are the same."""
    (a, b) = (tuple(np.rint((end - 0.5) * 2**SHIFT).astype(int).tolist()) for end in ends)
    color = tuple(int(value) for value in color)
    cv2.line(image, a, b, color, max(1, round(thickness)), cv2.LINE_AA, SHIFT)
    for end in (a, b):
        radius = round(thickness / 2 * 2**SHIFT)
        cv2.circle(image, end, radius, color, -1, cv2.LINE_AA, SHIFT)


def write(folder: str | os.PathLike, *, images: int, seed: int = 0) -> pathlib.Path:
    """Draw dogs into a folder.

    Args:
      folder: folder for dogs.json, and the images in images/.
      images: number of images.
      seed: seed of the drawings.

    Returns:
      Path of the annotation file.
    """
    folder = pathlib.Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for number in range(1, images + 1):
        dog = draw(np.random.default_rng([seed, number]))
        name = f"dog_{number:04d}.jpg"
        (folder / "images" / name).write_bytes(cv2.imencode(".jpg", dog.image)[1].tobytes())
        height, width = dog.image.shape[:2]
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
        triples = np.column_stack([dog.keypoints, np.full(len(JOINTS), 2)])
        triples[~dog.inside] = 0
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "keypoints": triples.round(2).ravel().tolist(),
                "num_keypoints": int(dog.inside.sum()),
                "bbox": dog.box.round(2).tolist(),
                "area": round(float(dog.box[2] * dog.box[3]) / 2, 1),
                "iscrowd": 0,
            }
        )
    skeleton = [[JOINTS.index(a) + 1, JOINTS.index(b) + 1] for a, b in LIMBS]
    category = {"id": 1, "name": "dog", "keypoints": list(JOINTS), "skeleton": skeleton}
    content = {"images": entries, "annotations": annotations, "categories": [category]}
    path = folder / "dogs.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m examples.dogs", description=__doc__)
    parser.add_argument("--out", required=True, type=os.path.expanduser, help="folder to write")
    parser.add_argument("--images", type=int, default=200, help="number of images (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawings (default: 0)")
    options = parser.parse_args()
    path = write(options.out, images=options.images, seed=options.seed)
    print(f"{options.images} dogs are drawn in {path}")


if __name__ == "__main__":
    main()
