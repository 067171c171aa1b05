"""Prepared data sets on disk: opening a split, and its annotations without its images."""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose.data.images import read_header
from jaxpose.errors import JaxposeError, first_line
from jaxpose.optional import import_optional
from jaxpose.storage import open_path

# In data sets prepared before 0.1.0. Remove in 1.0.
_OLD_NAMES = {"labeled": "labelled"}  # features: old spelling
_OLD_BACKGROUNDS = "images without people"  # release of those that lack the key "people"
# This module does not know the builders, so the advice must also hold for user-defined ones.
_ADVICE = (
    "prepare it with its builder (`python -m tfds_builders` for the data sets supported by "
    "jaxpose; see docs/own_data.md for your own data)"
)


class PreparedSplit(NamedTuple):
    """One split of a prepared data set: its examples by index, and its metadata.

    Attributes:
      name: name of the data set, such as ``"lsp/person_centric"``.
      split: name of the split, such as ``"train"``.
      source: ``len(source)`` examples; ``source[i]`` is a dict of the schema's features, its
        ``image`` still encoded. Any sequence of such dicts works.
      joints: names of the data set's own J joints.
      flip_pairs: pairs of names that a horizontal flip exchanges.
      limbs: pairs of names to connect in drawings.
      annotated: [J], whether the data set annotates the joint at all.
      release: description of the release.
      test_images: for MPII, (name, positions) of every test image in the release's order. There is
        one position (x, y) in release pixels for each annotated person, None if it is unknown.
        Empty for other data sets.
      sigmas: OKS sigmas, one per joint; () if unknown.
      category: id and name of the COCO category of the examples.
      ignored: for COCO data sets, persons and crowds in the split's images that are not used as
        examples: ``image_id``, ``box`` (x, y, width, height), ``area`` and ``keypoints`` (J times
        x, y, v as in the file, or empty). Predictions for them are ignored in the evaluation.
      has_people: False if the split consists of images without people (or other objects of the
        category). They train the presence of the joints that other splits label toward 0.
    """

    name: str
    split: str
    source: Sequence[dict[str, Any]]
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] = ()
    limbs: tuple[tuple[str, str], ...] = ()
    annotated: tuple[bool, ...] = ()
    release: str = ""
    test_images: tuple[tuple[str, list], ...] = ()
    sigmas: tuple[float, ...] = ()
    category: tuple[int | str, str] = (1, "person")
    ignored: tuple[dict[str, Any], ...] = ()
    has_people: bool = True


def default_data_dir() -> pathlib.Path:
    """Return the default folder of prepared data sets, which is TFDS's.

    It is ``$TFDS_DATA_DIR`` if set, otherwise ``~/tensorflow_datasets``, so that data sets prepared
    by ``python -m tfds_builders`` are found without naming a folder.
    """
    return open_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", "TFDS_DATA_DIR")


def open_split(name: str, split: str, *, data_dir: str) -> PreparedSplit:
    """Open one split of a prepared data set.

    Args:
      name: the data set, with its configuration if it has several: ``"lsp/person_centric"``,
        ``"lspet"``, ``"mpii/full"``.
      split: ``"train"``, ``"validation"`` or ``"test"``.
      data_dir: the folder that the data sets were prepared in, or were copied to (``gs://``);
        ``""`` for the default one.

    Returns:
      The split of the newest version in that folder.

    Raises:
      JaxposeError: the data set is not prepared (the message says how to prepare it) or cannot be
        read.
    """
    folder = _newest_version(name, data_dir)
    tfds = import_optional("tensorflow_datasets", extra="train")
    try:
        builder = tfds.builder_from_directory(folder)
        metadata = builder.info.metadata
        splits = sorted(builder.info.splits)
        features = set(builder.info.features)
        joints = tuple(metadata["joint_names"])
        pairs = {key: tuple(tuple(p) for p in metadata[key]) for key in ("flip_pairs", "limbs")}
        annotated = tuple(bool(a) for a in metadata.get("annotated", ()))
        release = metadata.get("release", "")
        test_images = tuple((name, places) for name, places in metadata.get("test_images", ()))
        sigmas = tuple(float(sigma) for sigma in metadata.get("oks_sigmas", ()))
        category_id, category_name = metadata.get("category", (1, "person"))
        ignored = tuple(metadata.get("ignored", {}).get(split, ()))
        has_people = bool(metadata.get("people", release != _OLD_BACKGROUNDS))
    except Exception as error:  # TFDS and protobuf raise various exceptions for a damaged file
        raise JaxposeError(
            f"{folder} is not an intact prepared data set ({first_line(error)}); "
            f"delete it, then {_ADVICE}"
        ) from error
    lacking = [name for name in _FEATURES if not {name, _OLD_NAMES.get(name)} & features]
    if lacking:
        raise JaxposeError(
            f"{folder} lacks the features {', '.join(lacking)}; add them to its builder (see "
            '"Features of an example" in docs/own_data.md)'
        )
    if split not in splits:
        raise JaxposeError(f"{name} has no split {split!r}; it has: {', '.join(splits)}")
    try:
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except (ValueError, OSError, RuntimeError) as error:
        raise JaxposeError(
            f"the files of {name} {split} in {folder} cannot be read ({first_line(error)}); "
            f"delete the folder, then {_ADVICE}"
        ) from error
    return PreparedSplit(
        name,
        split,
        source,
        joints,
        annotated=annotated,
        release=release,
        test_images=test_images,
        sigmas=sigmas,
        category=(category_id, category_name),
        ignored=ignored,
        has_people=has_people,
        **pairs,
    )


def _newest_version(name: str, data_dir: str) -> pathlib.Path:
    place = open_path(data_dir, "data_dir") if data_dir else default_data_dir()
    folder = place / name
    versions = []
    inner = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in inner:
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").exists():
            versions.append((tuple(int(n) for n in path.name.split(".")), path))
    if versions:
        return max(versions)[1]
    configs = [path.name for path in inner if list(path.glob("*/dataset_info.json"))]
    if configs:
        named = ", ".join(f"{name}/{config}" for config in configs)
        raise JaxposeError(f"data set {name!r} has several configurations; choose one of {named}")
    elsewhere = "" if data_dir else "set --config.data_dir to the folder that contains it, or "
    raise JaxposeError(f"data set {name!r} is not prepared in {place}; {elsewhere}{_ADVICE}")


def read_example(split: PreparedSplit, index: int) -> dict[str, Any]:
    """Read one example of a split, its image still encoded.

    Args:
      split: the split.
      index: index of the example.

    Returns:
      The schema's features, and ``stored_size``: (width, height) of the image according to its
      header, (0, 0) if the header cannot be read.

    Raises:
      JaxposeError: the split's files are missing or corrupt.
    """
    try:
        example = split.source[index]
        if example["image"] is None:  # TFDS returns this for a truncated file
            raise ValueError("the record is empty")
    except Exception as error:  # readers raise various exceptions for a missing file
        raise JaxposeError(
            f"example {index} of {split.name} {split.split} cannot be read "
            f"({first_line(error)}); check that its files still exist, or prepare the data set "
            "again"
        ) from error
    for name, old in _OLD_NAMES.items():
        if old in example:
            example = {name if key == old else key: value for key, value in example.items()}
    header = read_header(example["image"])
    return {**example, "stored_size": (header.width, header.height) if header else (0, 0)}


class Annotations(NamedTuple):
    """Annotations of the N persons of a split, in pixels of the stored images.

    Attributes:
      keypoints: [N, J, 2], (x, y); 0 where not labeled.
      labeled: bool [N, J].
      visible: bool [N, J], labeled and not marked occluded.
      box: [N, 4], (x, y, width, height).
      center: [N, 2], (x, y), the nominal center.
      scale: [N], the nominal size.
      head_size: [N]; 0 where unknown.
      separated: bool [N], whether the person is in MPII's single-person subset ("sufficiently
        separated"); True in other data sets.
      image_name: str [N], file name in the release.
      person: int [N], index of the person in the image.
      stored_size: int [N, 2], (width, height) of the image; 0 where it cannot be read.
      annolist_index: int [N], MPII only: index of the image in the release.
      origin: [N, 2], MPII only: release pixels are origin + stored pixels / zoom.
      zoom: [N], MPII only.
      area: [N], COCO only, square pixels.
      annotation_id: str [N], COCO only.
      image_id: str [N], COCO only.
    """

    keypoints: np.ndarray
    labeled: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    head_size: np.ndarray
    separated: np.ndarray
    image_name: np.ndarray
    person: np.ndarray
    stored_size: np.ndarray
    annolist_index: np.ndarray | None = None
    origin: np.ndarray | None = None
    zoom: np.ndarray | None = None
    area: np.ndarray | None = None
    annotation_id: np.ndarray | None = None
    image_id: np.ndarray | None = None

    def select(self, index: Any) -> "Annotations":
        """Select some of the persons; ``index`` indexes the axis N, such as a slice or bool [N]."""
        return Annotations(**{name: values[index] for name, values in self._present().items()})

    def example(self, index: int) -> dict[str, Any]:
        """Return one person's annotations by name, as ``geometry.example_crop`` expects them."""
        return {name: values[index] for name, values in self._present().items()}

    def _present(self) -> dict[str, np.ndarray]:
        return {name: values for name, values in self._asdict().items() if values is not None}


# The features that every data set must have.
_FEATURES = (
    "image",
    *(
        name
        for name in Annotations._fields
        if name not in ("stored_size", *Annotations._field_defaults)
    ),
)


def annotations(split: PreparedSplit) -> Annotations:
    """Read the annotations of all N persons of a split, without the images.

    Args:
      split: the split.

    Returns:
      The features of the schema, stacked; other features are omitted.

    Raises:
      JaxposeError: the split's files are missing or corrupt.
    """
    columns: dict[str, list] = {}
    for index in range(len(split.source)):
        for name, value in read_example(split, index).items():
            if name in Annotations._fields:
                columns.setdefault(name, []).append(value)
    return Annotations(**{name: _stack(values) for name, values in columns.items()})


def _stack(values: list) -> np.ndarray:
    if isinstance(values[0], bytes):
        return np.array([value.decode() for value in values])
    stacked = np.stack([np.asarray(value) for value in values])
    return stacked.astype(np.float32) if stacked.dtype == np.float64 else stacked
