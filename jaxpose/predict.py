"""Keypoints of people in a photo, from a checkpoint: `PoseEstimator`."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import checkpoint, geometry
from jaxpose.errors import JaxposeError
from jaxpose.evaluate import answer_crops, crop_sizes
from jaxpose.network import make_net
from jaxpose.optional import import_optional
from jaxpose.skeleton import flip_permutation, joint_index, skeleton_of

LARGEST_BATCH = 32  # crops that go through the network at once
MOST_PIXELS = 200_000_000  # of a photo; a larger one is refused before it is decoded
SURE = 0.3  # confidence from which a joint of the first pass counts for the second's box


class Prediction(NamedTuple):
    """What `PoseEstimator.predict` finds for N boxes of one photo.

    Attributes:
      keypoints: float64 [N, J, 2], (x, y) in pixels of the upright photo; (0, 0) is its corner.
      confidence: float32 [N, J], probability that the joint is in the crop.
      boxes: float64 [N, 4], the boxes (x, y, width, height) that the last pass looked at.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    boxes: np.ndarray


class PoseEstimator:
    """A trained network that takes photos and returns keypoints; may be used from threads.

    Attributes:
      joints: names of the J joints it returns: those it ever saw a label for.
      limbs: pairs of these names that a drawing connects.
      flip_pairs: pairs of these names that a mirror exchanges.

    Example:
      estimator = PoseEstimator.from_checkpoint("runs/demo")
      found = estimator.predict("photo.jpg", boxes=[[120, 40, 200, 420]])
      dict(zip(estimator.joints, found.keypoints[0]))
    """

    def __init__(self, variables: dict, metadata: dict, *, dtype: str = "float32"):
        """Takes what `checkpoint.load` gives."""
        self._all_joints = tuple(metadata["joints"])
        self.joints = tuple(metadata["trained_joints"])
        kept = set(self.joints)
        # Without a pelvis, say, the trunk is drawn along its outline.
        limbs = [*map(tuple, metadata["limbs"]), *skeleton_of(self.joints).limbs]
        self.limbs = tuple(limb for limb in dict.fromkeys(limbs) if set(limb) <= kept)
        self.flip_pairs = tuple((a, b) for a, b in metadata["flip_pairs"] if {a, b} <= kept)
        self.image_size = int(metadata["image_size"])
        self._kept = joint_index(self._all_joints, self.joints)
        self._rule = geometry.CropRule(**metadata["crop"])
        self._net = make_net(metadata["network"], dtype=dtype)
        self._variables = jax.tree.map(jnp.asarray, variables)
        self._forwards = {
            flip: jax.jit(functools.partial(answer_crops, self._net, flipped=order))
            for flip, order in (
                (False, None),
                (True, flip_permutation(self._all_joints, metadata["flip_pairs"])),
            )
        }

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike, *, which: str = "best", dtype: str = "float32"
    ) -> "PoseEstimator":
        """The estimator of a workdir ("best" or "latest") or a single checkpoint folder.

        Raises:
          JaxposeError: no checkpoint is there, or it cannot be read.
        """
        variables, metadata, folder = checkpoint.load(path, which=which)
        estimator = cls(variables, metadata, dtype=dtype)
        like = jax.eval_shape(estimator._net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        checkpoint.check_variables(variables, like, folder)
        return estimator

    def predict(
        self,
        image: Any,
        boxes: Sequence[Sequence[float]] | None = None,
        *,
        flip_test: bool = False,
        num_crops: int = 1,
        passes: int | None = None,
    ) -> Prediction:
        """Keypoints of the person in each box.

        Args:
          image: RGB uint8 [H, W, 3], a path, or a PIL image (turned upright by its EXIF).
          boxes: [N, 4] (x, y, width, height) in pixels, one a person; None looks at the whole
            photo first and then, in a second pass, at the box of what it found.
          flip_test: average with the answer for the mirrored crop.
          num_crops: crops of different size to average.
          passes: 1 leaves the second pass out; with boxes there is one pass only.

        Raises:
          JaxposeError: the photo cannot be read, or a box has no area.
        """
        picture = as_picture(image)
        height, width = picture.shape[:2]
        options = {"flip_test": flip_test, "num_crops": num_crops}
        if boxes is not None:
            boxes = check_boxes(boxes)
            return self._look(picture, boxes, [self._crop(box) for box in boxes], **options)
        whole = np.array([[0.0, 0.0, width, height]])
        crop = geometry.example_crop({"picture_size": (width, height)}, geometry.PICTURE_RULE)
        first = self._look(picture, whole, [crop], **options)
        if passes == 1:
            return first
        box = _box_of(first.keypoints[0], first.confidence[0], (width, height))
        if box is None:
            return first
        return self._look(picture, box[None], [self._crop(box)], **options)

    def _crop(self, box: np.ndarray) -> geometry.Crop:
        """The checkpoint's crop rule, with the box in place of what training cut by."""
        x, y, width, height = box
        size = max(width, height)
        example = {"box": box, "center": (x + width / 2, y + height / 2), "scale": size}
        source = "scale" if self._rule.source == "scale" else "box"
        return geometry.example_crop(example, self._rule._replace(source=source))

    def _look(self, picture, boxes, crops, *, flip_test, num_crops) -> Prediction:
        sizes = crop_sizes(num_crops)
        views = [crop._replace(side=crop.side * size) for crop in crops for size in sizes]
        images = np.stack([geometry.cut(picture, view, self.image_size) for view in views]) if (
            views
        ) else np.zeros((0, self.image_size, self.image_size, 3), np.uint8)  # fmt: skip
        keypoints, confidence = self.predict_crops(images, flip_test=flip_test)
        matrices = np.array([geometry.crop_to_image(view) for view in views]).reshape(-1, 2, 3)
        pixels = geometry.apply_affine(matrices, keypoints)
        shape = (len(crops), len(sizes), len(self.joints))
        return Prediction(
            pixels.reshape(*shape, 2).mean(axis=1),
            confidence.reshape(shape).mean(axis=1),
            np.asarray(boxes, np.float64),
        )

    def predict_crops(
        self, images: np.ndarray, *, flip_test: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints float64 [N, J, 2] in [0, 1] and confidence [N, J] of crops uint8 [N, S, S, 3].

        Crops go through in batches of 1, 2, 4, ... so that few programs are compiled.
        """
        keypoints = np.zeros((len(images), len(self.joints), 2))
        confidence = np.zeros((len(images), len(self.joints)), np.float32)
        for first in range(0, len(images), LARGEST_BATCH):
            part = images[first : first + LARGEST_BATCH]
            rows = 1 << (len(part) - 1).bit_length()
            padded = np.zeros((rows, *part.shape[1:]), np.uint8)
            padded[: len(part)] = part
            found, sure = self._forwards[flip_test](self._variables, padded)
            place = slice(first, first + len(part))
            keypoints[place] = np.asarray(found[-1], np.float64)[: len(part), self._kept]
            confidence[place] = np.asarray(sure[-1])[: len(part), self._kept]
        return keypoints, confidence


def as_picture(image: Any) -> np.ndarray:
    """A photo as RGB uint8 [H, W, 3], upright.

    Args:
      image: a path, a PIL image, or an array uint8 [H, W, 3] (or [H, W] grey).

    Raises:
      JaxposeError: it cannot be read, is too large, or has another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=-1)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise JaxposeError(
                f"the picture is an array {image.dtype} {image.shape}; give uint8 [height, width, "
                "3] in RGB"
            )
        return np.ascontiguousarray(image)
    pil = import_optional("PIL.Image", extra="predict")
    ops = import_optional("PIL.ImageOps", extra="predict")
    name = "the picture"
    try:
        if isinstance(image, str | os.PathLike):
            name = str(pathlib.Path(image))
            image = pil.open(image)
        if image.width * image.height > MOST_PIXELS:
            raise JaxposeError(
                f"{name} has {image.width}x{image.height} pixels, more than {MOST_PIXELS}; "
                "reduce it first"
            )
        if image.mode.startswith("I"):  # 16 bits: Pillow would clip, not scale
            grey = np.asarray(image, np.float64)
            image = pil.fromarray((grey / 257.0).clip(0, 255).astype(np.uint8))
        return np.ascontiguousarray(np.asarray(ops.exif_transpose(image).convert("RGB")))
    except JaxposeError:
        raise
    except FileNotFoundError:
        raise JaxposeError(f"no file {name}; give a picture") from None
    except Exception as error:  # Pillow's decoders raise many kinds for a broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise JaxposeError(f"{name} cannot be read as a picture ({reason})") from error


def check_boxes(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Boxes as float64 [N, 4], or a JaxposeError that names the first that is none."""
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.size == 0 and array.ndim > 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise JaxposeError(
            f"boxes have shape {array.shape}; give one x, y, width, height for each person"
        )
    bad = ~(np.isfinite(array).all(axis=1) & (array[:, 2:] > 0).all(axis=1))
    if bad.any():
        first = array[np.argmax(bad)].tolist()
        raise JaxposeError(f"box {first} has no area; give x, y, width, height in pixels")
    return array


def _box_of(
    keypoints: np.ndarray, confidence: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """The box (x, y, width, height) of the joints that seem to be there, inside the photo."""
    sure = confidence >= SURE
    points = keypoints[sure] if sure.sum() >= 4 else keypoints
    points = points.clip(0, size)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low]) if (high - low).min() > 1 else None
