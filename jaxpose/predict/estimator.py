"""``PoseEstimator``: a checkpoint that predicts keypoints of people in photos."""

import functools
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from jaxpose import geometry
from jaxpose.checkpoints import DEFAULT_NETWORK, packed, store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.views import agreed_positions, apply_network, crop_sizes
from jaxpose.heatmaps import (
    convert_grid,
    soft_argmax_with_covariance,
    spatial_expectation,
    spatial_softmax,
)
from jaxpose.network import PoseNet, make_net
from jaxpose.predict import finder, search
from jaxpose.predict.boxes import box_around, check_boxes
from jaxpose.predict.images import as_image
from jaxpose.predict.prediction import Prediction
from jaxpose.runtime.compilation import compiler_options
from jaxpose.skeleton import flip_permutation, joint_index

SPREAD_FLOOR = 1e-4  # smallest spread, in sides of the crop; a single-cell map would have 0
_OF_THE_PROCESS = frozenset({"_programs", "_compiling"})
_jax_process: int | None = None  # the process in which an estimator first used JAX


class CropPoses(NamedTuple):
    """Poses in B crops, with the values from which the joints' confidence is computed.

    JAX arrays inside a compiled function, NumPy arrays outside.

    Attributes:
      keypoints: [B, J, 2], (x, y) in [0, 1] of the crop.
      logits: [B, J], logits of the joints' presence.
      log_spread: [B, J], natural logarithm of the standard deviation of the part map's softmax
        (the square root of the trace of its covariance), as a fraction of the crop's side.
    """

    keypoints: Any
    logits: Any
    log_spread: Any


class Maps(NamedTuple):
    """Result of ``PoseEstimator.maps``: heat maps and pose of one person, from the last block.

    Attributes:
      crop: the crop that was predicted.
      heatmaps: float32 [H, W, M], raw part maps of all joints of the network (including joints
        without labels in training), then the context maps, grouped by joint.
      keypoints: float64 [J, 2] of the estimator's joints, in [0, 1] of the crop.
      confidence: float32 [J].
    """

    crop: geometry.Crop
    heatmaps: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray


class PoseEstimator:
    """A trained network that predicts keypoints in photos; thread-safe.

    Programs are compiled on first use and cached: one for every batch size (a power of two), with
    and without ``flip_test``. Copies and pickles contain the network without its programs, so an
    estimator can be sent to the processes of a ``spawn`` or ``forkserver`` pool. JAX does not work
    in processes forked after its first use; ``predict`` raises an error there.

    Attributes:
      joints: names of the J predicted joints: those with labels in training.
      limbs: pairs of these names to connect in drawings.
      flip_pairs: pairs of these names that a horizontal flip exchanges.
      category: name of the category that has the joints, such as ``"person"``.
      image_size: side of the network's input crops, in pixels.
      net: the network.
      channels: int [J], the network's channel of each joint.
      source: path of the checkpoint, or None if the estimator was not loaded from one.
      calibration: calibration of the joints' confidence, or None.
      crop_rule: the rule of the crops that the network was trained on.

    Example:
      >>> estimator = PoseEstimator.from_pretrained("small")
      >>> image = np.zeros((240, 320, 3), np.uint8)  # or the path of a photo
      >>> estimator.predict(image, boxes=[[120, 20, 100, 200]]).keypoints.shape  # [N, J, 2]
      (1, 16, 2)
    """

    def __init__(self, variables: dict, metadata: CheckpointMetadata, *, dtype: str = "float32"):
        """Create an estimator from the variables and metadata that ``store.load`` returns."""
        self.joints, self.flip_pairs, self.limbs = metadata.trained_skeleton()
        self.category = metadata.category
        self.image_size = metadata.image_size
        self.channels = joint_index(metadata.joints, self.joints)
        self.net: PoseNet = make_net(metadata.network, dtype=dtype)
        self.source: pathlib.Path | None = None
        self.calibration = metadata.calibration
        self.crop_rule = metadata.crop
        _check_process()
        self._variables = jax.tree.map(jnp.asarray, variables)
        self._mirror = flip_permutation(metadata.joints, metadata.flip_pairs).tolist()
        self._start()

    def _start(self) -> None:
        """Create the per-process state, which is neither copied nor pickled."""
        self._programs: dict[tuple[str, int], Callable] = {}
        self._compiling = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in vars(self).items() if key not in _OF_THE_PROCESS}
        return {**state, "_variables": jax.tree.map(np.asarray, self._variables)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)  # no JAX before `_program`, so that a forked process can unpickle
        self._start()

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike, *, which: str = "best", dtype: str = "float32"
    ) -> "PoseEstimator":
        """Load an estimator from a workdir, a checkpoint folder or a packed file.

        Args:
          path: path of the checkpoint, or the name of a network that comes with this package.
          which: which checkpoint of a workdir: ``"best"`` (by validation) or ``"latest"``.
          dtype: dtype of the network's computation: ``"float32"`` or ``"bfloat16"``.

        Raises:
          JaxposeError: there is no checkpoint, or it cannot be read.
        """
        _check_process()
        _, variables, metadata, source = store.load_network(path, which=which, dtype=dtype)
        estimator = cls(variables, metadata, dtype=dtype)
        estimator.source = source
        return estimator

    @classmethod
    def from_pretrained(
        cls, name: str = DEFAULT_NETWORK, *, dtype: str = "float32"
    ) -> "PoseEstimator":
        """Load an estimator with a network that comes with this package.

        Args:
          name: name of the network.
          dtype: as in ``from_checkpoint``.

        Raises:
          JaxposeError: there is no network of that name; the message lists the available ones.
        """
        return cls.from_checkpoint(packed.path(name), dtype=dtype)

    def predict(
        self,
        image: Any,
        boxes: Sequence[Sequence[float]] | None = None,
        *,
        detector: Callable[[np.ndarray], Sequence[Sequence[float]]] | None = None,
        max_persons: int | None = None,
        min_score: float | None = None,
        flip_test: bool = False,
        num_crops: int = 1,
    ) -> Prediction:
        """Predict the keypoints of the persons in an image.

        Without ``boxes`` and ``detector``, a second network that comes with the package finds the
        persons. They are sorted by score, the highest first; there may be none. The pose of each
        person is predicted twice: in the box that was found, and in the box around that first pose.
        Each joint's two positions are averaged, weighted by confidence; if they are further apart
        than a tenth of the crop's side, the more confident one is returned. For checkpoints of a
        category other than ``"person"``, about twenty crops of the image are searched instead, and
        at most five poses are kept, or ``max_persons`` if that is larger.

        Args:
          image: a path, a PIL image (its EXIF orientation is applied), or RGB uint8 [H, W, 3]: a
            NumPy or JAX array, or a tensor in the CPU's memory.
          boxes: [N, 4] (x, y, width, height) in pixels, one per person; results are in the same
            order.
          detector: function that takes RGB uint8 [H, W, 3] and returns such boxes; None or an empty
            list if there are no persons.
          max_persons: maximum number of persons; those with the highest scores are kept. 1 selects
            the main subject.
          min_score: omit persons with a lower score. The default is 0.48 if neither boxes nor a
            detector are given, otherwise no limit. If neither is given and ``min_score`` is 0, at
            least one person is returned.
          flip_test: average the heat maps with those of the mirrored crop.
          num_crops: number of crops of different sizes, 1 to 9. Those of a joint's positions that
            agree (``evaluation.views.agreeing_weights``) are averaged, weighted by confidence; the
            confidence is the mean over all crops.

        Raises:
          JaxposeError: the photo cannot be read, a box has no area or lies outside the photo, a
            limit is out of range, or both boxes and a detector are given.
        """
        if boxes is not None and detector is not None:
            raise JaxposeError("both boxes and a detector are given; give only one of them")
        if max_persons is not None and max_persons < 1:
            raise JaxposeError(f"max_persons is {max_persons}; it must be 1 or more")
        if min_score is not None and not min_score <= 1:
            raise JaxposeError(f"min_score is {min_score}; it must be at most 1")
        pixels = as_image(image)
        size = pixels.shape[1::-1]
        options = {"flip_test": flip_test, "num_crops": num_crops}
        if boxes is None and detector is None:
            min_score = search.MIN_SCORE if min_score is None else min_score
            if self.category == finder.CATEGORY:
                found = self._find_persons(pixels, min_score=min_score, **options)
            else:
                found = self._search(pixels, at_least=max_persons or 1, **options)
        else:
            given = boxes if detector is None else detector(pixels)
            checked = check_boxes([] if given is None else given, size)
            found = self._predict_boxes(pixels, checked, **options)
        best = np.argsort(-found.scores, kind="stable")
        if min_score is not None:
            best = best[found.scores[best] >= min_score]
        best = best[:max_persons]
        found = found.select(best if boxes is None else np.sort(best))
        is_path = isinstance(image, str | os.PathLike)
        return found._replace(source=os.fspath(image) if is_path else None)

    def _find_persons(self, image: np.ndarray, *, min_score: float, **options) -> Prediction:
        """Return the persons in the finder's boxes, best first.

        Each person is predicted twice, in the finder's box and in the box around the first
        predicted pose, and the positions that agree are averaged (``agreed_positions``). There is
        no second pass for boxes whose first pose repeats another one, or scores far below
        ``min_score``. If ``min_score`` is 0, at least one person is returned.
        """
        boxes = self._find_boxes(image)
        if min_score <= 0 and not len(boxes):
            boxes = np.array([self._box_of(_whole_image(image))])
        first = self._predict_boxes(image, boxes, **options)
        first = _distinct(first, threshold=search.SAME_POSE)
        promising = first.scores >= min_score - search.SECOND_PASS_MARGIN
        first = first.select(np.flatnonzero(promising))
        return _distinct(self._averaged(first, self._again(first, **options)))

    def _search(self, image: np.ndarray, *, at_least: int, **options) -> Prediction:
        """The best distinct poses from crops all over the image; if possible, ``at_least`` many."""
        boxes = np.array([self._box_of(crop) for crop in search.search_crops(image.shape[1::-1])])
        found, most = self._predict_boxes(image, boxes, **options), max(search.CANDIDATES, at_least)
        for _ in range(search.ROUNDS):
            found = self._refine(_distinct(found, most), **options)
        return _distinct(found)

    def _find_boxes(self, image: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] of the people in an image, the most probable first."""
        network = finder.load()
        crop = _whole_image(image)
        pixels = geometry.crop_image(image, crop, network.image_size)
        found = self._program("finder", 1)(pixels[None])
        return finder.boxes_in_image(found, crop, image.shape[1::-1])[0]

    def _again(self, found: Prediction, **options) -> Prediction:
        """The same persons, predicted in the boxes around their poses."""
        size = found.image.shape[1::-1]
        poses = zip(found.keypoints, found.confidence, strict=True)
        around = [box_around(*pose, size) for pose in poses]
        boxes = np.array([b if a is None else a for a, b in zip(around, found.boxes, strict=True)])
        return self._predict_boxes(found.image, boxes.reshape(-1, 4), **options)

    def _averaged(self, first: Prediction, second: Prediction) -> Prediction:
        """Average the persons of two passes; of distant positions, only the more confident one."""
        both = np.stack([first.confidence, second.confidence])
        confidence = both.mean(axis=0)
        crops = [self.crop_of(box) for box in second.boxes]
        return second._replace(
            keypoints=agreed_positions(
                np.stack([first.keypoints, second.keypoints]), both, side=_sides(crops)
            ),
            confidence=confidence,
            presence=np.stack([first.presence, second.presence]).mean(axis=0),
            scores=confidence.mean(axis=1),
        )

    def _refine(self, found: Prediction, **options) -> Prediction:
        """For each person, the pose from ``_again`` if its score is higher, else the given one."""
        again = self._again(found, **options)
        first = np.arange(len(found.scores))
        places = np.where(again.scores > found.scores, len(first) + first, first)
        return found.joined(again).select(places)

    def maps(self, image: Any, box: Sequence[float] | geometry.Crop) -> Maps:
        """Predict one person and return the heat maps along with the decoded keypoints.

        Args:
          image: as in ``predict``.
          box: (x, y, width, height) in pixels, for example of a ``Prediction``; or a ``Crop``,
            which is used unchanged.

        Raises:
          JaxposeError: for the same reasons as ``predict``.
        """
        pixels = as_image(image)
        if isinstance(box, geometry.Crop):
            crop = box
        else:
            crop = self.crop_of(check_boxes([box], pixels.shape[1::-1])[0])
        cropped = geometry.crop_image(pixels, crop, self.image_size)
        poses, heatmaps = self._program("maps", 1)(self._variables, cropped[None])
        poses = self._chosen(poses, 1)
        return Maps(crop, np.asarray(heatmaps[0]), poses.keypoints[0], self._confidence(poses)[0])

    def crop_of(self, box: np.ndarray) -> geometry.Crop:
        """Apply the checkpoint's crop rule to a box [4] (x, y, width, height) in pixels."""
        return geometry.box_crop(box, self.crop_rule)

    def _box_of(self, crop: geometry.Crop) -> list[float]:
        """Return the square box [4] for which the crop rule gives this crop."""
        rule = geometry.rule_for_boxes(self.crop_rule)
        side = crop.side / rule.enlargement
        x, y = crop.center
        return [x - side / 2, y - (rule.shift + 0.5) * side, side, side]

    def _predict_boxes(self, image, boxes, *, flip_test, num_crops) -> Prediction:
        sizes = crop_sizes(num_crops)
        crops = [self.crop_of(box) for box in boxes]
        views = [crop._replace(side=crop.side * size) for crop in crops for size in sizes]
        images = np.empty((len(views), self.image_size, self.image_size, 3), np.uint8)
        for view, out in zip(views, images, strict=True):
            geometry.crop_image(image, view, self.image_size, out=out)
        poses = self.crop_poses(images, flip_test=flip_test)
        matrices = np.array([geometry.crop_to_image(view) for view in views]).reshape(-1, 2, 3)
        pixels = geometry.apply_affine(matrices, poses.keypoints)
        shape = (len(crops), len(sizes), len(self.joints))
        each = self._confidence(poses).reshape(shape).swapaxes(0, 1)
        confidence = each.mean(axis=0)
        return Prediction(
            agreed_positions(pixels.reshape(*shape, 2).swapaxes(0, 1), each, side=_sides(crops)),
            confidence,
            np.asarray(boxes, np.float64),
            self.joints,
            expit(poses.logits).reshape(shape).mean(axis=1),
            confidence.mean(axis=1),
            self.limbs,
            image,
            category=self.category,
        )

    def predict_crops(
        self, images: np.ndarray, *, flip_test: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict crops in batches of 1, 2, 4, ..., so that few programs are compiled.

        Args:
          images: uint8 [N, S, S, 3], RGB.
          flip_test: average the heat maps with those of the mirrored crop.

        Returns:
          Keypoints float64 [N, J, 2] in [0, 1] and confidence float32 [N, J].
        """
        poses = self.crop_poses(images, flip_test=flip_test)
        return poses.keypoints, self._confidence(poses)

    def crop_poses(self, images: np.ndarray, *, flip_test: bool = False) -> CropPoses:
        """Predict crops and return the poses without computing their confidence.

        Args:
          images: uint8 [N, S, S, 3], RGB.
          flip_test: average the heat maps with those of the mirrored crop.

        Returns:
          NumPy arrays: keypoints float64 [N, J, 2], logits and log_spread float32 [N, J].
        """
        found = []
        most = 8 if jax.default_backend() == "cpu" else 32  # larger ones are not faster on CPUs
        for first in range(0, len(images), most):
            part = images[first : first + most]
            count, rows = len(part), 1 << (len(part) - 1).bit_length()
            if rows > count:
                blank = np.zeros((rows - count, *part.shape[1:]), np.uint8)
                part = np.concatenate([part, blank])
            program = self._program("mirrored" if flip_test else "plain", rows)
            found.append(self._chosen(program(self._variables, part), count))
        if not found:
            nothing = np.zeros((0, len(self.joints)), np.float32)
            return CropPoses(np.zeros((*nothing.shape, 2)), nothing, nothing)
        return CropPoses(*(np.concatenate(values) for values in zip(*found, strict=True)))

    def _chosen(self, poses: CropPoses, count: int) -> CropPoses:
        """Select a program's first ``count`` poses and the estimator's joints, on the host."""
        keypoints, logits, log_spread = (np.asarray(x)[:count, self.channels] for x in poses)
        return CropPoses(keypoints.astype(np.float64), logits, log_spread)

    def _confidence(self, poses: CropPoses) -> np.ndarray:
        """Compute the joints' confidence [N, J]; without a calibration it equals the presence."""
        if self.calibration is None:
            return expit(poses.logits)
        return expit(self.calibration.logits(poses.logits, poses.log_spread))

    def _program(self, kind: str, rows: int):
        """The compiled program: "plain", "mirrored" (flip test), "maps" of crops, or "finder"."""
        _check_process()
        with self._compiling:  # a second thread waits for the first one's program
            if not self._programs:
                self._variables = jax.tree.map(jnp.asarray, self._variables)
            if (kind, rows) not in self._programs:
                self._programs[kind, rows] = self._compile(kind, rows)
            return self._programs[kind, rows]

    def _compile(self, kind: str, rows: int):
        functions: dict[str, Callable] = {
            "plain": functools.partial(predict_poses, self.net),
            "mirrored": functools.partial(predict_poses, self.net, flipped=self._mirror),
            "maps": functools.partial(predict_maps, self.net),
        }
        if kind != "finder":
            return _compiled(functions[kind], self._variables, rows, self.image_size)
        network = finder.load()
        variables = jax.tree.map(jnp.asarray, network.variables)
        find = functools.partial(finder.find_boxes, network.net)
        return functools.partial(_compiled(find, variables, 1, network.image_size), variables)


def _whole_image(image: np.ndarray) -> geometry.Crop:
    """The square around an image [H, W, 3]."""
    return geometry.example_crop({"image": image}, geometry.IMAGE_RULE)


def _distinct(found: Prediction, most: int | None = None, **options) -> Prediction:
    """The persons without duplicates, best first; the options are those of ``search.distinct``."""
    return found.select(search.distinct(found.keypoints, found.confidence, **options)[:most])


def _sides(crops: Sequence[geometry.Crop]) -> np.ndarray:
    """The sides [N, 1] of N crops, in pixels."""
    return np.array([crop.side for crop in crops]).reshape(-1, 1)


def _compiled(function: Callable, variables: dict, rows: int, size: int) -> jax.stages.Compiled:
    """Compile a function of variables and uint8 images [rows, size, size, 3]."""
    images = jax.ShapeDtypeStruct((rows, size, size, 3), np.uint8)
    return jax.jit(function, compiler_options=compiler_options()).lower(variables, images).compile()


def _check_process() -> None:
    """Raise an error in a process forked after JAX was used, because JAX would deadlock."""
    global _jax_process
    if _jax_process is None:
        _jax_process = os.getpid()
    if _jax_process != os.getpid():
        raise JaxposeError(
            "this process was forked after JAX was used, and JAX does not work after a fork; start "
            "it with multiprocessing.get_context('spawn'), or create no estimator before the fork"
        )


def predict_poses(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> CropPoses:
    """Predict a batch of crops with the last block, without computing the confidence.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}.
      images: uint8 [B, S, S, 3].
      flipped: as in ``apply_network``.
    """
    return _last_block(net, variables, images, flipped=flipped)[0]


def predict_maps(net: PoseNet, variables: dict, images: jax.Array) -> tuple[CropPoses, jax.Array]:
    """Predict a batch of crops with the last block, and return the heat maps, too.

    Args:
      net: the network.
      variables: its {"params", "batch_stats"}.
      images: uint8 [B, S, S, 3].

    Returns:
      The poses, and raw heat maps [B, H, W, M] (part maps, then context maps grouped by joint), at
      least float32.
    """
    poses, heatmaps = _last_block(net, variables, images)
    return poses, heatmaps.astype(jnp.float32)


def _last_block(
    net: PoseNet, variables: dict, images: jax.Array, *, flipped: Sequence[int] | None = None
) -> tuple[CropPoses, jax.Array]:
    """Compute the last block's poses and raw heat maps [B, H, W, M]."""
    output: Any = apply_network(net, variables, images, flipped=flipped)
    heatmaps = output.heatmaps[-1]
    parts = jnp.moveaxis(heatmaps[..., : net.num_joints], -1, -3)
    log_spread = jnp.log(_variance(net, parts) + SPREAD_FLOOR**2) / 2
    logits = output.presence_logits[-1].astype(jnp.float32)
    return CropPoses(output.keypoints[-1], logits, log_spread), heatmaps


def _variance(net: PoseNet, parts: jax.Array) -> jax.Array:
    """Compute the trace [B, J] of the covariance of part maps [B, J, H, W] after softmax."""
    options: Any = {"temperature": net.temperature}
    if not net.portable:
        _, covariance = soft_argmax_with_covariance(parts, grid=net.grid, **options)
        return jnp.trace(covariance, axis1=-2, axis2=-1)
    # Converters support only reductions of a single array.
    probability = spatial_softmax(parts, **options)
    position = spatial_expectation(probability, grid=net.grid)
    variance = jnp.zeros(())
    for coordinate, others in enumerate((-2, -1)):
        line = probability.sum(axis=others)
        index = np.arange(line.shape[-1])[:, None]
        cells = convert_grid(index, index.shape[:1], source="index", target=net.grid)[:, 0]
        apart = cells - position[..., coordinate, None]
        variance += jnp.sum(line * jnp.square(apart), axis=-1)
    return variance
