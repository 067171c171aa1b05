"""Inputs of ``jaxpose predict``, and the files that it writes for them."""

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
    """Inputs and outputs of one command.

    Attributes:
      jobs: one for each photo or video, in order.
      json: the file for the keypoints, None for none.
      skipped: a line for each folder in which something is neither a photo nor a video.
    """

    jobs: list[Job]
    json: pathlib.Path | None
    skipped: list[str]


def plan(inputs: Sequence[str], *, output: str | None, json: bool) -> Plan:
    """Find the inputs, name the outputs and create their folder.

    Args:
      inputs: photos, videos, and folders of them; empty for a camera.
      output: a folder; a file for a single photo or video; or a .json file, to write only the
        keypoints.
      json: whether keypoints are written in addition to images.

    Raises:
      JaxposeError: an input is missing, a folder contains no photo or video, or an output file has
        an unsuitable suffix or would overwrite an input.
    """
    output = FOLDER if output is None else output
    out = pathlib.Path(output)
    paths, skipped = find_inputs(inputs, out) if inputs else ([CAMERA], [])
    videos = [is_video(path) for path in paths] if inputs else [True]
    suffix = out.suffix.lower() if names_a_file(output) else ""
    if suffix == ".json":
        make_folder(out.parent)
        return Plan([Job(p, v, None) for p, v in zip(paths, videos, strict=True)], out, skipped)
    if suffix in WRITTEN or suffix in PHOTOS | VIDEOS:
        _check_file(out, suffix, paths, videos)
        make_folder(out.parent)
        jobs = [Job(paths[0], videos[0], out)]
        plan = Plan(jobs, out.with_suffix(".json") if json else None, skipped)
    elif suffix:
        raise JaxposeError(
            f"cannot write {suffix} files; use {out.with_suffix('.json')} for the keypoints, or "
            f"give a folder (if {out} is a folder's name, write {out}/)"
        )
    else:
        make_folder(out)
        names = _names(paths, videos)
        jobs = [
            Job(path, video, out / name)
            for path, video, name in zip(paths, videos, names, strict=True)
        ]
        plan = Plan(jobs, out / "keypoints.json" if json else None, skipped)
    given = {path.resolve() for path in paths if inputs}
    for job in plan.jobs:
        if job.out and job.out.resolve() in given:
            raise JaxposeError(f"{job.out} is an input and would be overwritten; give another -o")
    if plan.json and plan.json.is_dir():
        raise JaxposeError(
            f"the keypoints cannot be written to {plan.json}, which is a folder; give another -o"
        )
    return plan


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
