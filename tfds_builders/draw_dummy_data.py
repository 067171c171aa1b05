"""Draw the dummy data of lsp, lspet, mpii and coco: the releases' layouts with our own images.

    python -m tfds_builders.draw_dummy_data

writes them into NAME/dummy_data. Every labeled joint is a dot of its own color around its
pixel's center, so that a test can find it in the image. Writing .mat files needs SciPy.
"""

import colorsys
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import scipy.io

from tfds_builders.joints import LSP, MPII, JointSet

HERE = pathlib.Path(__file__).parent
RADIUS = 2  # a dot has (2 * RADIUS + 1) ** 2 pixels
EMPTY = np.zeros((0, 0))

# A standing person in units of its height, from the left and the top: (x, y) by joint.
FIGURE = {
    "head_top": (0.50, 0.00),
    "nose": (0.50, 0.08),
    "eye": (0.54, 0.05),
    "ear": (0.58, 0.07),
    "upper_neck": (0.50, 0.15),
    "neck": (0.50, 0.17),
    "thorax": (0.50, 0.21),
    "pelvis": (0.50, 0.52),
    "shoulder": (0.62, 0.20),
    "elbow": (0.72, 0.34),
    "wrist": (0.80, 0.46),
    "hip": (0.58, 0.52),
    "knee": (0.64, 0.75),
    "ankle": (0.62, 0.97),
}


COCO_JOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
).split()


def figure(joint_set: JointSet, left: int, top: int, height: int) -> np.ndarray:
    """Return 0-based pixel indices of a standing, frontal person's joints, int [J, 2], (x, y)."""
    points = []
    for name in joint_set.joints:
        side, _, part = name.partition("_")
        x, y = FIGURE[part if side in ("left", "right") else name]
        points.append((1 - x if side == "right" else x, y))
    return np.rint(np.array(points) * height).astype(int) + (left, top)


def color(joint: int, count: int) -> np.ndarray:
    """Return the RGB color of a joint's dot, uint8 [3]."""
    return np.rint(255 * np.array(colorsys.hsv_to_rgb(joint / count, 1, 1))).astype(np.uint8)


def draw_image(width: int, height: int, people: Sequence[np.ndarray]) -> np.ndarray:
    """Draw a gray gradient with a dot for every joint of the people, uint8 [H, W, 3], RGB."""
    slope = np.linspace(60, 120, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    image = np.repeat(slope, 3, axis=2).astype(np.uint8)
    for points in people:
        for joint, (x, y) in enumerate(points):
            rows = slice(max(0, y - RADIUS), max(0, y + RADIUS + 1))
            columns = slice(max(0, x - RADIUS), max(0, x + RADIUS + 1))
            image[rows, columns] = color(joint, len(points))
    return image


def shows(image: np.ndarray, joint: int, count: int, position: np.ndarray) -> bool:
    """Whether the pixel that covers a position (x, y) belongs to the joint's dot."""
    column, row = np.floor(position).astype(int)
    return bool(np.abs(image[row, column].astype(int) - color(joint, count)).max() < 40)


def jpeg(image: np.ndarray) -> bytes:
    """Encode an RGB image as JPEG, without chroma subsampling so that dots keep their colors."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 90]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes()


def mat(variables: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    """Write a .mat file of version 5."""
    file = io.BytesIO()
    scipy.io.savemat(file, dict(variables), do_compression=compressed, oned_as="row")
    return file.getvalue()


def structs(elements: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> np.ndarray:
    """Make a 1 x n struct array of MATLAB; missing fields of an element are empty.

    Args:
      elements: values by field, for each element.
      fields: order of the fields; by default the order of first appearance.
    """
    fields = list(fields) or list(dict.fromkeys(name for element in elements for name in element))
    array = np.empty((1, len(elements)), [(name, object) for name in fields])
    for index, element in enumerate(elements):
        for name in fields:
            array[0, index][name] = element.get(name, EMPTY)
    return array


def cells(values: Sequence[Any]) -> np.ndarray:
    """Make an n x 1 cell array of MATLAB."""
    array = np.empty((len(values), 1), object)
    for index, value in enumerate(values):
        array[index, 0] = value
    return array


def small(number: float) -> np.ndarray | float:
    """Convert a number to the type that the release uses: integers to the smallest that fits."""
    for dtype in (np.uint8, np.uint16):
        if 0 <= number <= np.iinfo(dtype).max and number == int(number):
            return dtype(number)
    return float(number)


def write_leeds(folder: pathlib.Path, digits: int, numbers: Sequence[int], joints: np.ndarray):
    """Write images and joints.mat.

    Args:
      folder: folder of the release.
      digits: number of digits in file names.
      numbers: numbers of the images, from 1.
      joints: content of joints.mat, x and y from 0, in either axis order.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    by_image = joints if joints.shape[0] == 3 else joints.transpose(1, 0, 2)
    for number in numbers:
        points = by_image[:2, :, number - 1].T.astype(int)
        image = draw_image(70 + number % 7, 90 + number % 5, [points])
        (folder / f"images/im{number:0{digits}d}.jpg").write_bytes(jpeg(image))
    (folder / "joints.mat").write_bytes(mat({"joints": joints}))


def draw_lsp(folder: pathlib.Path) -> None:
    """Draw four images: two of train, one of validation, one of test; write both joint files."""
    numbers = (1, 2, 20, 1001)
    joints = np.zeros((3, 14, max(numbers)))
    for number in numbers:
        joints[:2, :, number - 1] = figure(LSP, 3 + number % 3, 6, 70).T
    joints[2, 1, 1] = 1  # the right knee of the second image is occluded
    write_leeds(folder, 4, numbers, joints)
    exchanged = joints.copy()
    exchanged[:, :6, 0] = joints[:, 5::-1, 0]  # the first image's legs
    (folder / "lsp-joints-OC.mat").write_bytes(mat({"joints": exchanged}))


def draw_lspet(folder: pathlib.Path) -> None:
    """Draw three images: two of train, one of validation; a joint of the second is not labeled."""
    numbers = (1, 2, 20)
    joints = np.zeros((14, 3, max(numbers)))
    for number in numbers:
        joints[:, :2, number - 1] = figure(LSP, 2 + number % 4, 5, 72)
        joints[:, 2, number - 1] = 1
    joints[6, :, 1] = (-9, 0, 0)  # the corner of the image padded to a square
    write_leeds(folder, 5, numbers, joints)


def mpii_person(points: np.ndarray, **others: Any) -> dict[str, Any]:
    """Make a complete element of annorect.

    Args:
      points: pixel indices from 0 of the 16 joints, (x, y).
      **others: further fields, or other values of those given here.
    """
    one_based = points + 1
    low, high = one_based.min(axis=0), one_based.max(axis=0)
    middle, height = np.rint((low + high) / 2), high[1] - low[1]
    point = [
        {"x": small(x), "y": small(y), "id": small(joint), "is_visible": small(1)}
        for joint, (x, y) in enumerate(one_based)
    ]
    head = one_based[9]
    return {
        "x1": small(head[0] - 6),
        "y1": small(head[1]),
        "x2": small(head[0] + 6),
        "y2": small(head[1] + 16),
        "annopoints": structs([{"point": structs(point)}]),
        "scale": height / 200,
        "objpos": structs([{"x": small(middle[0]), "y": small(middle[1])}]),
        **others,
    }


def mpii_release(images: Sequence[tuple[str, bool, Sequence[Mapping], Sequence[int]]]) -> dict:
    """Make the variable of MPII's annotation file.

    Args:
      images: name, whether in training, elements of annorect, numbers from 1 of the sufficiently
        separated persons.
    """
    return {
        "RELEASE": structs(
            [
                {
                    "annolist": structs(
                        [
                            {
                                "image": structs([{"name": name}]),
                                "annorect": structs(people) if people else EMPTY,
                                "frame_sec": np.uint8(0),
                                "vididx": np.uint8(1),
                            }
                            for name, _, people, _ in images
                        ]
                    ),
                    "img_train": np.array([[training for _, training, *_ in images]], np.uint8),
                    "version": "12",
                    "single_person": cells(
                        [np.array(single, np.uint8).reshape(-1, 1) for *_, single in images]
                    ),
                }
            ]
        )
    }


def draw_mpii(folder: pathlib.Path) -> None:
    """Draw three images: two persons of train, one of validation, one of neither, two of test."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    one, other = figure(MPII, 4, 8, 80), figure(MPII, 84, 6, 76)
    people = [mpii_person(one), mpii_person(other)]
    unlabeled = [{key: person[key] for key in ("scale", "objpos")} for person in people]
    images = [
        ("100000001.jpg", True, people, [1, 2]),
        ("000040154.jpg", True, people, [1]),  # a name and a person of the validation split
        ("200000001.jpg", False, unlabeled, []),
    ]
    for name, *_ in images:
        (folder / "images" / name).write_bytes(jpeg(draw_image(168, 96, [one, other])))
    (folder / "mpii_human_pose_v1_u12_1.mat").write_bytes(mat(mpii_release(images)))


def coco_person(number: int, image_id: int, points: np.ndarray, **others: Any) -> dict[str, Any]:
    """Make an annotation of a person.

    Args:
      number: id of the annotation.
      image_id: id of the image.
      points: pixel indices from 0 of the 17 joints, (x, y).
      **others: further fields, or other values of those given here.
    """
    low, high = points.min(axis=0) - 4, points.max(axis=0) + 5
    width, height = (high - low).tolist()
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": np.column_stack([points, np.full(len(points), 2)]).ravel().tolist(),
        "num_keypoints": len(points),
        "bbox": [*low.tolist(), width, height],
        "area": width * height / 2,
        "iscrowd": 0,
        "segmentation": [],
        **others,
    }


def draw_coco(folder: pathlib.Path) -> None:
    """Draw two images of train2017 with three persons and a crowd, one image of val2017."""
    joint_set = JointSet(tuple(COCO_JOINTS), (), ())
    one, other = figure(joint_set, 2, 8, 200), figure(joint_set, 152, 6, 196)
    hidden = coco_person(4, 72, other)
    hidden["keypoints"][:3] = [0, 0, 0]  # the nose has no label, the left eye is hidden
    hidden["keypoints"][5] = 1
    region = coco_person(5, 72, one, iscrowd=1, keypoints=[0] * 51, num_keypoints=0)
    region["segmentation"] = {"counts": [10, 20, 72770], "size": [220, 330]}
    parts = {
        "train2017": ({9: [one, other], 72: [other]}, [
            coco_person(2, 9, one), coco_person(3, 9, other), hidden, region,
        ]),
        "val2017": ({139: [one]}, [coco_person(6, 139, one)]),
    }  # fmt: skip
    limbs = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8]]
    limbs += [[7, 9], [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]
    category = {"id": 1, "name": "person", "supercategory": "person"}
    category |= {"keypoints": COCO_JOINTS, "skeleton": limbs}
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, (images, annotations) in parts.items():
        (folder / part).mkdir(exist_ok=True)
        entries = []
        for image_id, people in images.items():
            name = f"{image_id:012d}.jpg"
            (folder / part / name).write_bytes(jpeg(draw_image(330, 220, people)))
            entries.append({"id": image_id, "file_name": name, "width": 330, "height": 220})
        content = {
            "info": {"description": "drawn for tests", "year": 2017},
            "images": entries,
            "annotations": annotations,
            "categories": [category],
        }
        text = json.dumps(content) + "\n"
        (folder / f"annotations/person_keypoints_{part}.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Write the dummy data of the four data sets."""
    drawings = {"lsp": draw_lsp, "lspet": draw_lspet, "mpii": draw_mpii, "coco": draw_coco}
    for name, draw in drawings.items():
        draw(HERE / name / "dummy_data")


if __name__ == "__main__":
    main()
