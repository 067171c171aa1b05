"""Images without people: negative examples for the presence of joints."""

import re

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import image_files, joints, pose_builder, schema
from tfds_builders.errors import BuildError

IMAGE = re.compile(r"\.(jpe?g|png|webp)$", re.IGNORECASE)


class Builder(pose_builder.PoseBuilder):
    """Build a data set from folders or archives of images without people."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put images without people into the folder."

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=schema.features(len(joints.MPII.joints)),
            metadata=schema.metadata(joints.MPII, release="images without people", people=False),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        found = self.files(dl_manager, "")
        requests = [
            (name, files, name) for files in found for name in files.names if IMAGE.search(name)
        ]
        if not requests:
            raise BuildError(
                "no .jpg, .jpeg, .png or .webp file in --source; give a folder or archive of images"
            )
        return {"train": self.counted("train", self._generate_examples(requests), len(requests))}

    def _generate_examples(self, requests):
        read = self.read_images(requests, lambda data, _: image_files.prepare(data))
        count = len(joints.MPII.joints)
        for key, (name, image) in enumerate(read):
            size = np.array([image.width, image.height], np.float32)
            yield (
                key,
                {
                    "image": image.data,
                    "image_name": name.rpartition("/")[2],
                    "person": 0,
                    "keypoints": np.zeros((count, 2), np.float32),
                    "labeled": np.zeros(count, bool),
                    "visible": np.zeros(count, bool),
                    "box": np.array([0, 0, *size], np.float32),
                    "center": size / 2,
                    "scale": size.max(),
                    "head_size": np.float32(0),
                    "separated": True,
                },
            )
