"""LSP: 2,000 images of sports, each with one person and 14 joints.

Person-centric joints are the release's own. Observer-centric ones come in a separate file: the same
positions, with left and right as the observer sees them.
"""

import re

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import joints, leeds, pose_builder, schema
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, Folder

VALIDATION_EVERY = 20  # every 20th image of the training set is in the split "validation"
LAST_OF_TRAINING = 1000
SCALED_SIDE = 210  # the longest side of the scaled release's images is 202
OBSERVER_CENTRIC = re.compile(r"(^|/)[^/]*joints[-_]?OC\.mat$", re.IGNORECASE)

SCALED = "Leeds Sports Pose, scaled to a person size of about 150 pixels"
ORIGINAL = "Leeds Sports Pose, original size"


class Builder(pose_builder.PoseBuilder):
    """Build LSP from ``lsp_dataset.zip`` or ``lsp_dataset_original.zip``, or their contents."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name="person_centric", description="left and right are the person's own"
        ),
        tfds.core.BuilderConfig(
            name="observer_centric", description="left and right as the observer sees them"
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put lsp_dataset.zip, or its contents, into the folder; for observer_centric, also "
        "lsp-joints-OC.mat."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=schema.features(leeds.NUM_JOINTS),
            metadata=schema.metadata(joints.LSP, release=SCALED),
            homepage="http://sam.johnson.io/research/lsp.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        found = self.files(dl_manager, "lsp")
        release = leeds.find_release(found, 4, "LSP")
        xy, occluded = leeds.read_joints(release.files, release.joints)
        original = is_original_size(release, xy)
        if self.builder_config.name == "observer_centric":
            xy, occluded = self._observer_centric(found, release, xy, original)
        # Pixel indices are 0-based for the scaled images and 1-based for the original size.
        keypoints = xy + (-0.5 if original else 0.5)
        labeled = np.ones(occluded.shape, bool)
        annotations = leeds.Annotations(keypoints, labeled, visible=~occluded)
        self.info.metadata["release"] = ORIGINAL if original else SCALED
        splits = leeds.numbers_by_split(self, release, len(xy), split_of)
        return {
            split: self.counted(
                split, self._generate_examples(release, numbers, annotations), len(numbers)
            )
            for split, numbers in splits.items()
        }

    def _generate_examples(self, release, numbers, annotations):
        return leeds.examples(self, release, numbers, annotations)

    def _observer_centric(self, found, release, person_centric, original):
        """Read joints and flags of the observer-centric file, which must match this release."""
        files, name = _find_observer_centric(found, release.files)
        xy, occluded = leeds.read_joints(files, name)
        if original:
            raise BuildError(
                f"{name} belongs to the scaled images, but the images in --source have their "
                "original size; use lsp_dataset.zip as --source"
            )
        if len(xy) != len(person_centric) or not _same_points(xy, person_centric):
            raise BuildError(
                f"{name} does not contain the same points as {release.joints}; "
                "both must belong to the same release"
            )
        return xy, occluded


def split_of(number: int) -> str:
    """Return the split of the image with this number, counted from 1."""
    if number > LAST_OF_TRAINING:
        return "test"
    return "train" if number % VALIDATION_EVERY else "validation"


def is_original_size(release: leeds.Release, xy: np.ndarray) -> bool:
    """Whether the images have their original size, judged by their dimensions.

    Raises:
      BuildError: the images are scaled but the joints are for the original size, or vice versa.
    """
    sizes = leeds.sample_sizes(release)
    leeds.check_joints_fit(release, sizes, xy, np.ones(xy.shape[:2], bool))
    sides = [max(size) for size in sizes.values()]
    original = bool(sides) and float(np.median(sides)) > SCALED_SIDE
    if original != (xy.max() > SCALED_SIDE):
        images = "have their original size" if original else "are scaled"
        raise BuildError(
            f"{release.files.path}: the images {images}, but the joints in {release.joints} are "
            f"for the {'scaled' if original else 'original'} images; use images and joints of the "
            "same release"
        )
    return original


def _find_observer_centric(found: list[Files], release_files: Files) -> tuple[Files, str]:
    beside = release_files.path.parent
    beside_names = [p.name for p in sorted(beside.glob("*.mat"))]
    for files in (*found, Folder(beside, beside_names)):
        for name in files.names:
            if OBSERVER_CENTRIC.search(name):
                return files, name
    raise BuildError(
        "lsp/observer_centric needs lsp-joints-OC.mat; put it next to the release or give it as a "
        "further --source"
    )


def _same_points(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether each image has the same 14 points in both arrays [N, 14, 2], in any order."""

    def ordered(points):
        return np.sort(points[..., 0] + 1j * points[..., 1], axis=1)

    return np.allclose(ordered(one), ordered(other), atol=0.01)
