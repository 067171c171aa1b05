"""Persons (or anything with keypoints) from JSON files in COCO's format and their images."""

import argparse
import collections
import pathlib
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxpose import coco
from jaxpose.errors import JaxposeError
from jaxpose.skeleton import flip_permutation
from tfds_builders import image_files, joints, pose_builder, schema
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, Folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OTHER_SIZE = "size of the image differs from the annotation file"
_SIGMAS = {  # COCO's OKS sigmas
    **{"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072},
    **{"wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089},
}


class _Persons(NamedTuple):
    """Persons of a split.

    Attributes:
      files: the images.
      found: usable annotations, each with the name of its image in ``files``.
      others: annotations that are not used as examples, possibly in images of other splits.
    """

    files: Files
    found: list[tuple[coco.Annotation, str]]
    others: list[coco.Annotation]


class CocoConfig(tfds.core.BuilderConfig):
    """Configuration of a COCO data set.

    Attributes:
      files: path of the annotation file of each split.
      images: folder of the images; "" for that of the annotation file.
      category: id and name of the category.
      joint_set: names, flip pairs and limbs of the category.
      sigmas: OKS sigmas, one per joint, or () if unknown.
      holdout: approximate fraction of the images of "train" to use as the split "validation"
        (``held_out_sources``).
      min_joints: annotations with fewer labeled joints than this are not used.
      min_side: annotations are not used if the longer side of their box has fewer pixels than this.
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
    """Build a data set from ``--source ANNOTATIONS.json --images DIR``."""

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
            "image_id": tfds.features.Text(doc="id of the image in the file, as JSON"),
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
        splits: dict[str, _Persons] = {}
        for split, path in config.files.items():
            images = pathlib.Path(config.images or pathlib.Path(path).parent)
            found, others = self._annotations(path, images)
            folder = Folder(images, sorted({name for _, name in found}))
            held_out = set()
            if split == "train" and config.holdout and found:
                held_out = held_out_sources([a.image for a, _ in found], config.holdout)
                if not held_out:
                    raise BuildError(
                        f"{path}: all usable images are from one source, "
                        f"{source_of(found[0][0].image)}, so --holdout cannot split them; leave "
                        "it out, or give the splits with --split"
                    )
            for annotation, name in found:
                target = "validation" if source_of(annotation.image) in held_out else split
                persons = splits.setdefault(target, _Persons(folder, [], others))
                persons.found.append((annotation, name))
        if not splits:
            reasons = "; ".join(
                f"{reason}: {len(names):,}" for (_, reason), names in self.report.left_out.items()
            )
            raise BuildError(
                f"{', '.join(config.files.values())}: none of the annotations can be used "
                f"({reasons or 'there are none'}); check --images, --min_joints and --min_side"
            )
        # Filled while the images are read. OKS-AP treats the ignored persons as crowds.
        self.info.metadata["ignored"] = {split: [] for split in splits}
        self.info.metadata["annotated"] = [False] * len(config.joint_set.joints)
        self.report.notes = [
            f"joints: {', '.join(config.joint_set.joints)}",
            *_flip_notes(config.joint_set),
        ]
        return {
            split: self.counted(
                split,
                self._generate_examples(
                    persons,
                    self.info.metadata["ignored"][split],
                    annotates=split == "train" or "train" not in splits,
                ),
                len(persons.found),
            )
            for split, persons in sorted(splits.items())
        }

    def _annotations(
        self, path: str, folder: pathlib.Path
    ) -> tuple[list[tuple[coco.Annotation, str]], list[coco.Annotation]]:
        """Return the usable annotations of a file, each with the name of its image.

        The report lists the others by reason, and the labels that were changed. Predictions may
        match some of the others, and the evaluation must ignore these predictions: such annotations
        are the second list.
        """
        config = self.builder_config
        selected = select(path, config.category[1])
        if selected.category is None or selected.category.joints != config.joint_set.joints:
            raise BuildError(
                f"{path} and {next(iter(config.files.values()))} have different joints; all splits "
                "must have the same joints"
            )
        for reason, entries in selected.dropped.items():
            for entry in entries:
                if reason not in coco.INTACT_REASONS:
                    self.refuse_if_strict(f"{path}: {entry}: {reason}")
                kind = "person" if entry.startswith("annotations") else "item"
                self.report.leave_out(reason, entry, kind=kind)
        for reason, entries in selected.changed.items():
            for entry in entries:
                self.report.change(reason, entry)
        names = [annotation.image.file_name for annotation in selected.annotations]
        found, lacking = coco.find_files(names, folder)
        for name, reason in lacking.items():
            self.refuse_if_strict(
                f"{name} is missing in {folder}"
                if reason == "missing"
                else f"{name} is ambiguous in {folder}: it matches several files, or several "
                "names match the same file"
            )
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
                self.report.leave_out(
                    f"box smaller than {config.min_side:g} pixels", annotation.name
                )
                others.append(annotation)
            else:
                file = found[annotation.image.file_name]
                kept.append((annotation, file.relative_to(folder).as_posix()))
        return kept, others

    def _generate_examples(
        self, persons: "_Persons", ignored: list[dict[str, Any]], *, annotates: bool
    ):
        """Yield the examples of a split.

        Args:
          persons: persons of the split.
          ignored: list to which the OKS fields of the other persons in its images are added.
          annotates: whether labels of this split count for the metadata's ``annotated``.
        """
        by_image = collections.defaultdict(list)
        for annotation, name in persons.found:
            by_image[name].append(annotation)
        others = collections.defaultdict(list)
        for annotation in persons.others:
            others[coco.id_key(annotation.image.id)].append(annotation)

        def prepare(data: bytes, name: str) -> tuple[image_files.EncodedImage, int | None]:
            image = image_files.prepare(data)
            listed = {annotation.image.size for annotation in by_image[name]}
            if listed <= {None, (image.width, image.height)}:
                return image, coco.UPRIGHT  # not read, because it may take decoding the image
            return image, image_files.orientation(data)

        key, misfits = 0, []
        requests = [(name, persons.files, name) for name in by_image]
        for name, (image, orientation) in self.read_images(requests, prepare):
            kept = []
            for annotation in by_image[name]:
                upright = _upright(annotation, image, orientation)
                if upright is None:
                    misfits.append(self._leave_out_size(annotation, image, name))
                else:
                    kept.append(upright)
            for image_id in dict.fromkeys(coco.id_key(annotation.image.id) for annotation in kept):
                turned = (_upright(other, image, orientation) for other in others[image_id])
                ignored += [_ignored(other) for other in turned if other is not None]
            for number, annotation in enumerate(kept):
                if annotates:
                    labeled = self.info.metadata["annotated"] | (annotation.visibility > 0)
                    self.info.metadata["annotated"] = labeled.tolist()
                yield key, _example(image, name, number, annotation)
                key += 1
        if misfits and not key:
            raise BuildError(
                f"the images do not have the sizes in the annotation file ({misfits[0]}); give the "
                "labeled images as --images, or correct width and height in the file"
            )

    def _leave_out_size(
        self, annotation: coco.Annotation, image: image_files.EncodedImage, name: str
    ) -> str:
        """Leave out a person whose labels are for another image size; return both sizes."""
        width, height = annotation.image.size
        sizes = f"{name} has {image.width}x{image.height} pixels, in the file {width}x{height}"
        self.refuse_if_strict(f"{annotation.name}: {sizes}")
        self.report.leave_out(_OTHER_SIZE, f"{annotation.name} ({sizes})")
        return sizes


def configure(options: argparse.Namespace, config: str = "") -> CocoConfig:
    """Make the configuration from the command's options and the annotation file.

    Args:
      options: options of ``python -m tfds_builders``.
      config: name of the configuration if ``--name`` is not given; "" for the stem of the first
        file. The data set is called ``coco/NAME``.

    Raises:
      BuildError: a file has no keypoint annotations, or an option is invalid.
    """
    files = _files(options.source, options.split)
    first = next(iter(files.values()))
    name = options.name or config or pathlib.Path(first).stem
    if not _NAME.fullmatch(name):
        raise BuildError(
            f"--name {name!r} is invalid; use letters, digits, _ and - (a letter or digit first)"
        )
    if not 0 <= options.holdout < 1:
        raise BuildError(
            f"--holdout {options.holdout} is invalid; use a fraction of at least 0 and below 1"
        )
    if options.holdout and "validation" in files:
        raise BuildError(
            "--holdout and --split validation=FILE both define the validation split; use one of "
            "them"
        )
    category = select(first, options.category).category
    if category is None or not category.joints:
        raise BuildError(
            f"{first} defines no joints; its category needs 'keypoints' (and 'skeleton'), as in "
            "COCO's files"
        )
    names = category.joints
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
            _flip_pairs(options.flip_pair, names),
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
    """Return the pairs of joints of an option; None if it was not given."""
    if given is None:
        return None
    unknown = [joint for pair in given for joint in pair if joint not in names]
    if unknown:
        raise BuildError(
            f"{option}: no joint is called {unknown[0]!r}; the joints are {', '.join(names)}"
        )
    return tuple((a, b) for a, b in given)


def _flip_pairs(
    given: Sequence[Sequence[str]] | None, names: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Return the pairs of ``--flip_pair``, otherwise those of the names."""
    pairs = _pairs(given, "--flip_pair", names)
    if pairs is None:
        return joints.flip_pairs(names)
    try:
        flip_permutation(names, pairs)
    except JaxposeError as error:
        raise BuildError(f"--flip_pair: {error}") from error
    return pairs


def _flip_notes(joint_set: joints.JointSet) -> list[str]:
    """Return the flip pairs for the report, and a warning if some seem to be missing."""
    pairs = ", ".join(f"{a} - {b}" for a, b in joint_set.flip_pairs)
    remedy = "rebuild with --overwrite and --flip_pair RIGHT LEFT for each pair"
    notes = [f"flip pairs: {pairs or 'none'}"]
    unpaired = joints.unpaired_sides(joint_set.joints, joint_set.flip_pairs)
    if unpaired:
        remedy += ", including the pairs above" * bool(pairs)
        notes.append(
            f"warning: no flip pair contains {', '.join(unpaired)}; if these are left or right "
            f"joints, their labels in mirrored images are wrong: {remedy}"
        )
    elif not pairs:
        notes[0] += f"; if there are left and right joints, {remedy}"
    return notes


def _sigmas(given: Sequence[float], names: Sequence[str]) -> tuple[float, ...]:
    """Return the OKS sigmas, one per joint: the given ones, otherwise COCO's, or () if unknown."""
    if given:
        values = tuple(given) * len(names) if len(given) == 1 else tuple(given)
        if len(values) != len(names) or min(values) <= 0:
            raise BuildError(
                f"--sigmas {' '.join(map(str, given))} is invalid; give one value above 0, or "
                f"one for each of the {len(names)} joints: {', '.join(names)}"
            )
        return values
    known = [_SIGMAS.get(joint.removeprefix("left_").removeprefix("right_")) for joint in names]
    return () if None in known else tuple(known)


def _files(sources: Sequence[str], splits: Sequence[str]) -> dict[str, str]:
    """Return the annotation file of each split (``--source FILE``, ``--split NAME=FILE ...``)."""
    files = {"train": sources[0]} if sources else {}
    if len(sources) > 1:
        raise BuildError("--source takes one annotation file; give more as --split NAME=FILE")
    for text in splits:
        split, _, path = text.partition("=")
        if not _NAME.fullmatch(split) or not path:
            raise BuildError(
                f"--split {text!r} is invalid; write NAME=FILE, such as train=FILE.json"
            )
        if split in files:
            raise BuildError(
                f"the split {split} is given twice; give one file per split (--source is train)"
            )
        files[split] = path
    return files


def select(path: str, category: str | None) -> coco.Selection:
    """Select the annotations with keypoints from a file.

    Raises:
      BuildError: the file cannot be read, is not in COCO's format, or lacks the category.
    """
    try:
        file = coco.read_coco(path)
    except JaxposeError as error:
        raise BuildError(str(error)) from error
    try:
        return coco.select(file, category=category, needs=("box", "keypoints"))
    except JaxposeError as error:
        several = category is None and file.categories
        advice = ", or choose one with --category NAME" if several else ""
        raise BuildError(f"{error}{advice}") from error


def source_of(image: coco.Image) -> str:
    """Return the picture that an image was cropped from, otherwise the name of its file."""
    return str(image.entry.get("source_picture") or image.file_name)


def held_out_sources(images: Iterable[coco.Image], holdout: float) -> set[str]:
    """Choose the sources whose images are held out as the validation split.

    Every source is drawn by a hash of its name, with the probability ``holdout``, so that adding
    images to a file does not move others to another split. If this would leave one of the two
    splits empty, the source whose hash is closest to the limit is moved there.

    Args:
      images: images in any order.
      holdout: probability, above 0 and below 1.

    Returns:
      At least one source and not all of them; the empty set if there is only one source.
    """
    sources = sorted(set(map(source_of, images)), key=lambda source: (*_hash(source), source))
    drawn = sum(_hash(source)[0] < 1000 * holdout for source in sources)
    return set(sources[: min(max(drawn, 1), len(sources) - 1)])


def split_of(image: coco.Image, holdout: float) -> str:
    """Return the split of an image drawn by its hash alone, which may leave a split empty."""
    return "validation" if _hash(source_of(image))[0] < 1000 * holdout else "train"


def _hash(source: str) -> tuple[int, int]:
    """Hash a source to 0 to 999, and to more digits for ties."""
    value = zlib.crc32(source.encode("utf-8", "surrogatepass"))
    return value % 1000, value


def _upright(
    annotation: coco.Annotation, image: image_files.EncodedImage, orientation: int | None
) -> coco.Annotation | None:
    """Move labels to the upright image; None if they are for an image of another size."""
    size = annotation.image.size
    found = coco.label_orientation(size, (image.width, image.height), orientation)
    if found is None or found == coco.UPRIGHT:
        return None if found is None else annotation
    points = annotation.keypoints
    return annotation._replace(
        box=coco.upright_box(annotation.box, found, size),
        keypoints=None if points is None else coco.upright_points(points, found, size),
    )


def _ignored(annotation: coco.Annotation) -> dict[str, Any]:
    """Return the OKS fields of a person or crowd that is not used as an example.

    Keypoints are COCO's pixel indices.
    """
    keypoints: list[float] = []
    if annotation.keypoints is not None:
        indices = np.where(
            annotation.visibility[:, None] > 0, annotation.keypoints - coco.HALF_PIXEL, 0
        )
        triples = np.column_stack([indices, annotation.visibility])
        keypoints = triples.ravel().tolist()
    width, height = annotation.box[2:]
    return {
        "image_id": coco.id_to_text(annotation.image.id),
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
        "image_id": coco.id_to_text(annotation.image.id),
    }
