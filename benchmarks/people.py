"""Accuracy and cost of finding people without a box.

    python -m benchmarks.people --mpii DIR --no_person DIR [--checkpoint PATH] [--images N]

--mpii: MPII's release or a part of it, with the images next to the annotation file. For its
validation persons: the fraction with at least half of the joints correct (PCKh@0.5) by
`PoseEstimator.predict` without a box, by its earlier rule (the whole image, then the box around the
pose), and with the box of the true joints; and the fraction of detected persons with half of the
labeled joints of some annotated person correct, a lower bound of the precision, since MPII does not
annotate everybody. --no_person: a folder of images without people: the fraction without any
detection. Time: ratio of a call without a box to one with a box, in the same process, medians.
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from jaxpose import PoseEstimator
from jaxpose.checkpoints import packed
from jaxpose.predict.boxes import box_around
from jaxpose.predict.images import as_image
from jaxpose.predict.prediction import Prediction
from jaxpose.predict.search import MIN_SCORE
from tfds_builders import mat_file
from tfds_builders.mpii.annotations import Person, persons
from tfds_builders.mpii.mpii_dataset_builder import validation_persons
from tfds_builders.report import Report

RIGHT = 0.5  # head sizes
CALLS = 15
SEED = 0  # seed of the selection of images, if not all are used


def people(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[Person], list[Person]]]:
    """Yield image, validation persons and all persons of each validation image that exists."""
    (annotations,) = sorted(folder.glob("mpii*.mat"))
    release = mat_file.read(annotations.read_bytes(), "RELEASE", annotations.name)
    validation, by_image = validation_persons(), {}
    for person in persons(release, annotations.name, Report()):
        if person.image_name in validation and person.labeled.any():
            by_image.setdefault(person.image_name, []).append(person)
    for name, group in by_image.items():
        chosen = [p for p in group if p.number in validation[name] and p.scale]
        if chosen and (folder / "images" / name).exists():
            yield folder / "images" / name, chosen, group


def right(found: Prediction, person: Person, places: list[int]) -> np.ndarray:
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


def median_seconds(function: Callable[[], object]) -> float:
    function()
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def chosen_of(items: list, count: int | None) -> list:
    order = np.random.default_rng(SEED).permutation(len(items))[:count]
    return [items[i] for i in sorted(order)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mpii", type=pathlib.Path, required=True)
    parser.add_argument("--no_person", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoint", default=packed.path("small"))
    parser.add_argument("--images", type=int, help="number of images of each kind, drawn at random")
    arguments = parser.parse_args()
    estimator = PoseEstimator.from_checkpoint(arguments.checkpoint)
    images = chosen_of(list(people(arguments.mpii)), arguments.images)
    places = list(range(len(estimator.joints)))
    rates = {"found without a box": [], "in two passes": [], "with the true box": []}
    precise, scores = [], []
    for path, chosen, group in images:
        image = as_image(path)
        found = estimator.predict(image)
        two = in_two_passes(estimator, image)
        for person in chosen:
            boxed = estimator.predict(image, [true_box(person)])
            for rate, prediction in zip(rates.values(), (found, two, boxed), strict=True):
                rate.append(right(prediction, person, places).max(initial=0.0) >= RIGHT)
        best = np.max([right(found, person, places) for person in group], axis=0, initial=0.0)
        precise += (best >= RIGHT).tolist()
        scores += found.scores.tolist()
    total = len(rates["in two passes"])
    print(
        f"{total} validation persons in {len(images)} images, at least half of the joints correct:"
    )
    for name, rate in rates.items():
        print(f"  {name}: {100 * np.mean(rate):.1f} %")
    print(f"{len(precise)} detections, {100 * np.mean(precise):.1f} % match an annotated person")
    empty = chosen_of(sorted(arguments.no_person.glob("*.jpg")), arguments.images)
    most = [estimator.predict(file, min_score=0.0).scores.max(initial=0.0) for file in empty]
    nobody = np.mean(np.array(most) < MIN_SCORE)
    print(f"{len(empty)} images without people, no detection in {100 * nobody:.1f} %")
    image = as_image(images[0][0])
    box = [true_box(images[0][1][0])]
    boxed = median_seconds(lambda: estimator.predict(image, box))
    free = median_seconds(lambda: estimator.predict(image))
    print(f"time without a box: {free / boxed:.1f} times that with one")


if __name__ == "__main__":
    main()
