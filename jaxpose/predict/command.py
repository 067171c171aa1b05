"""Implementation of ``jaxpose predict`` and ``jaxpose visualize``."""

import contextlib
import importlib
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpose import coco
from jaxpose.checkpoints import DEFAULT_NETWORK, packed
from jaxpose.errors import JaxposeError, UsageError, first_line
from jaxpose.evaluation.inference import crop_sizes
from jaxpose.paths import names_a_file
from jaxpose.predict import panels
from jaxpose.predict.box_file import BoxFile
from jaxpose.predict.boxes import MIN_CONFIDENCE
from jaxpose.predict.estimator import PoseEstimator
from jaxpose.predict.images import as_image, save_image
from jaxpose.predict.jobs import FOLDER, Job, Plan, make_folder, plan
from jaxpose.predict.prediction import Prediction
from jaxpose.predict.tracking import follow, tracks_of
from jaxpose.predict.video import VideoReader, VideoWriter
from jaxpose.predict.webcam import Camera, Window
from jaxpose.runtime.compilation import use_compilation_cache
from jaxpose.runtime.phases import phase, to_terminal
from jaxpose.runtime.progress import progress_bar


class Call(NamedTuple):
    """Settings shared by all inputs of one command.

    Attributes:
      estimator: the estimator.
      boxes: the same boxes [N, 4] for every input, or a file of boxes, or None.
      writers: writers of the JSON files.
      heatmaps, context: whether to draw these panels for photos.
      smooth: cutoff frequency of the keypoint filter for videos in Hz, None for no filter.
      min_confidence: minimum confidence of the joints that are drawn.
      options: options of ``PoseEstimator.predict``.
      taken: names of the image files that this command writes, in lower case.
    """

    estimator: PoseEstimator
    boxes: Sequence[Sequence[float]] | BoxFile | None
    writers: Sequence[coco.CocoWriter | coco.ResultWriter]
    heatmaps: bool
    context: bool
    smooth: float | None
    min_confidence: float
    options: dict[str, Any]
    taken: set[str]


def load_detector(name: str) -> Callable[[np.ndarray], Sequence[Sequence[float]]]:
    """Load the function ``MODULE:FUNCTION``; the working directory is searched, too.

    Returns:
      The function; its exceptions are raised as JaxposeError with the line of code.

    Raises:
      JaxposeError: there is no such function, or importing its module raises an exception.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function) or module.startswith("."):
        raise JaxposeError(
            f"--detector {name!r} is not the name of a function; give MODULE:FUNCTION"
        )
    if "" not in sys.path and str(pathlib.Path.cwd()) not in sys.path:
        sys.path.append(str(pathlib.Path.cwd()))
    with _user_code(f"--detector {name} cannot be loaded"):
        detect = getattr(importlib.import_module(module), function)
    if not callable(detect):
        raise JaxposeError(
            f"--detector {name} is not a function; give a function that takes an image and returns "
            "boxes"
        )

    def find(image: np.ndarray) -> Sequence[Sequence[float]]:
        with _user_code(f"--detector {name} failed"):
            return detect(image)

    return find


@contextlib.contextmanager
def _user_code(what: str) -> Iterator[None]:
    """Raise exceptions of the user's code as JaxposeError with type, message and location."""
    try:
        yield
    except JaxposeError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise JaxposeError(
            f"{what} ({type(error).__name__}: {first_line(error)}; {place.filename}, line "
            f"{place.lineno})"
        ) from error


def open_estimator(path: str | None) -> PoseEstimator:
    """Load a checkpoint, by default the network that comes with the package, and print its path."""
    use_compilation_cache()
    with phase("loading the network", log=to_terminal):
        source = packed.path(DEFAULT_NETWORK) if path is None else path
        estimator = PoseEstimator.from_checkpoint(source)
    print(f"checkpoint: {estimator.source}")
    if estimator.calibration is None:
        print(
            "the checkpoint is not calibrated, so confidence is the probability that a joint is in "
            "the crop; run jaxpose calibrate to calibrate it"
        )
    return estimator


def run(
    inputs: Sequence[str],
    *,
    checkpoint: str | None,
    boxes: Sequence[Sequence[float]] | None,
    box_file: str | None,
    output: str | None,
    json: bool,
    results: str | None,
    heatmaps: bool,
    context: bool,
    smooth: float | None,
    webcam: int | None,
    min_confidence: float | None,
    max_persons: int | None,
    min_score: float | None,
    detector: str | None,
    flip_test: bool,
    num_crops: int,
) -> None:
    """Predict every input; arguments as in ``jaxpose predict --help``.

    Raises:
      UsageError: neither inputs nor a camera are given, or both are; or ``max_persons`` is given
        with boxes.
      JaxposeError: no input could be processed, or some could not be read (the others are still
        processed).
    """
    if (webcam is None) == (not inputs):
        raise UsageError("give photos, videos or folders, or --webcam; see jaxpose predict --help")
    if max_persons is not None and (boxes or box_file):
        raise UsageError("--max_persons does not apply to given boxes; leave it out")
    min_confidence = MIN_CONFIDENCE if min_confidence is None else min_confidence
    crop_sizes(num_crops)  # fail early, before anything is loaded
    planned = plan(inputs, output=output, json=json)
    jobs = planned.jobs
    for line in planned.skipped:
        print(line, file=sys.stderr)
    if planned.json and box_file and planned.json.resolve() == pathlib.Path(box_file).resolve():
        raise JaxposeError(
            f"{box_file} contains the boxes and would be overwritten; give another -o"
        )
    if results:
        _check_results(results, planned, box_file)
    if (heatmaps or context) and all(job.video for job in jobs):
        option = "--heatmaps" if heatmaps else "--context"
        raise JaxposeError(f"{option} works on photos only, but the inputs contain none")
    if (heatmaps or context) and not any(job.out for job in jobs):
        raise JaxposeError(
            f"heat maps are written as images, but -o {output} is not a folder; give a folder"
        )
    find = load_detector(detector) if detector else None
    given = _open_boxes(box_file, jobs) if box_file else boxes
    estimator = open_estimator(checkpoint)
    if context and not estimator.net.num_context_maps:
        raise JaxposeError("this network has no context maps to show; leave out --context")
    with contextlib.ExitStack() as stack:
        category_id, name = given.category if isinstance(given, BoxFile) else (1, "")
        shared: dict[str, Any] = {
            "threshold": min_confidence,
            "category": (category_id, name or estimator.category),
            "taken": given.image_ids if isinstance(given, BoxFile) else (),
        }
        writers: list[coco.CocoWriter | coco.ResultWriter] = []
        if planned.json:
            writer = coco.CocoWriter(
                planned.json,
                joints=estimator.joints,
                limbs=estimator.limbs,
                checkpoint=str(estimator.source),
                **shared,
            )
            writers.append(stack.enter_context(writer))
        if results:
            writers.append(stack.enter_context(coco.ResultWriter(results, **shared)))
        options: dict[str, Any] = {
            "flip_test": flip_test,
            "num_crops": num_crops,
            "max_persons": max_persons,
            "min_score": min_score,
        }
        if find:
            options["detector"] = find
        taken = {job.out.name.lower() for job in jobs if job.out}
        call = Call(
            estimator, given, writers, heatmaps, context, smooth, min_confidence, options, taken
        )
        if webcam is not None:
            line, failed = _webcam(call, jobs[0], webcam), 0
        else:
            line, failed = _each(call, jobs)
    print(line)  # after all files are complete, in case stdout is closed
    if planned.json:
        print(f"keypoints: {planned.json}")
    if results:
        print(f"results: {results}")
    if failed:
        raise JaxposeError(
            f"{failed} of {len(jobs)} inputs failed, see above; the others are complete"
        )


def _check_results(results: str, planned: Plan, box_file: str | None) -> None:
    """Raise a JaxposeError if --results would overwrite a file or is not a .json file."""
    path = pathlib.Path(results)
    if path.is_dir():
        raise JaxposeError(f"--results {results} is a folder; give a .json file in it")
    if path.suffix.lower() != ".json":
        raise JaxposeError(f"--results {results} is not a .json file; give a name ending in .json")
    others = [planned.json, box_file and pathlib.Path(box_file)]
    if any(other and other.resolve() == path.resolve() for other in others):
        raise JaxposeError(
            f"--results {results} would overwrite the file of boxes or keypoints; give another name"
        )
    make_folder(path.parent)


def _each(call: Call, jobs: list[Job]) -> tuple[str, int]:
    """Predict every input; if there are several, report unreadable ones and continue.

    Returns:
      (the line that describes the results, the number of inputs that failed).
    """
    if len(jobs) == 1:
        return _one(call, jobs[0])[0], 0
    failed = 0
    with _bar(jobs, unit="input") as bar:
        for job in bar:
            bar.set_postfix_str(job.path.name)
            try:
                line, complete = _one(call, job)
                if not complete:
                    bar.write(line, file=sys.stderr)
            except JaxposeError as error:
                failed += 1
                bar.write(f"error: {error}", file=sys.stderr)
    if failed == len(jobs):  # raised here, so that the files of an earlier call are kept
        raise JaxposeError(f"all {failed} inputs failed, see above")
    folder = jobs[0].out and jobs[0].out.parent
    written = f", results in {folder}" if folder else ""
    return f"processed {len(jobs) - failed} inputs{written}", failed


def _bar(*arguments, **options):
    """Show a progress bar on stderr if that is a terminal."""
    return progress_bar(*arguments, disable=None, extra="predict", **options)


def _one(call: Call, job: Job) -> tuple[str, bool]:
    """Process one input; return the line that reports it, and whether it was processed completely.

    A failed input leaves no entries in the JSON files.
    """
    with contextlib.ExitStack() as stack:
        for writer in call.writers:
            stack.enter_context(writer.all_or_nothing())
        if not job.video:
            return _photo(call, job), True
        return _video(call, job, stack.enter_context(VideoReader(job.path)))


def _photo(call: Call, job: Job) -> str:
    image = as_image(job.path)
    boxes = call.boxes
    if isinstance(boxes, BoxFile):
        boxes = boxes.of_photo(job.path)
    found = call.estimator.predict(image, boxes, **call.options)
    for writer in call.writers:
        found.add_to(writer, **_image_entry(call, job))
    persons = f"{len(found.boxes)} person" + "s" * (len(found.boxes) != 1)
    if job.out is None:
        return f"{job.path}: {persons}"
    written = [job.out]
    save_image(found.draw(min_confidence=call.min_confidence), job.out)
    for number, box in enumerate(found.boxes if call.heatmaps or call.context else (), 1):
        person = panels.predict_person(call.estimator, image, box)
        label = f"_{number}" if len(found.boxes) > 1 else ""
        for kind, sheet in _sheets(call, person):
            written.append(job.out.with_name(_free(f"{job.out.stem}{label}_{kind}", call.taken)))
            save_image(sheet, written[-1])
    return f"{job.path}: {persons}, written to {', '.join(map(str, written))}"


def _free(stem: str, taken: set[str]) -> str:
    """Choose a PNG name that no other image of the call uses, and reserve it."""
    name, number = f"{stem}.png", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}_{number}.png"
    taken.add(name.lower())
    return name


def _open_boxes(box_file: str, jobs: list[Job]) -> BoxFile:
    """Open the file of boxes; report unused entries and inputs without boxes on stderr."""
    paths = [job.path for job in jobs]
    given = BoxFile(box_file, paths)
    for entries, what in ((given.dropped, "not used"), (given.changed, "changed")):
        if entries:
            print(f"{box_file}, entries {what}: {coco.describe(entries)}", file=sys.stderr)
    unmatched = given.unmatched(paths)
    if not any(given.of(path) for path in paths):
        raise JaxposeError(unmatched)
    if unmatched:
        print(unmatched, file=sys.stderr)
    return given


def _image_entry(call: Call, job: Job, frame: int | None = None) -> dict[str, Any]:
    """Return file name and id of an image for COCO's JSON, if possible from the box file."""
    if isinstance(call.boxes, BoxFile):
        image = call.boxes.image(job.path, frame)
        if image is not None:
            return {"file_name": image.file_name or job.path.name, "image_id": image.id}
    return {"file_name": job.path.as_posix()}


def _sheets(call: Call, person: panels.Person) -> list[tuple[str, np.ndarray]]:
    sheets = []
    if call.heatmaps:
        both = [
            panels.all_part_maps(call.estimator, person),
            panels.before_and_after(call.estimator, person),
        ]
        sheets.append(("heatmaps", panels.stacked(both)))
    if call.context:
        sheet = panels.context(call.estimator, person)
        assert sheet is not None  # `run` has checked the network
        sheets.append(("context", sheet))
    return sheets


def _video(
    call: Call, job: Job, reader: VideoReader | Camera, window: Window | None = None
) -> tuple[str, bool]:
    """Process a video or camera frame by frame; returns the same as ``_one``."""
    by_frame = call.boxes.of(job.path) or {} if isinstance(call.boxes, BoxFile) else None
    tracks = tracks_of([] if by_frame is not None else call.boxes)
    number = 0
    with contextlib.ExitStack() as stack:
        writer = None
        if job.out is not None:
            stream_options = {
                "rate": reader.rate,
                "time_base": reader.time_base,
                "sound": reader.sound,
            }
            writer = stack.enter_context(VideoWriter(job.out, **stream_options))
        bar = stack.enter_context(
            _bar(total=reader.count, unit="frame", desc=job.path.name, leave=False)
        )
        try:
            for frame in reader.frames(writer):
                if by_frame is not None and number in by_frame:
                    tracks = tracks_of(by_frame[number], last_id=tracks.last_id)
                tracks, found = follow(
                    call.estimator,
                    frame.image,
                    tracks,
                    float(frame.time),
                    smooth=call.smooth,
                    **call.options,
                )
                _write_frame(call, job, writer, window, frame, number, found)
                number += 1
                bar.update()
                if window is not None and not window.open:
                    break
        except KeyboardInterrupt:
            if window is None:
                raise
            if number == 0:
                raise JaxposeError(
                    "interrupted before the first frame; nothing was recorded"
                ) from None
    parts = "part" if reader.damaged == 1 else "parts"
    lost = [f"{reader.damaged} corrupt {parts} skipped"] if reader.damaged else []
    if writer is not None and reader.lost_sound:
        lost.append(f"no sound: {reader.lost_sound}")
    remark = f" ({'; '.join(lost)})" if lost else ""
    written = f", written to {job.out}" if job.out else ""
    return f"{job.path}: {number} frames{written}{remark}", not lost


def _write_frame(call, job, writer, window, frame, number, found: Prediction) -> None:
    for json_writer in call.writers:
        found.add_to(
            json_writer,
            **_image_entry(call, job, number),
            frame=number,
            time=round(float(frame.time), 6),
        )
    if writer is not None or window is not None:
        image = found.draw(min_confidence=call.min_confidence)
        if writer is not None:
            writer.write(image, frame.time)
        if window is not None:
            window.show(image)


def _webcam(call: Call, job: Job, number: int) -> str:
    """Record until the window is closed or Ctrl-C is pressed; returns a summary line."""
    with Camera(number) as camera, contextlib.closing(Window("jaxpose")) as window:
        print("recording; press Ctrl-C to stop")
        return _video(call, job, camera, window)[0]


def visualize(
    photo: str, *, checkpoint: str | None, box: Sequence[float] | None, output: str | None
) -> None:
    """Draw the heat maps of one person; arguments as in ``jaxpose visualize --help``.

    Raises:
      JaxposeError: the photo or the checkpoint cannot be read.
    """
    image = as_image(photo)
    folder = pathlib.Path(FOLDER if output is None else output)
    if output is not None and names_a_file(output):
        raise JaxposeError(f"-o {output} is the name of a file; give a folder for the images")
    make_folder(folder)
    estimator = open_estimator(checkpoint)
    found = estimator.predict(image, None if box is None else [box], max_persons=1, min_score=0.0)
    person = panels.predict_person(estimator, image, found.boxes[0])
    sheets = {
        "part_maps": panels.all_part_maps(estimator, person),
        "single_maps": panels.before_and_after(estimator, person),
        "context_maps": panels.context(estimator, person),
    }
    for kind, sheet in sheets.items():
        if sheet is not None:  # a network without context maps
            path = folder / f"{pathlib.Path(photo).stem}_{kind}.png"
            save_image(sheet, path)
            print(path)
