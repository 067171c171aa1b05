"""Persons (or anything with keypoints) from a JSON file in COCO's format and its images."""

import collections
import json
import pathlib
import re
import zlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import joints, pictures, pose_builder, schema
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, Folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class CocoConfig(tfds.core.BuilderConfig):
    """One annotation file.

    Attributes:
      joint_set: names, flip pairs and limbs of its category.
      holdout: fraction of the source images that makes the split "validation".
    """

    def __init__(self, *, joint_set: joints.JointSet, holdout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.joint_set = joint_set
        self.holdout = holdout


class Person(NamedTuple):
    """An annotation, as the file has it, with its image's entry."""

    annotation: dict[str, Any]
    image: dict[str, Any]


class Builder(pose_builder.PoseBuilder):
    """Builds a data set from `--source ANNOTATIONS.json --images DIR`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the annotation file and its images into the folder."

    def __init__(self, *, images: str = "", **kwargs: Any):
        self.images = images
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        joint_set = self.builder_config.joint_set
        extra = {
            "area": tfds.features.Scalar(np.float32, doc="of the person, in square pixels"),
            "annotation_id": tfds.features.Text(doc="id of the annotation in the file"),
            "image_id": tfds.features.Text(doc="id of the image in the file"),
        }
        return self.dataset_info_from_configs(
            features=schema.features(len(joint_set.joints), extra),
            metadata=schema.metadata(joint_set, release=self.builder_config.description),
            homepage="https://cocodataset.org",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        content = read_annotations(self.sources[0])
        folder = Folder(pathlib.Path(self.images or pathlib.Path(self.sources[0]).parent))
        persons = self._persons(content, set(folder.names))
        splits = collections.defaultdict(list)
        for person in persons:
            splits[split_of(person.image, self.builder_config.holdout)].append(person)
        return {
            split: self.counted(
                split, self._generate_examples(folder, splits[split]), len(splits[split])
            )
            for split in sorted(splits)
        }

    def _persons(self, content: dict[str, Any], names: set[str]) -> list[Person]:
        """The annotations that make examples; the others are counted by reason."""
        images = {image["id"]: image for image in content["images"]}
        count = 3 * len(self.builder_config.joint_set.joints)
        persons, missing = [], {}
        for annotation in content["annotations"]:
            who = f"annotation {annotation.get('id')}"
            image = images.get(annotation.get("image_id"))
            if annotation.get("iscrowd"):
                self.report.leave_out("crowd", who)
            elif annotation.get("ignore"):
                self.report.leave_out("marked ignore", who)
            elif image is None:
                self.report.leave_out("image not in the file", who)
            elif image["file_name"] not in names:
                missing[image["file_name"]] = None
            elif len(annotation.get("keypoints", ())) != count:
                self.report.leave_out("without keypoints", who)
            elif not any(annotation["keypoints"][2::3]):
                self.report.leave_out("no labeled joint", who)
            else:
                persons.append(Person(annotation, image))
        for name in missing:
            self.refuse_if_strict(f"{name} is not among the images")
        self.report.missing += missing
        return persons

    def _generate_examples(self, files: Files, persons: list[Person]):
        by_image = collections.defaultdict(list)
        for person in persons:
            by_image[person.image["file_name"]].append(person)
        requests = [(name, files, name) for name in by_image]
        key = 0
        for name, picture in self.read_pictures(requests, lambda data, _: pictures.prepare(data)):
            for number, person in enumerate(by_image[name]):
                yield key, _example(picture, name, number, person)
                key += 1


def configure(source: str, *, name: str = "", holdout: float = 0.0) -> CocoConfig:
    """The configuration that an annotation file asks for.

    Args:
      source: path of the JSON file.
      name: of the configuration: the data set becomes `coco/NAME`; by default the file's stem.
      holdout: fraction of the source images that makes the split "validation", from 0 to below 1.

    Raises:
      BuildError: the file is no keypoint annotation, or the name or the fraction is not usable.
    """
    name = name or pathlib.Path(source).stem
    if not _NAME.fullmatch(name):
        raise BuildError(f"--name {name!r} does not fit; use letters, digits, _ and -")
    if not 0 <= holdout < 1:
        raise BuildError(f"--holdout {holdout} does not fit; use a fraction from 0 to below 1")
    content = read_annotations(source)
    categories = [c for c in content["categories"] if c.get("keypoints")]
    if len(categories) != 1:
        raise BuildError(
            f"{source} has {len(categories)} categories with keypoints; it must have one"
        )
    (category,) = categories
    names = tuple(category["keypoints"])
    limbs = [(names[a - 1], names[b - 1]) for a, b in category.get("skeleton", ())]
    return CocoConfig(
        name=name,
        version="1.0.0",
        description=str(content.get("info", {}).get("description") or name),
        joint_set=joints.JointSet(names, joints.flip_pairs(names), tuple(limbs)),
        holdout=holdout,
    )


def read_annotations(source: str) -> dict[str, Any]:
    """The content of an annotation file.

    Raises:
      BuildError: it cannot be read, or is not in COCO's format.
    """
    try:
        content = json.loads(pathlib.Path(source).expanduser().read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"--source {source} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise BuildError(f"{source} lacks images, annotations or categories; give COCO's format")
    return content


def split_of(image: dict[str, Any], holdout: float) -> str:
    """The split of an image: all images of one source image are in the same one."""
    source = str(image.get("source_picture") or image["file_name"])
    return "validation" if zlib.crc32(source.encode()) % 1000 < 1000 * holdout else "train"


def _example(picture: pictures.Picture, name: str, number: int, person: Person) -> dict[str, Any]:
    annotation = person.annotation
    points = np.array(annotation["keypoints"], np.float32).reshape(-1, 3)
    labelled = points[:, 2] > 0
    # COCO's coordinates are pixel indices; the center of pixel 0 lies at 0.5.
    keypoints = np.where(labelled[:, None], points[:, :2] + 0.5, 0)
    box = np.array(annotation["bbox"], np.float32)
    return {
        "image": picture.data,
        "image_name": name,
        "person": number,
        "keypoints": keypoints.astype(np.float32),
        "labelled": labelled,
        "visible": points[:, 2] == 2,
        "box": box,
        "center": box[:2] + box[2:] / 2,
        "scale": box[2:].max(),
        "head_size": np.float32(0),
        "separated": True,
        "area": np.float32(annotation.get("area") or box[2] * box[3]),
        "annotation_id": str(annotation.get("id")),
        "image_id": str(annotation["image_id"]),
    }
