"""Inputs of ``jaxpose predict``, and the files that it writes for them."""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.paths import names_a_file
from jaxpose.predict.images import WRITTEN, is_heic, warnings_of_pillow_ignored

FOLDER = "predictions"  # default output folder
PHOTOS = frozenset(
    ".avif .bmp .heic .heics .heif .hif .jfif .jp2 .jpe .jpeg .jpg .mpo .pgm .png .ppm .tif .tiff "
    ".webp".split()
)
VIDEOS = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
CAMERA = pathlib.Path("webcam.mp4")  # stands for a camera; name of the recording
MAX_NAMES_SHOWN = 5  # names of skipped files and folders


class Job(NamedTuple):
    """One photo or video.

    Attributes:
      path: path of the input.
      video: whether the input is a video.
      out: the image or video to write, None for none.
    """

    path: pathlib.Path
    video: bool
    out: pathlib.Path | None


class Plan(NamedTuple):
    """Inputs and outputs of one command. No output replaces an input, or another output.

    Attributes:
      jobs: one for each photo or video, in order.
      json: the file for the keypoints, None for none.
      results: the file for the keypoints as COCO results, None for none.
      skipped: a line for each folder in which something is neither a photo nor a video.
      taken: the inputs and outputs so far, as ``_name_key`` of each path; ``sheet_path`` adds to
        them.
    """

    jobs: list[Job]
    json: pathlib.Path | None
    results: pathlib.Path | None
    skipped: list[str]
    taken: set[str]

    def sheet_path(self, job: Job, label: str) -> pathlib.Path:
        """Choose a PNG beside a job's output that replaces no other file, and reserve its name.

        The number of these files is not known before the people in the photo are found.

        Args:
          job: a job with an output.
          label: is appended to the name of the output.
        """
        assert job.out is not None
        stem = f"{job.out.stem}_{label}"
        path, number = job.out.with_name(f"{stem}.png"), 1
        while _name_key(path) in self.taken:
            number += 1
            path = job.out.with_name(f"{stem}_{number}.png")
        self.taken.add(_name_key(path))
        return path


def plan(
    inputs: Sequence[str],
    *,
    output: str | None,
    json: bool,
    results: str | None = None,
    box_file: str | None = None,
) -> Plan:
    """Find the inputs, name the outputs and create their folders.

    Args:
      inputs: photos, videos, and folders of them; empty for a camera.
      output: a folder; a file for a single photo or video; or a .json file, to write only the
        keypoints.
      json: whether keypoints are written in addition to images.
      results: a .json file for COCO results, None for none.
      box_file: file of boxes, an input as well, None for none.

    Raises:
      JaxposeError: an input is missing, a folder contains no photo or video, an output file has an
        unsuitable suffix or would overwrite an input or another output, or a folder cannot be
        created.
    """
    output = FOLDER if output is None else output
    out = pathlib.Path(output)
    paths, skipped = find_inputs(inputs, out) if inputs else ([CAMERA], [])
    videos = [is_video(path) for path in paths] if inputs else [True]
    suffix = out.suffix.lower() if names_a_file(output) else ""
    folder = out.parent
    outs: Sequence[pathlib.Path | None]
    json_file: pathlib.Path | None
    if suffix == ".json":
        outs, json_file = [None] * len(paths), out
    elif suffix in WRITTEN or suffix in PHOTOS | VIDEOS:
        _check_file(out, suffix, paths, videos)
        outs, json_file = [out], out.with_suffix(".json") if json else None
    elif suffix:
        raise JaxposeError(
            f"cannot write {suffix} files; use {out.with_suffix('.json')} for the keypoints, or "
            f"give a folder (if {out} is a folder's name, write {out}/)"
        )
    else:
        folder, json_file = out, out / "keypoints.json" if json else None
        outs = [out / name for name in _names(paths, videos)]
    jobs = [Job(*job) for job in zip(paths, videos, outs, strict=True)]
    results_file = None if results is None else pathlib.Path(results)
    given = paths if inputs else []
    written = _check_outputs(jobs, json_file, results_file, given=given, box_file=box_file)
    make_folder(folder)
    if results_file is not None:
        make_folder(results_file.parent)
    boxes = [] if box_file is None else [pathlib.Path(box_file)]
    taken = {_name_key(path) for path in (*given, *boxes, *written)}
    return Plan(jobs, json_file, results_file, skipped, taken)


def _check_outputs(
    jobs: Sequence[Job],
    json: pathlib.Path | None,
    results: pathlib.Path | None,
    *,
    given: Sequence[pathlib.Path],
    box_file: str | None,
) -> list[pathlib.Path]:
    """Check that every output can be written without replacing another file of the command.

    Args:
      jobs: the inputs with their outputs.
      json: the file for the keypoints, None for none.
      results: the file for the results, None for none.
      given: the inputs.
      box_file: the file of boxes, None for none.

    Returns:
      The outputs.

    Raises:
      JaxposeError: an output would replace a file that is read, the results would replace another
        output, a .json file is a folder, or the results are not a .json file.
    """
    outputs = [path for path in (*(job.out for job in jobs), json) if path]
    inputs = set(map(_identity, given))
    boxes = None if box_file is None else _identity(box_file)
    for path in outputs:
        identity = _identity(path)
        if identity in inputs or identity == boxes:
            what = "is an input" if identity in inputs else "contains the boxes"
            raise JaxposeError(f"{path} {what} and would be overwritten; give another -o")
    if json and json.is_dir():
        raise JaxposeError(
            f"the keypoints cannot be written to {json}, which is a folder; give another -o"
        )
    if results is None:
        return outputs
    if results.is_dir():
        raise JaxposeError(f"--results {results} is a folder; give a .json file in it")
    if results.suffix.lower() != ".json":
        raise JaxposeError(f"--results {results} is not a .json file; give a name ending in .json")
    if _identity(results) in inputs:
        raise JaxposeError(
            f"--results {results} is an input and would be overwritten; give another name"
        )
    if _identity(results) in {boxes, *map(_identity, outputs)}:
        raise JaxposeError(
            f"--results {results} would overwrite the file of boxes or keypoints; give another name"
        )
    return [*outputs, results]


def _identity(path: str | os.PathLike) -> tuple[int, int] | str:
    """Return the same value for all names of a file, such as links to it."""
    try:
        found = os.stat(path)
    except OSError:  # it does not exist
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _name_key(path: str | os.PathLike) -> str:
    """Return the same text for names that are one on a file system that ignores the case."""
    return os.path.realpath(path).lower()


def find_inputs(
    inputs: Sequence[str], out: pathlib.Path | None = None
) -> tuple[list[pathlib.Path], list[str]]:
    """Find photos and videos, and describe what is skipped, one line per folder.

    Args:
      inputs: photos, videos and folders of them.
      out: the output folder, which is not searched; None if nothing is written.

    Raises:
      JaxposeError: an input is missing, or a folder contains no photo or video.
    """
    found, skipped = [], []
    for path in map(pathlib.Path, inputs):
        if path.is_dir():
            inside, others = _in_folder(path, out)
            if not inside:
                more = f"; it has {others}" if others else ""
                raise JaxposeError(f"no image or video in the folder {path}{more}")
            if others:
                skipped.append(f"skipped in {path}: {others}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise JaxposeError(f"no file {path}; give a photo, a video or a folder of them")
    return found, skipped


def _in_folder(folder: pathlib.Path, out: pathlib.Path | None) -> tuple[list[pathlib.Path], str]:
    """Find the photos and videos in a folder, and describe its other contents.

    Hidden files are ignored, and so is the folder ``out``, which may contain earlier results.
    """
    inside, folders, others = [], [], set()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (out and path.resolve() == out.resolve()):
            continue
        if path.is_dir():
            folders.append(path.name)
        elif path.suffix.lower() in PHOTOS | VIDEOS and path.is_file():
            inside.append(path)
        else:
            others.add(path.suffix or path.name)
    reasons = []
    if folders:
        reasons.append(f"subfolders ({_some(folders)}; give them as inputs, too)")
    if others:
        reasons.append(f"files that are neither photos nor videos ({_some(others)})")
    return inside, " and ".join(reasons)


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (
        f" and {len(names) - MAX_NAMES_SHOWN} more" * (len(names) > MAX_NAMES_SHOWN)
    )


def is_video(path: pathlib.Path) -> bool:
    """Whether a file is a video: by its suffix; for GIFs and unknown suffixes, by its content."""
    suffix = path.suffix.lower()
    if suffix in PHOTOS:
        return False
    if suffix in VIDEOS and suffix != ".gif":
        return True
    if is_heic(path):
        return False
    pil = import_optional("PIL.Image", extra="predict")
    try:
        with warnings_of_pillow_ignored, pil.open(path) as image:
            return image.format == "GIF" and image.n_frames > 1
    except Exception:  # Pillow's decoders raise many kinds; PyAV reports the error
        return True


def _check_file(
    out: pathlib.Path, suffix: str, paths: list[pathlib.Path], videos: list[bool]
) -> None:
    if len(paths) > 1:
        raise JaxposeError(
            f"{out} is a single file, but there are {len(paths)} inputs; give a folder"
        )
    fitting = {".mp4"} if videos[0] else WRITTEN
    if suffix not in fitting:
        kind = "video" if videos[0] else "photo"
        raise JaxposeError(
            f"a {kind} is written as {' or '.join(sorted(fitting))}, not as {out.name}; "
            "change the name, or give a folder"
        )


def _names(paths: list[pathlib.Path], videos: list[bool]) -> list[str]:
    """Choose unique output names: the names of the inputs, with a suffix that can be written.

    No two photos have names that differ only in the suffix, because the names of heat-map files do
    not contain it.
    """
    names, taken = [], set()
    for path, video in zip(paths, videos, strict=True):
        suffix = path.suffix
        if video:
            suffix = ".mp4"
        elif suffix.lower() not in WRITTEN:
            suffix = ".png"
        stem, number = path.stem, 1
        while (video, stem.lower()) in taken:
            number += 1
            stem = f"{path.stem}_{number}"
        taken.add((video, stem.lower()))
        names.append(stem + suffix)
    return names


def make_folder(folder: pathlib.Path) -> None:
    """Create a folder; if that fails, raise a JaxposeError with the reason."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxposeError(f"cannot create the folder {folder}: {error.strerror}") from error
