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
from jaxpose.evaluation.views import crop_sizes
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
from jaxpose.storage import write_errors


class Options(NamedTuple):
    """Options of ``jaxpose predict``, as its ``--help`` describes them.

    Attributes:
      checkpoint: the checkpoint, None for the network that comes with the package.
      boxes: the same boxes [N, 4] (x, y, width, height) in pixels for every input.
      box_file: file with the boxes of each input.
      detector: function that returns boxes, as ``MODULE:FUNCTION``.
      output: folder or file to write, None for the default folder.
      json: whether to write keypoints as COCO JSON in addition to images.
      results: file to write as COCO results.
      heatmaps, context: whether to write these sheets for photos.
      smooth: cutoff frequency of the keypoint filter for videos in Hz, None for no filter.
      webcam: number of a camera to record, in place of inputs.
      min_confidence: minimum confidence of the joints that are drawn, None for the default.
      max_persons, min_score, flip_test, num_crops: as in ``PoseEstimator.predict``.
    """

    checkpoint: str | None
    boxes: Sequence[Sequence[float]] | None
    box_file: str | None
    detector: str | None
    output: str | None
    json: bool
    results: str | None
    heatmaps: bool
    context: bool
    smooth: float | None
    webcam: int | None
    min_confidence: float | None
    max_persons: int | None
    min_score: float | None
    flip_test: bool
    num_crops: int


class Call(NamedTuple):
    """What all inputs of one command share.

    Attributes:
      options: the options.
      plan: the inputs and outputs.
      estimator: the estimator.
      boxes: the same boxes [N, 4] for every input, or a file of boxes, or None.
      writers: writers of the JSON files.
      prediction_options: options of ``PoseEstimator.predict``.
    """

    options: Options
    plan: Plan
    estimator: PoseEstimator
    boxes: Sequence[Sequence[float]] | BoxFile | None
    writers: Sequence[coco.CocoWriter | coco.ResultWriter]
    prediction_options: dict[str, Any]


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


def run(inputs: Sequence[str], options: Options) -> None:
    """Predict every input.

    Args:
      inputs: photos, videos and folders; empty for a camera.
      options: options.

    Raises:
      UsageError: neither inputs nor a camera are given, or both are; or ``max_persons`` is given
        with boxes.
      JaxposeError: no input could be processed, or some could not be read (the others are still
        processed).
    """
    if options.min_confidence is None:
        options = options._replace(min_confidence=MIN_CONFIDENCE)
    _check_options(options, inputs)
    planned = plan(
        inputs,
        output=options.output,
        json=options.json,
        results=options.results,
        box_file=options.box_file,
    )
    for line in planned.skipped:
        print(line, file=sys.stderr)
    _check_sheets(options, planned)
    detector = load_detector(options.detector) if options.detector else None
    boxes = _open_boxes(options.box_file, planned.jobs) if options.box_file else options.boxes
    estimator = open_estimator(options.checkpoint)
    if options.context and not estimator.net.num_context_maps:
        raise JaxposeError("this network has no context maps to show; leave out --context")
    prediction_options: dict[str, Any] = {
        "flip_test": options.flip_test,
        "num_crops": options.num_crops,
        "max_persons": options.max_persons,
        "min_score": options.min_score,
        **({"detector": detector} if detector else {}),
    }
    with _open_writers(planned, estimator, boxes, options.min_confidence) as writers:
        call = Call(options, planned, estimator, boxes, writers, prediction_options)
        if options.webcam is not None:
            line, failed = _webcam(call, planned.jobs[0], options.webcam), 0
        else:
            line, failed = _each(call, planned.jobs)
    print(line)  # after all files are complete, in case stdout is closed
    if planned.json:
        print(f"keypoints: {planned.json}")
    if planned.results:
        print(f"results: {planned.results}")
    if failed:
        raise JaxposeError(
            f"{failed} of {len(planned.jobs)} inputs failed, see above; the others are complete"
        )


def _check_options(options: Options, inputs: Sequence[str]) -> None:
    """Raise a JaxposeError for options that are invalid whatever the inputs contain."""
    if (options.webcam is None) == (not inputs):
        raise UsageError("give photos, videos or folders, or --webcam; see jaxpose predict --help")
    if options.max_persons is not None and (options.boxes or options.box_file):
        raise UsageError("--max_persons does not apply to given boxes; leave it out")
    crop_sizes(options.num_crops)


def _check_sheets(options: Options, planned: Plan) -> None:
    """Raise a JaxposeError if heat maps are to be drawn, but cannot be."""
    if not (options.heatmaps or options.context):
        return
    if all(job.video for job in planned.jobs):
        option = "--heatmaps" if options.heatmaps else "--context"
        raise JaxposeError(f"{option} works on photos only, but the inputs contain none")
    if not any(job.out for job in planned.jobs):
        raise JaxposeError(
            f"heat maps are written as images, but -o {options.output} is not a folder; give a "
            "folder"
        )


@contextlib.contextmanager
def _open_writers(
    planned: Plan,
    estimator: PoseEstimator,
    boxes: Sequence[Sequence[float]] | BoxFile | None,
    min_confidence: float,
) -> Iterator[list[coco.CocoWriter | coco.ResultWriter]]:
    """Open the writers of the plan's JSON files; they complete the files when the context exits."""
    category_id, name = boxes.category if isinstance(boxes, BoxFile) else (1, "")
    shared: dict[str, Any] = {
        "threshold": min_confidence,
        "category": (category_id, name or estimator.category),
        "taken": boxes.image_ids if isinstance(boxes, BoxFile) else (),
    }
    writers: list[coco.CocoWriter | coco.ResultWriter] = []
    with contextlib.ExitStack() as stack:
        if planned.json:
            with write_errors(planned.json):
                writer = coco.CocoWriter(
                    planned.json,
                    joints=estimator.joints,
                    limbs=estimator.limbs,
                    checkpoint=str(estimator.source),
                    **shared,
                )
            writers.append(stack.enter_context(writer))
        if planned.results:
            with write_errors(planned.results):
                result_writer = coco.ResultWriter(planned.results, **shared)
            writers.append(stack.enter_context(result_writer))
        yield writers


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
        boxes = boxes.of_photo(job.path, image.shape[1::-1])
    found = call.estimator.predict(image, boxes, **call.prediction_options)
    for writer in call.writers:
        found.add_to(writer, **_image_entry(call, job))
    persons = f"{len(found.boxes)} person" + "s" * (len(found.boxes) != 1)
    if job.out is None:
        return f"{job.path}: {persons}"
    written = [job.out]
    save_image(found.draw(min_confidence=call.options.min_confidence), job.out)
    with_sheets = call.options.heatmaps or call.options.context
    for number, box in enumerate(found.boxes if with_sheets else (), 1):
        person = panels.predict_person(call.estimator, image, box)
        label = f"{number}_" if len(found.boxes) > 1 else ""
        for kind, sheet in _sheets(call, person):
            written.append(call.plan.sheet_path(job, f"{label}{kind}"))
            save_image(sheet, written[-1])
    return f"{job.path}: {persons}, written to {', '.join(map(str, written))}"


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
    if call.options.heatmaps:
        both = [
            panels.all_part_maps(call.estimator, person),
            panels.before_and_after(call.estimator, person),
        ]
        sheets.append(("heatmaps", panels.stacked(both)))
    if call.options.context:
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
                if by_frame is not None and len(by_frame.get(number, ())):
                    call.boxes.check_frame(job.path, number, frame.image.shape[1::-1])
                    tracks = tracks_of(by_frame[number], last_id=tracks.last_id)
                tracks, found = follow(
                    call.estimator,
                    frame.image,
                    tracks,
                    float(frame.time),
                    smooth=call.options.smooth,
                    **call.prediction_options,
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
    damaged = reader.damaged + (writer.damaged if writer is not None else 0)
    parts = "part" if damaged == 1 else "parts"
    lost = [f"{damaged} corrupt {parts} skipped"] if damaged else []
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
        image = found.draw(min_confidence=call.options.min_confidence)
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
