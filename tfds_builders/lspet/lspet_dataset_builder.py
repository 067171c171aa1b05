"""LSPET: 10,000 pictures of parkour, gymnastics and athletics, a person and 14 joints each."""

import tensorflow_datasets as tfds

from tfds_builders import joints, leeds, pose_builder, schema

VALIDATION_EVERY = 20  # pictures whose number is a multiple of it are never trained on


class Builder(pose_builder.PoseBuilder):
    """Builds LSPET from `lspet_dataset.zip` or its extracted folder."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put lspet_dataset.zip, or what it holds, into the folder."

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=schema.features(leeds.NUM_JOINTS),
            metadata=schema.metadata(joints.LSP, release="Leeds Sports Pose Extended Training"),
            homepage="http://sam.johnson.io/research/lspet.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        release = leeds.find_release(self.files(dl_manager, "lspet"), 5, "LSPET")
        # 0-based pixel indices. The flag means labelled; nothing says which joints are occluded.
        xy, labelled = leeds.read_joints(release.files, release.joints)
        leeds.check_joints_fit(release, leeds.sample_sizes(release), xy, labelled)
        annotations = leeds.Annotations(xy + 0.5, labelled, visible=labelled)
        splits = leeds.numbers_by_split(self, release, len(xy), split_of)
        return {
            split: self.counted(
                split, self._generate_examples(release, numbers, annotations), len(numbers)
            )
            for split, numbers in splits.items()
        }

    def _generate_examples(self, release, numbers, annotations):
        return leeds.examples(self, release, numbers, annotations)


def split_of(number: int) -> str:
    """The split of the picture with this number, counted from 1."""
    return "train" if number % VALIDATION_EVERY else "validation"
