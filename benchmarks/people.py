"""Accuracy and cost of finding people without a box.

    python -m benchmarks.people --mpii DIR --no_person DIR [--checkpoint PATH] [--images N]

--mpii: a folder with MPII's release or a part of it. The command prints two rates for its
validation persons. The first is the fraction of persons with at least half of the joints correct
(PCKh@0.5). It is measured for four methods: `PoseEstimator.predict` without a box; the overlapping
crops that it uses for categories other than `person`; two passes (the whole image, then the box
around the pose); and the box of the true joints. The second rate is the fraction of detected
persons that match an annotated person: at least half of that person's labeled joints are correct.
It is a lower bound of the precision, since MPII does not annotate everybody.

--no_person: a folder of images without people, for the fraction without any detection.

The time of a call without a box is given as a multiple of the time of a call with one, measured in
the same process on up to 25 of the images.
"""

import copy
import functools
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np

import tools
from benchmarks import contest
from jaxpose import PoseEstimator
from jaxpose.checkpoints import DEFAULT_NETWORK, packed
from jaxpose.errors import JaxposeError
from jaxpose.predict.boxes import box_around
from jaxpose.predict.images import as_image
from jaxpose.predict.prediction import Prediction
from jaxpose.skeleton import MPII, joint_index
from tfds_builders import mat_file
from tfds_builders.mpii.annotations import Person, persons
from tfds_builders.mpii.mpii_dataset_builder import validation_persons
from tfds_builders.report import Report

RIGHT = 0.5  # maximum error of a correct joint, in head sizes; minimum fraction of correct joints
TIMED = 25  # number of images on which calls are timed
SEED = 0  # seed of the selection of images, if not all are used


def people(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[Person], list[Person]]]:
    """Yield image, validation persons and all persons of each validation image that exists."""
    found = sorted(folder.glob("mpii*.mat"))
    if len(found) != 1:
        raise JaxposeError(f"{folder} has {len(found)} files mpii*.mat; give a folder with one")
    (annotations,) = found
    release = mat_file.read(annotations.read_bytes(), "RELEASE", annotations.name)
    validation, by_image = validation_persons(), {}
    for person in persons(release, annotations.name, Report()):
        if person.image_name in validation and person.labeled.any():
            by_image.setdefault(person.image_name, []).append(person)
    for name, group in by_image.items():
        chosen = [p for p in group if p.number in validation[name] and p.scale]
        if chosen and (folder / "images" / name).exists():
            yield folder / "images" / name, chosen, group


def right(found: Prediction, person: Person, places: np.ndarray) -> np.ndarray:
    """Return [N], the fraction of the person's labeled joints that each detection has correct."""
    distance = np.linalg.norm(found.keypoints[:, places] - person.keypoints, axis=-1)
    return (distance <= RIGHT * person.head_size)[:, person.labeled].mean(axis=1)


def in_two_passes(estimator: PoseEstimator, image: np.ndarray) -> Prediction:
    """Predict in the whole image, then in the box around the pose."""
    height, width = image.shape[:2]
    side = max(width, height) / estimator.crop_of(np.array([0.0, 0.0, 1.0, 1.0])).side
    first = estimator.predict(image, [[(width - side) / 2, (height - side) / 2, side, side]])
    box = box_around(first.keypoints[0], first.confidence[0], (width, height))
    return first if box is None else estimator.predict(image, [box])


def true_box(person: Person) -> np.ndarray:
    """Return the box of the person's labeled joints."""
    low, high = (f(person.keypoints[person.labeled], axis=0) for f in (np.min, np.max))
    return np.concatenate([low, np.maximum(high - low, 1.0)])


def seconds(function: Callable[[], object]) -> float:
    """The seconds of the fastest of three calls, after a first call that compiles."""
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def chosen_of(items: list, count: int | None) -> list:
    order = np.random.default_rng(SEED).permutation(len(items))[:count]
    return [items[i] for i in sorted(order)]


def main() -> None:
    """Measure and print."""
    parser = contest.parser("people", __doc__, with_json=False)
    parser.add_argument(
        "--mpii",
        type=pathlib.Path,
        required=True,
        help="folder with MPII's annotation file, and its images in images/",
    )
    parser.add_argument(
        "--no_person", type=pathlib.Path, required=True, help="folder of JPEGs without people"
    )
    parser.add_argument(
        "--checkpoint",
        default=packed.path(DEFAULT_NETWORK),
        help=f"checkpoint to evaluate (default: {DEFAULT_NETWORK})",
    )
    parser.add_argument(
        "--images",
        type=tools.count,
        help="number of images of each kind, drawn at random (default: all)",
    )
    arguments = parser.parse_args()
    estimator = PoseEstimator.from_checkpoint(arguments.checkpoint)
    searching = copy.copy(estimator)
    searching.category = "other"  # so that it does not use the finder of persons
    places = joint_index(estimator.joints, MPII.joints)
    if (places < 0).any():
        lacking = [name for name, i in zip(MPII.joints, places, strict=True) if i < 0]
        raise JaxposeError(
            f"{arguments.checkpoint} does not predict {', '.join(lacking)}; give a checkpoint with "
            "MPII's joints"
        )
    images = chosen_of(list(people(arguments.mpii)), arguments.images)
    if not images:
        raise JaxposeError(f"{arguments.mpii}/images has no image of a validation person")
    empty = chosen_of(tools.jpegs(arguments.no_person), arguments.images)
    rates = {
        "no box given": [],
        "overlapping crops": [],
        "two passes": [],
        "true box given": [],
    }
    precise: dict[str, list[bool]] = {name: [] for name in list(rates)[:2]}
    for path, chosen, group in images:
        image = as_image(path)
        found, searched = estimator.predict(image), searching.predict(image)
        two = in_two_passes(estimator, image)
        for person in chosen:
            boxed = estimator.predict(image, [true_box(person)])
            every = (found, searched, two, boxed)
            for rate, prediction in zip(rates.values(), every, strict=True):
                rate.append(right(prediction, person, places).max(initial=0.0) >= RIGHT)
        for values, prediction in zip(precise.values(), (found, searched), strict=True):
            matches = [right(prediction, person, places) for person in group]
            values += (np.max(matches, axis=0, initial=0.0) >= RIGHT).tolist()
    total = len(rates["two passes"])
    print(
        f"{total} validation persons in {len(images)} images, fraction with at least half of the "
        "joints correct:"
    )
    for name, rate in rates.items():
        print(f"  {name}: {100 * np.mean(rate):.1f} %")
    for name, values in precise.items():
        matching = f"{100 * np.mean(values):.1f} % match an annotated person"
        print(f"detected persons, {name}: {len(values)}, {matching}")
    print(f"{len(empty)} images without people, fraction without a detection:")
    for name, predictor in zip(precise, (estimator, searching), strict=True):
        without = np.mean([not len(predictor.predict(file).scores) for file in empty])
        print(f"  {name}: {100 * without:.1f} %")
    taken = []
    for path, chosen, _ in chosen_of(images, TIMED):
        image, box = as_image(path), [true_box(chosen[0])]
        boxed = functools.partial(estimator.predict, boxes=box)
        calls = (estimator.predict, searching.predict, boxed)
        taken.append([seconds(functools.partial(call, image)) for call in calls])
    free, searched, boxed = np.sum(taken, axis=0)
    print("time of a call, as a multiple of the time of a call with one box:")
    print(f"  no box given: {free / boxed:.1f}")
    print(f"  overlapping crops: {searched / boxed:.1f}")


if __name__ == "__main__":
    tools.run(main)
