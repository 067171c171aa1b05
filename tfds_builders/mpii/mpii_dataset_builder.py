"""MPII Human Pose: images of everyday activities, 16 joints per person, one example per person."""

import collections
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import image_files, joints, mat_file, pose_builder, schema
from tfds_builders.errors import BuildError
from tfds_builders.mpii import annotations, crops
from tfds_builders.mpii.release import Release, find_releases
from tfds_builders.sources import Files, ReadError

VALIDATION_PERSONS = pathlib.Path(__file__).with_name("validation_persons.txt")
SPLITS = ("train", "validation", "test")


class Subject(NamedTuple):
    """A person who goes into a split, and the key of the example."""

    key: int
    person: annotations.Person


class Builder(pose_builder.PoseBuilder):
    """Build MPII from its annotation file and images. ``sources`` may contain several releases."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="full", description="the release's own images"),
        tfds.core.BuilderConfig(
            name="crops",
            description="square crops around the persons, large enough for every augmentation of "
            "the paper; faster to read than whole images",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put mpii_human_pose_v1_u12_2.zip and mpii_human_pose_v1.tar.gz, or their contents, into "
        "the folder."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        extra = {
            "annolist_index": tfds.features.Scalar(
                np.int32, doc="index of the image in the release's annolist, from 0"
            ),
            "origin": tfds.features.Tensor(
                shape=(2,), dtype=np.float32, doc="release pixels = origin + stored pixels / zoom"
            ),
            "zoom": tfds.features.Scalar(np.float32, doc="stored pixels per release pixel"),
        }
        return self.dataset_info_from_configs(
            features=schema.features(annotations.NUM_JOINTS, extra),
            metadata=schema.metadata(joints.MPII, release="MPII Human Pose, version 1, update 12"),
            homepage="http://human-pose.mpi-inf.mpg.de",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        requests = {split: [] for split in SPLITS}
        seen: set[str] = set()
        absent: list[tuple[str, str]] = []  # (split, image)
        test_images: dict[str, list] = {}
        first_key = 0
        for release in find_releases(self.files(dl_manager, "mpii")):
            variable, where = _variable(release)
            for place, (name, rectangles) in enumerate(annotations.test_images(variable, where)):
                test_images.setdefault(name or f"damaged {first_key + place}", rectangles)
            subjects = self._subjects(variable, where, first_key)
            first_key += 1_000_000_000  # larger than any key of a release
            for (split, name), group in subjects.items():
                if name in seen:
                    self.report.remark("images already found in an earlier source (ignored)", 1)
                elif name in release.images:
                    requests[split].append((group, *release.images[name]))
                else:
                    absent.append((split, name))
            seen.update(name for _, name in subjects if name in release.images)
        for split, name in dict.fromkeys(absent):
            if name not in seen:
                self.refuse_if_strict(f"{name} is not among the images")
                self.report.missing.append(f"{name} ({split})")
        if not any(requests.values()):
            raise BuildError(
                "none of the annotated images was found; give their folder as --source"
            )
        # A submission to MPII's evaluation server has an entry for each test image.
        self.info.metadata["test_images"] = list(test_images.items())
        return {
            split: self.counted(
                split, self._generate_examples(wanted), sum(len(group) for group, *_ in wanted)
            )
            for split, wanted in requests.items()
            if wanted
        }

    def _subjects(
        self, variable: mat_file.Array, where: str, first_key: int
    ) -> dict[tuple[str, str], list[Subject]]:
        """Return the persons that go into a split, by split and image."""
        validation = validation_persons()
        subjects = collections.defaultdict(list)
        for person in annotations.persons(variable, where, self.report, self.refuse_if_strict):
            split = self._split(person, validation)
            if split:
                key = first_key + person.annolist_index * annotations.MAX_PERSONS + person.number
                subjects[split, person.image_name].append(Subject(key, person))
        return subjects

    def _split(self, person: annotations.Person, validation) -> str | None:
        """Return the person's split, or None (and report the person) if there is none."""
        who = f"{person.image_name} person {person.number}"
        if person.center is None or person.scale is None:
            self.report.leave_out("no scale or position", who)
        elif person.test:
            return "test"
        elif not person.labeled.any():
            self.report.leave_out("no labeled joints", who)
        elif person.image_name not in validation:
            return "train"
        elif person.number in validation[person.image_name]:
            return "validation"
        else:
            self.report.leave_out(
                "not in the validation split, but another person of the image is", who
            )
        return None

    def _generate_examples(self, requests: list[tuple[list[Subject], Files, str]]):
        for group, results in self.read_images(requests, self._process):
            for subject, example in zip(group, results, strict=True):
                yield subject.key, example

    def _process(self, data: bytes, group: list[Subject]) -> list[dict]:
        image = image_files.prepare(data)
        if self.builder_config.name == "full":
            whole = crops.Square(0, 0, 1, 1)
            return [_example(subject.person, image.data, whole) for subject in group]
        pixels = crops.decode(image.data)
        examples = []
        for _, person in group:
            square = crops.square_around(
                person.center, person.scale, person.keypoints, person.labeled
            )
            examples.append(_example(person, crops.crop_image(pixels, square), square))
        return examples


def _variable(release: Release) -> tuple[mat_file.Array, str]:
    """Read the annotation file's variable; also return the file's name for messages."""
    where = f"{release.files.path}/{release.annotations}"
    try:
        data = release.files.read(release.annotations)
    except ReadError as error:
        raise BuildError(f"{where} cannot be read ({error}); download it again") from error
    return mat_file.read(data, "RELEASE", where), where


def _example(person: annotations.Person, image: bytes, square: crops.Square) -> dict:
    """Make a person's example. ``image`` shows the given square of the release's image."""
    corner = np.array([square.x, square.y])
    center = (person.center - corner) * square.zoom
    scale = person.scale * square.zoom
    keypoints = (person.keypoints - corner) * square.zoom
    labeled = person.labeled & (not person.test)  # labels of test images are not used
    return {
        "image": image,
        "image_name": person.image_name,
        "person": person.number,
        "keypoints": np.where(labeled[:, None], keypoints, 0).astype(np.float32),
        "labeled": labeled,
        "visible": person.visible & labeled,
        "box": np.array([*(center - scale / 2), scale, scale], np.float32),
        "center": center.astype(np.float32),
        "scale": np.float32(scale),
        "head_size": np.float32(person.head_size * square.zoom),
        "separated": person.separated,
        "annolist_index": person.annolist_index,
        "origin": corner.astype(np.float32),
        "zoom": np.float32(square.zoom),
    }


def validation_persons() -> dict[str, frozenset[int]]:
    """Read the numbers of the validation persons, by image."""
    lines = VALIDATION_PERSONS.read_text("utf-8").splitlines()
    entries = (line.split() for line in lines if not line.startswith("#"))
    return {name: frozenset(map(int, numbers)) for name, *numbers in entries}
