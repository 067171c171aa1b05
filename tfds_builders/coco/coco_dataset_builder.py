"""Persons (or anything with keypoints) from JSON files in COCO's format and their images."""

import argparse
import collections
import pathlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxpose import coco
from jaxpose.errors import JaxposeError
from tfds_builders import image_files, joints, pose_builder, schema
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, Folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SIGMAS = {  # of OKS, as COCO defines them
    **{"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072},
    **{"wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089},
}


class CocoConfig(tfds.core.BuilderConfig):
    """What is made of the annotation files.

    Attributes:
      files: path of the annotation file of each split.
      images: folder of the images; "" is that of the annotation file.
      category: id and name of the category.
      joint_set: names, flip pairs and limbs of the category.
      sigmas: of OKS, one a joint, or () where they are not known.
      holdout: fraction of the source images of "train" that makes the split "validation".
      min_joints: annotations with fewer labeled joints make no example.
      min_side: neither do those whose box's longer side is shorter, in pixels.
    """

    def __init__(
        self,
        *,
        files: Mapping[str, str],
        joint_set: joints.JointSet,
        images: str = "",
        category: tuple[int | str, str] = (1, "person"),
        sigmas: Sequence[float] = (),
        holdout: float = 0.0,
        min_joints: int = 1,
        min_side: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.files = dict(files)
        self.images = images
        self.category = category
        self.joint_set = joint_set
        self.sigmas = tuple(sigmas)
        self.holdout = holdout
        self.min_joints = min_joints
        self.min_side = min_side


class Builder(pose_builder.PoseBuilder):
    """Builds a data set from `--source ANNOTATIONS.json --images DIR`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the annotation file and its images into the folder."

    @classmethod
    def configure(cls, name, options):
        if not (options.source or options.split):
            raise cls.missing_source()
        return configure(options, name), {}

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        extra = {
            "area": tfds.features.Scalar(np.float32, doc="of the person, in square pixels"),
            "annotation_id": tfds.features.Text(doc="id of the annotation in the file"),
            "image_id": tfds.features.Text(doc="id of the image in the file"),
        }
        return self.dataset_info_from_configs(
            features=schema.features(len(config.joint_set.joints), extra),
            metadata=schema.metadata(
                config.joint_set,
                release=config.description,
                sigmas=config.sigmas,
                category=config.category,
            ),
            homepage="https://cocodataset.org",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        splits: dict[str, tuple[Folder, list[tuple[coco.Annotation, str]]]] = {}
        ignored: dict[str, list[dict[str, Any]]] = {}
        for split, path in config.files.items():
            folder = Folder(pathlib.Path(config.images or pathlib.Path(path).parent))
            found, others = self._annotations(path, folder)
            targets = {}
            for annotation, name in found:
                target = split
                if split == "train" and config.holdout:
                    target = split_of(annotation.image, config.holdout)
                targets[coco.id_key(annotation.image.id)] = target
                splits.setdefault(target, (folder, []))[1].append((annotation, name))
            for annotation in others:
                target = targets.get(coco.id_key(annotation.image.id))
                if target is not None:
                    ignored.setdefault(target, []).append(_ignored(annotation))
        if not splits:
            raise BuildError(f"{', '.join(config.files.values())}: no annotation makes an example")
        self.info.metadata["ignored"] = ignored  # OKS-AP counts them as crowds
        pairs = ", ".join(f"{a} - {b}" for a, b in config.joint_set.flip_pairs) or "none"
        self.report.notes = [
            f"joints: {', '.join(config.joint_set.joints)}",
            f"exchanged by a mirror: {pairs}",
        ]
        return {
            split: self.counted(split, self._generate_examples(folder, found), len(found))
            for split, (folder, found) in sorted(splits.items())
        }

    def _annotations(
        self, path: str, folder: Folder
    ) -> tuple[list[tuple[coco.Annotation, str]], list[coco.Annotation]]:
        """The annotations of a file that make examples, each with the name of its image.

        The others are counted by reason. Those of them that a prediction may be for are returned.
        """
        config = self.builder_config
        selected = select(path, config.category[1])
        if selected.category is None or selected.category.joints != config.joint_set.joints:
            raise BuildError(f"{path} has other joints than {next(iter(config.files.values()))}")
        for reason, entries in selected.dropped.items():
            for entry in entries:
                self.refuse_if_strict(f"{path}: {entry}: {reason}")
                self.report.leave_out(reason, entry)
        names = [annotation.image.file_name for annotation in selected.annotations]
        found, lacking = coco.find_files(names, folder.path)
        for name, reason in lacking.items():
            self.refuse_if_strict(f"{name} is {reason} below {folder.path}")
            self.report.missing.append(f"{name} ({reason})")
        kept, others = [], list(selected.ignored)
        for annotation in selected.annotations:
            labeled = int((annotation.visibility > 0).sum())
            if annotation.image.file_name in lacking:
                self.report.leave_out("image file missing", annotation.name)
            elif labeled < config.min_joints:
                self.report.leave_out(
                    f"fewer than {config.min_joints} labeled joints", annotation.name
                )
                others.append(annotation)
            elif annotation.box[2:].max() < config.min_side:
                self.report.leave_out(f"smaller than {config.min_side:g} pixels", annotation.name)
                others.append(annotation)
            else:
                file = found[annotation.image.file_name]
                kept.append((annotation, file.relative_to(folder.path).as_posix()))
        return kept, others

    def _generate_examples(self, files: Files, found: list[tuple[coco.Annotation, str]]):
        by_image = collections.defaultdict(list)
        for annotation, name in found:
            by_image[name].append(annotation)
        requests = [(name, files, name) for name in by_image]
        key = 0
        for name, image in self.read_images(requests, lambda data, _: image_files.prepare(data)):
            for number, annotation in enumerate(by_image[name]):
                yield key, _example(image, name, number, annotation)
                key += 1


def configure(options: argparse.Namespace, config: str = "") -> CocoConfig:
    """The configuration that the command's options and the annotation file ask for.

    Args:
      options: of `python -m tfds_builders`.
      config: name of the configuration where `--name` is not given: the data set becomes
        `coco/NAME`. By default it is the first file's stem.

    Raises:
      BuildError: a file has no keypoint annotations, or an option does not fit.
    """
    files = _files(options.source, options.split)
    first = next(iter(files.values()))
    name = options.config_name or config or pathlib.Path(first).stem
    if not _NAME.fullmatch(name):
        raise BuildError(f"--name {name!r} does not fit; use letters, digits, _ and -")
    if not 0 <= options.holdout < 1:
        raise BuildError(f"--holdout {options.holdout} does not fit; use a fraction below 1")
    if options.holdout and "validation" in files:
        raise BuildError("--holdout makes the split validation, which --split gives already")
    category = select(first, options.category).category
    if category is None or not category.joints:
        raise BuildError(
            f"{first} names no joints; its categories need keypoints (and skeleton), as COCO has"
        )
    names = category.joints
    pairs = _pairs(options.flip_pair, "--flip_pair", names)
    limbs = _pairs(options.limb, "--limb", names)
    sigmas = _sigmas(options.sigmas, names)
    return CocoConfig(
        name=name,
        version="1.0.0",
        description=f"{name}: {category.name} in COCO's format",
        files=files,
        images=options.images,
        category=(category.id, category.name),
        joint_set=joints.JointSet(
            names,
            joints.flip_pairs(names) if pairs is None else pairs,
            category.limbs if limbs is None else limbs,
        ),
        sigmas=sigmas,
        holdout=options.holdout,
        min_joints=options.min_joints,
        min_side=options.min_side,
    )


def _pairs(
    given: Sequence[Sequence[str]] | None, option: str, names: Sequence[str]
) -> tuple[tuple[str, str], ...] | None:
    """Pairs of joints that an option gives; None if it was not given."""
    if given is None:
        return None
    unknown = [joint for pair in given for joint in pair if joint not in names]
    if unknown:
        raise BuildError(
            f"{option}: no joint is called {unknown[0]!r}; the joints are {', '.join(names)}"
        )
    return tuple((a, b) for a, b in given)


def _sigmas(given: Sequence[float], names: Sequence[str]) -> tuple[float, ...]:
    """Sigmas of OKS, one a joint: those that are given, else COCO's; () where it has none."""
    if given:
        values = tuple(given) * len(names) if len(given) == 1 else tuple(given)
        if len(values) != len(names) or min(values) <= 0:
            raise BuildError(
                f"--sigmas {' '.join(map(str, given))} does not fit; give one value above 0, or "
                f"one for each of the {len(names)} joints: {', '.join(names)}"
            )
        return values
    known = [_SIGMAS.get(joint.removeprefix("left_").removeprefix("right_")) for joint in names]
    return () if None in known else tuple(known)


def _files(sources: Sequence[str], splits: Sequence[str]) -> dict[str, str]:
    """The annotation file of each split, from `--source FILE` and `--split NAME=FILE ...`."""
    files = {"train": sources[0]} if sources else {}
    if len(sources) > 1:
        raise BuildError("--source takes one annotation file; give more as --split NAME=FILE")
    for text in splits:
        split, _, path = text.partition("=")
        if not _NAME.fullmatch(split) or not path:
            raise BuildError(f"--split {text!r} does not fit; write train=FILE.json")
        if split in files:
            raise BuildError(f"the split {split} is given twice")
        files[split] = path
    return files


def select(path: str, category: str | None) -> coco.Selection:
    """The annotations of a file that have keypoints.

    Raises:
      BuildError: it cannot be read, is not in COCO's format, or lacks the category.
    """
    try:
        return coco.select(coco.read_coco(path), category=category, needs=("box", "keypoints"))
    except JaxposeError as error:
        raise BuildError(str(error)) from error


def split_of(image: coco.Image, holdout: float) -> str:
    """The split of an image: all images of one source image are in the same one."""
    source = str(image.entry.get("source_picture") or image.file_name)
    return "validation" if zlib.crc32(source.encode()) % 1000 < 1000 * holdout else "train"


def _ignored(annotation: coco.Annotation) -> dict[str, Any]:
    """What OKS needs of a person or crowd that is no example; keypoints in COCO's indices."""
    keypoints: list[float] = []
    if annotation.keypoints is not None:
        indices = np.where(
            annotation.visibility[:, None] > 0, annotation.keypoints - coco.HALF_PIXEL, 0
        )
        triples = np.column_stack([indices, annotation.visibility])
        keypoints = triples.ravel().tolist()
    width, height = annotation.box[2:]
    return {
        "image_id": str(annotation.image.id),
        "box": annotation.box.tolist(),
        "area": float(annotation.area or width * height),
        "keypoints": keypoints,
    }


def _example(
    image: image_files.EncodedImage, name: str, number: int, annotation: coco.Annotation
) -> dict[str, Any]:
    labeled = annotation.visibility > 0
    box = annotation.box.astype(np.float32)
    return {
        "image": image.data,
        "image_name": name,
        "person": number,
        "keypoints": np.where(labeled[:, None], annotation.keypoints, 0).astype(np.float32),
        "labeled": labeled,
        "visible": annotation.visibility == 2,
        "box": box,
        "center": box[:2] + box[2:] / 2,
        "scale": box[2:].max(),
        "head_size": np.float32(0),
        "separated": True,
        "area": np.float32(annotation.area or box[2] * box[3]),
        "annotation_id": "" if annotation.id is None else str(annotation.id),
        "image_id": str(annotation.image.id),
    }
