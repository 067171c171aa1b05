"""LSP: 2,000 images of sports, a person and 14 joints each.

Person-centric joints are the release's own. Observer-centric ones come in a file of their own:
the same positions, with left and right exchanged where the observer sees them so.
"""

import re

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import joints, leeds, pose_builder, schema
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, Folder

VALIDATION_EVERY = 20  # training images whose number is a multiple of it
LAST_OF_TRAINING = 1000
SCALED_SIDE = 210  # the longest side of the scaled release's images is 202
OBSERVER_CENTRIC = re.compile(r"(^|/)[^/]*joints[-_]?OC\.mat$", re.IGNORECASE)

SCALED = "Leeds Sports Pose, scaled to about 150 pixels of person"
ORIGINAL = "Leeds Sports Pose, original size"


class Builder(pose_builder.PoseBuilder):
    """Builds LSP from `lsp_dataset.zip` or `lsp_dataset_original.zip`, or what they hold."""

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
        "Put lsp_dataset.zip, or what it holds, into the folder; for observer_centric "
        "lsp-joints-OC.mat too."
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
        # The scaled images' pixel indices are 0-based, the original ones' 1-based.
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
        """Joints and flags of the observer-centric file, which must be this release's."""
        files, name = _find_observer_centric(found, release.files)
        xy, occluded = leeds.read_joints(files, name)
        if original:
            raise BuildError(
                f"{name} belongs to the scaled images and these have their original size; "
                "name lsp_dataset.zip as --source"
            )
        if len(xy) != len(person_centric) or not _same_points(xy, person_centric):
            raise BuildError(
                f"{name} does not hold the same points as {release.joints}; "
                "both must belong to the same release"
            )
        return xy, occluded


def split_of(number: int) -> str:
    """The split of the image with this number, counted from 1."""
    if number > LAST_OF_TRAINING:
        return "test"
    return "train" if number % VALIDATION_EVERY else "validation"


def is_original_size(release: leeds.Release, xy: np.ndarray) -> bool:
    """Whether these are the images of original size, told by their sizes.

    Raises:
      BuildError: the images of the one size lie with the joints of the other.
    """
    sizes = leeds.sample_sizes(release)
    leeds.check_joints_fit(release, sizes, xy, np.ones(xy.shape[:2], bool))
    sides = [max(size) for size in sizes.values()]
    original = bool(sides) and float(np.median(sides)) > SCALED_SIDE
    if original != (xy.max() > SCALED_SIDE):
        raise BuildError(
            f"{release.files.path}: images of {'original' if original else 'scaled'} size with "
            f"joints of the {'scaled' if original else 'original'} ones in {release.joints}; "
            "take both from the same release"
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
        "lsp/observer_centric needs lsp-joints-OC.mat; put it beside the release or name it as a "
        "further --source"
    )


def _same_points(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether each image has the same 14 points in both, [N, 14, 2], in whatever order."""

    def ordered(points):
        return np.sort(points[..., 0] + 1j * points[..., 1], axis=1)

    return np.allclose(ordered(one), ordered(other), atol=0.01)
