"""Synthetic people: rendered persons with MPII's 16 joints, for tests and demonstrations.

Nothing is read or downloaded. Example, from Python:

    builder = Builder(config="demo", data_dir="data", workers=0)
    builder.download_and_prepare(file_format="array_record")
"""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders import joints, pose_builder, schema
from tfds_builders.synthetic_people import records, scene

# Images that a small network can learn in minutes: people at rest who face an upright camera. There
# are more occluders than in the full data set, so that the network learns which joints are hidden.
DEMO = scene.Difficulty(
    pose_variety=0.0,
    turned=40.0,
    occluders=1.8,
    strangers=0.10,
    stray_limbs=0.1,
    cut_off=0.13,
    from_behind=0.0,
    any_roll=0.0,
)


@dataclasses.dataclass(eq=False, kw_only=True)
class PeopleConfig(tfds.core.BuilderConfig):
    """Number of people, size of the images, and difficulty.

    Attributes:
      train, validation, test: persons per split; a split of 0 is omitted.
      size: side of the images in pixels.
      seed: seed of the whole data set. Splits never share a person, whatever the seed.
      quality: quality of the JPEG files, 1 to 100.
      difficulty: see ``scene.Difficulty``.
    """

    train: int = 6000
    validation: int = 200
    test: int = 500
    size: int = 192
    seed: int = 0
    quality: int = 90
    difficulty: scene.Difficulty = scene.Difficulty()


class Builder(pose_builder.PoseBuilder):
    """Build the data set.

    Args:
      workers: number of processes that draw, see ``records.records``. With 0, this process draws.
        With any other number, or None, a script needs ``if __name__ == "__main__":``, because each
        process imports it.
      **kwargs: arguments of PoseBuilder; ``config`` may be your own PeopleConfig.
    """

    NEEDS_SOURCE = False
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        PeopleConfig(name="demo", description="What `make demo` trains on.", difficulty=DEMO),
        PeopleConfig(
            name="tiny",
            description="A few small images, for tests.",
            train=48,
            validation=16,
            test=16,
            size=96,
        ),
    ]

    def __init__(self, *, workers: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.workers = workers

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=schema.features(len(joints.MPII.joints)),
            metadata=schema.metadata(joints.MPII, release="drawn by this builder"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        del dl_manager  # nothing to download
        config = self.builder_config
        counts = {"train": config.train, "validation": config.validation, "test": config.test}
        return {
            split: self.counted(split, self._generate_examples(split, count), count)
            for split, count in counts.items()
            if count
        }

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        drawn = records.records(
            count,
            workers=self.workers,
            seed=config.seed,
            split=split,
            size=config.size,
            difficulty=config.difficulty,
            quality=config.quality,
        )
        for index, example in enumerate(drawn):
            labeled, visible = example["labeled"], example["visible"]
            self.report.remark(f"{split}: hidden joints", int((labeled & ~visible).sum()))
            self.report.remark(
                f"{split}: persons cut off by the image's edge", int(not labeled.all())
            )
            yield index, {**example, "image": io.BytesIO(example["image"])}
