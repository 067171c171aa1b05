"""``CheckpointMetadata``: what a checkpoint records besides its variables, and its JSON form."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.geometry import CROP_RULES, CropRule
from jaxpose.network import SIZE_MULTIPLE, PoseNet, check_arguments
from jaxpose.skeleton import Skeleton, flip_permutation, joint_index, skeleton_of

FORMAT = 1  # version of the JSON; newer versions are refused
MAX_IMAGE_SIZE = 4096  # pixels
MAX_ENLARGEMENT = 100  # of a crop rule; its inverse is the smallest one
MAX_SHIFT = 100  # of a crop rule
MAX_NUMBER = sys.float_info.max  # Python's integers may be larger


class Calibration(NamedTuple):
    """Parameters that map a joint's presence and the spread of its part map to its confidence.

    The confidence is the estimated probability that the position lies within half a head size of
    the ground truth, or within another distance chosen with ``jaxpose calibrate --unit``. It is a
    logistic regression with one bias per joint, and two weights that all joints share.

    Attributes:
      bias: one number for each of the J trained joints.
      presence: weight of the presence's logit.
      spread: weight of the natural logarithm of the part map's standard deviation; the unit of the
        standard deviation is the crop's side.

    Example:
      >>> calibration = Calibration(bias=(-6.0, -7.0), presence=0.5, spread=-3.0)
      >>> calibration.logits(np.array([4.0, 4.0]), np.log([0.05, 0.2])).round(2).tolist()
      [4.99, -0.17]
    """

    bias: tuple[float, ...]
    presence: float
    spread: float

    def logits(self, presence_logits: Any, log_spread: Any) -> Any:
        """Return the logits of the confidence.

        Args:
          presence_logits: [..., J], a NumPy or JAX array.
          log_spread: [..., J], logarithm of the map's standard deviation, an array of the same
            kind.

        Returns:
          [..., J]; their sigmoid is the confidence.
        """
        bias = np.asarray(self.bias, np.float32)
        return bias + self.presence * presence_logits + self.spread * log_spread


# In checkpoints written before 0.1.0. Remove in 1.0.
_OLD_FIELDS = {"score": "metric"}  # old spelling


class CheckpointMetadata(NamedTuple):
    """Everything that is needed to use a checkpoint's variables.

    Attributes:
      network: arguments of ``PoseNet``, for ``make_net``.
      joints: J names in the network's channel order.
      flip_pairs: pairs of these names that a horizontal flip exchanges.
      limbs: pairs of these names to connect in drawings.
      trained_joints: the joints that had a label in training; the others are not drawn,
        evaluated or written out.
      image_size: side of the network's crops in pixels.
      crop: rule for computing the crop from an annotation.
      step: number of training steps done.
      seconds: training time of the run up to this step.
      metric: best validation metric so far, in percent (or -100 times the validation loss, if the
        loss selects the best checkpoint); None if there is none.
      source: name of the file that the variables were imported from; empty if they were not
        imported.
      category: name of the object category, such as ``"person"``, for COCO files.
      calibration: calibration of the joints' confidence; None if it was never fitted.

    Example:
      >>> from jaxpose.geometry import MPII_RULE
      >>> from jaxpose.skeleton import MPII
      >>> metadata = CheckpointMetadata(
      ...     network={"num_joints": 16}, joints=MPII.joints, flip_pairs=MPII.flip_pairs,
      ...     limbs=MPII.limbs, trained_joints=MPII.joints, image_size=256, crop=MPII_RULE, step=0,
      ... )
      >>> metadata.to_json()["crop"]
      {'source': 'scale', 'enlargement': 1.25, 'shift': 0.075}
    """

    network: Mapping[str, Any]
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]
    trained_joints: tuple[str, ...]
    image_size: int
    crop: CropRule
    step: int
    seconds: float = 0.0
    metric: float | None = None
    source: str = ""
    category: str = "person"
    calibration: Calibration | None = None

    def trained_skeleton(self) -> Skeleton:
        """Return the trained joints, with the flip pairs and limbs between them."""
        kept = set(self.trained_joints)
        limbs = dict.fromkeys(self.limbs)
        if kept != set(self.joints):  # without pelvis or thorax, the trunk's outline is drawn
            limbs |= dict.fromkeys(skeleton_of(self.trained_joints).limbs)
        return Skeleton(
            self.trained_joints,
            tuple(pair for pair in self.flip_pairs if set(pair) <= kept),
            tuple(limb for limb in limbs if set(limb) <= kept),
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values; fields with default values are omitted.

        Returns:
          A dict with ``format`` and the fields by name.
        """
        record: dict[str, Any] = {"format": FORMAT}
        for name, value in self._asdict().items():
            if name not in self._field_defaults or value != self._field_defaults[name]:
                record[name] = value
        pairs = {name: [list(pair) for pair in record[name]] for name in ("flip_pairs", "limbs")}
        names = {name: list(record[name]) for name in ("joints", "trained_joints")}
        plain = {"network": dict(self.network), "crop": self.crop._asdict()}
        if self.calibration is not None:
            plain["calibration"] = {
                **self.calibration._asdict(),
                "bias": list(self.calibration.bias),
            }
        return {**record, **pairs, **names, **plain}

    @classmethod
    def from_json(cls, record: Any, path: pathlib.Path) -> "CheckpointMetadata":
        """Read the record that ``to_json`` returns. Unknown fields are ignored.

        Args:
          record: the parsed JSON.
          path: path of the checkpoint, for error messages.

        Returns:
          The metadata. Optional fields that are missing in the record have their default values.

        Raises:
          ValueError: a required field is missing, or a value has the wrong type.
          JaxposeError: the record was written by a newer version.
        """
        if not isinstance(record, dict) or not _is_whole(record.get("format")):
            raise ValueError("it has no checkpoint metadata")
        if record["format"] > FORMAT:
            raise JaxposeError(
                f"checkpoint {path} has format {record['format']}, but this version of jaxpose "
                f"reads format {FORMAT}; install the version that wrote it"
            )
        record = {_OLD_FIELDS.get(name, name): value for name, value in record.items()}
        known = {name: record[name] for name in cls._fields if name in record}
        missing = [n for n in cls._fields if n not in known and n not in cls._field_defaults]
        if missing:
            raise ValueError(f"its metadata lacks {', '.join(missing)}")
        for name in known:
            if not _CHECKS[name](known[name]):
                raise ValueError(f"its metadata has a malformed {name}: {str(known[name])[:60]}")
        for name in ("joints", "trained_joints"):
            known[name] = tuple(known[name])
        for name in ("flip_pairs", "limbs"):
            known[name] = tuple((a, b) for a, b in known[name])
        known["crop"] = CropRule(**known["crop"])
        if known.get("calibration") is not None:
            bias, *weights = (known["calibration"][name] for name in Calibration._fields)
            known["calibration"] = Calibration(tuple(map(float, bias)), *map(float, weights))
        metadata = cls(**known)
        _check_together(metadata)
        return metadata


def read_json(folder: pathlib.Path) -> Any:
    """Read the JSON of a checkpoint folder's metadata.

    Raises:
      ValueError: it is corrupt.
      OSError: it is missing or cannot be read.
    """
    return json.loads((folder / "metadata" / "metadata").read_text(encoding="utf-8"))


def _check_together(metadata: CheckpointMetadata) -> None:
    """Raise a ValueError if the network's arguments are invalid, or two fields do not match."""
    with _malformed("network"):
        check_arguments(metadata.network)
    for name in ("joints", "trained_joints"):
        with _malformed(name):
            joint_index(getattr(metadata, name), ())  # no name may occur twice
    with _malformed("flip_pairs"):
        flip_permutation(metadata.joints, metadata.flip_pairs)
    num_joints = metadata.network.get("num_joints", PoseNet.num_joints)
    if len(metadata.joints) != num_joints:
        raise ValueError(
            f"its metadata names {len(metadata.joints)} joints, but its network has {num_joints}; "
            "name each joint of the network, in its channel order"
        )
    strangers = set(metadata.trained_joints) - set(metadata.joints)
    if strangers:
        raise ValueError(
            f"its trained_joints contain names that are not in its joints: {sorted(strangers)}"
        )
    if metadata.calibration is not None:
        biases, trained = len(metadata.calibration.bias), len(metadata.trained_joints)
        if biases != trained:
            raise ValueError(
                f"its calibration is for {biases} joints, but its trained_joints are {trained}"
            )


@contextlib.contextmanager
def _malformed(name: str) -> Iterator[None]:
    """Raise a JaxposeError about a field's value as a ValueError that names the field."""
    try:
        yield
    except JaxposeError as error:
        raise ValueError(f"its metadata has a malformed {name}: {error}") from error


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and low <= value <= high


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(_is_names(pair) and len(pair) == 2 for pair in value)


def _is_crop(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= set(CropRule._fields)
        and value.get("source") in list(CROP_RULES)
        and _is_number(value.get("enlargement", 1.0), 1 / MAX_ENLARGEMENT, MAX_ENLARGEMENT)
        and _is_number(value.get("shift", 0.0), -MAX_SHIFT, MAX_SHIFT)
    )


def _is_calibration(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("bias"), list):
        return False
    numbers = [*value["bias"], *(value.get(name) for name in ("presence", "spread"))]
    return all(map(_is_number, numbers))


_CHECKS = {
    "network": lambda value: isinstance(value, dict),
    "joints": _is_names,
    "flip_pairs": _is_pairs,
    "limbs": _is_pairs,
    "trained_joints": lambda value: _is_names(value) and len(value) > 0,
    "image_size": lambda value: (
        _is_whole(value) and 0 < value <= MAX_IMAGE_SIZE and value % SIZE_MULTIPLE == 0
    ),
    "crop": _is_crop,
    "step": _is_whole,
    "seconds": _is_number,
    "metric": lambda value: value is None or _is_number(value),
    "source": lambda value: isinstance(value, str),
    "category": lambda value: isinstance(value, str),
    "calibration": _is_calibration,
}
