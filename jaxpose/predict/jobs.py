"""What `jaxpose predict` is given, and where what it makes of it goes."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

FOLDER = "predictions"  # where nothing else is said
PHOTOS = frozenset(
    ".avif .bmp .heic .heif .jfif .jp2 .jpe .jpeg .jpg .mpo .pgm .png .ppm .tif .tiff .webp".split()
)
VIDEOS = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
CAMERA = pathlib.Path("webcam.mp4")  # a camera's name, and what is made of it
WRITTEN = frozenset(".jpeg .jpg .png".split())  # suffixes of the pictures that are written


class Job(NamedTuple):
    """One photo or video.

    Attributes:
      path: of it.
      video: whether it is one.
      out: the picture or video to write, None for none.
    """

    path: pathlib.Path
    video: bool
    out: pathlib.Path | None


class Plan(NamedTuple):
    """Everything that a call of the command is to do.

    Attributes:
      jobs: one an input, in order.
      json: the file for the keypoints, None for none.
    """

    jobs: list[Job]
    json: pathlib.Path | None


def plan(inputs: Sequence[str], *, output: str | None, json: bool) -> Plan:
    """Find the inputs and name the outputs; their folder is made.

    Args:
      inputs: photos, videos, folders of them; none for a camera.
      output: a folder; for one photo or video a file; or a .json file, the only thing written then.
      json: whether keypoints are written beside pictures.

    Raises:
      JaxposeError: an input is missing, a folder holds none, or an output would not fit it.
    """
    paths = _files(inputs) if inputs else [CAMERA]
    videos = [_is_video(path) for path in paths] if inputs else [True]
    out = pathlib.Path(FOLDER if output is None else output)
    suffix = "" if out.is_dir() else out.suffix.lower()
    if suffix == ".json":
        make_folder(out.parent)
        return Plan([Job(p, v, None) for p, v in zip(paths, videos, strict=True)], out)
    if suffix in WRITTEN or suffix in PHOTOS | VIDEOS:
        _check_file(out, suffix, paths, videos)
        make_folder(out.parent)
        jobs = [Job(paths[0], videos[0], out)]
        plan = Plan(jobs, out.with_suffix(".json") if json else None)
    else:
        make_folder(out)
        names = _names(paths, videos)
        jobs = [
            Job(path, video, out / name)
            for path, video, name in zip(paths, videos, names, strict=True)
        ]
        plan = Plan(jobs, out / "keypoints.json" if json else None)
    given = {path.resolve() for path in paths if inputs}
    for job in plan.jobs:
        if job.out.resolve() in given:
            raise JaxposeError(f"{job.out} is an input and would be overwritten; give another -o")
    return plan


def _files(inputs: Sequence[str]) -> list[pathlib.Path]:
    found = []
    for path in map(pathlib.Path, inputs):
        if path.is_dir():
            inside = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in PHOTOS | VIDEOS
                and file.is_file()
                and not file.name.startswith(".")
            )
            if not inside:
                raise JaxposeError(f"no picture or video in the folder {path}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise JaxposeError(f"no file {path}; give a photo, a video or a folder of them")
    return found


def _is_video(path: pathlib.Path) -> bool:
    """By its suffix; a GIF, and what has none that we know, by whether Pillow sees one picture."""
    suffix = path.suffix.lower()
    if suffix in PHOTOS:
        return False
    if suffix in VIDEOS and suffix != ".gif":
        return True
    pil = import_optional("PIL.Image", extra="predict")
    try:
        with pil.open(path) as image:
            return image.format == "GIF" and image.n_frames > 1
    except Exception:  # Pillow's decoders raise many kinds; PyAV will say what is wrong
        return True


def _check_file(
    out: pathlib.Path, suffix: str, paths: list[pathlib.Path], videos: list[bool]
) -> None:
    if len(paths) > 1:
        raise JaxposeError(f"{out} is one file and there are {len(paths)} inputs; give a folder")
    fitting = {".mp4"} if videos[0] else WRITTEN
    if suffix not in fitting:
        kind = "video" if videos[0] else "photo"
        raise JaxposeError(
            f"a {kind} is written as {' or '.join(sorted(fitting))}, not as {out.name}; "
            "give such a name or a folder"
        )


def _names(paths: list[pathlib.Path], videos: list[bool]) -> list[str]:
    """File names of the outputs, none twice: the inputs' own where their suffix can be written.

    Photos differ in more than their suffix, since their heat maps are named without it.
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
    """Make a folder, or say in a JaxposeError why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxposeError(f"cannot make the folder {folder}: {error.strerror}") from error
