"""LSPET: 10,000 images of parkour, gymnastics and athletics, each with one person and 14 joints."""

import csv
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import joints, leeds, pose_builder, schema
from tfds_builders.errors import BuildError

CORRECTED = tfds.core.BuilderConfig(
    name="corrected",
    version="1.0.0",
    description="training labels corrected by a network's predictions; validation as released",
)
CORRECTIONS = pathlib.Path(__file__).parent / "corrections.tsv"
ROUNDING = 0.051  # pixels; a file of corrections has one decimal
VALIDATION_EVERY = 20  # every 20th image is in the split "validation", for all configurations


class Builder(pose_builder.PoseBuilder):
    """Build LSPET from ``lspet_dataset.zip`` or its extracted folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put lspet_dataset.zip, or its contents, into the folder."

    NAMED_CONFIGS = (CORRECTED,)

    def __init__(self, *, corrections: str | pathlib.Path = CORRECTIONS, **kwargs):
        self.corrections = corrections
        super().__init__(**kwargs)

    @classmethod
    def configure(cls, name, options):
        config, _ = super().configure(name, options)
        if options.corrections and not config:
            raise BuildError(
                "--corrections is only for lspet/corrected; build that data set instead"
            )
        given = {"corrections": options.corrections} if config and options.corrections else {}
        return config, given

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=schema.features(leeds.NUM_JOINTS),
            metadata=schema.metadata(joints.LSP, release="Leeds Sports Pose Extended Training"),
            homepage="http://sam.johnson.io/research/lspet.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        release = leeds.find_release(self.files(dl_manager, "lspet"), 5, "LSPET")
        # 0-based pixel indices. The flag means labeled; the release does not mark occluded joints.
        xy, labeled = leeds.read_joints(release.files, release.joints)
        leeds.check_joints_fit(release, leeds.sample_sizes(release), xy, labeled)
        keypoints = xy + 0.5
        if self.builder_config and self.builder_config.name == CORRECTED.name:
            self._correct(keypoints, labeled)
        annotations = leeds.Annotations(keypoints, labeled, visible=labeled)
        splits = leeds.numbers_by_split(self, release, len(xy), split_of)
        return {
            split: self.counted(
                split, self._generate_examples(release, numbers, annotations), len(numbers)
            )
            for split, numbers in splits.items()
        }

    def _correct(self, keypoints: np.ndarray, labeled: np.ndarray) -> None:
        """Apply the corrections to keypoints [N, 14, 2] and labeled [N, 14], in place."""
        for number, joint, old, position, reason in read_corrections(self.corrections):
            if not 1 <= number <= len(keypoints) or split_of(number) != "train":
                raise BuildError(
                    f"{self.corrections} corrects im{number:05d}.jpg, which is not a training "
                    "image; regenerate it with tools.correct_labels"
                )
            place = (number - 1, joint)
            released = keypoints[place] if labeled[place] else None
            if (old is None) != (released is None) or (
                old is not None and not np.allclose(old, released, atol=ROUNDING)
            ):
                raise BuildError(
                    f"{self.corrections} was made for other labels: its old position of "
                    f"{joints.LSP.joints[joint]} in im{number:05d}.jpg differs from the label; "
                    "regenerate it with tools.correct_labels"
                )
            self.report.remark(f"labels {reason}")
            labeled[place] = position is not None
            if position is not None:
                keypoints[place] = position

    def _generate_examples(self, release, numbers, annotations):
        return leeds.examples(self, release, numbers, annotations)


Position = tuple[float, float] | None


def read_corrections(path) -> list[tuple[int, int, Position, Position, str]]:
    """Read corrections as (number of the image, joint, old position, new position, reason).

    A position is None if the joint is not labeled.

    Raises:
      BuildError: the file is missing or has an unexpected form.
    """
    found = []
    try:
        with pathlib.Path(path).expanduser().open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                old, new = (
                    _position(row[f"{which}_x"], row[f"{which}_y"]) for which in ("old", "new")
                )
                number = int(row["image"].removeprefix("im").removesuffix(".jpg"))
                joint = joints.LSP.joints.index(row["joint"])
                found.append((number, joint, old, new, row["reason"]))
    except OSError as error:
        raise BuildError(
            f"corrections {path} cannot be read ({error.strerror}); give a file of "
            "tools.correct_labels"
        ) from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BuildError(
            f"{path} was not written by tools.correct_labels ({type(error).__name__}: {error}); "
            "give a file that it wrote"
        ) from error
    return found


def _position(x: str, y: str) -> Position:
    if not x:
        return None
    position = (float(x), float(y))
    if not np.isfinite(position).all():
        raise ValueError(f"{x}, {y} is not a position")
    return position


def split_of(number: int) -> str:
    """Return the split of the image with this number, counted from 1."""
    return "train" if number % VALIDATION_EVERY else "validation"
