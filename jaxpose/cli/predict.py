"""``jaxpose predict INPUT...``: predict people's keypoints in photos, folders and videos."""

import argparse
import math

from jaxpose.cli.options import add_box, add_checkpoint, number
from jaxpose.paths import local_path
from jaxpose.runtime.phases import phase, to_terminal

CAMERAS = 100  # OpenCV interprets larger numbers as drivers


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "predict",
        help="find people's keypoints in photos and videos",
        description="Finds the keypoints of people in photos, folders and videos, and draws them. "
        "Without boxes, it finds the people itself; in videos, it tracks them from frame to frame.",
        epilog="The file of --boxes contains COCO JSON, a list of COCO results, a JSON object that "
        "maps file names to lists of boxes, or lines FILE,x,y,width,height with the name of an "
        "input as FILE. For photos with many people, give the boxes of a person detector.",
    )
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="*", type=local_path, help="photo, video or folder"
    )
    add_checkpoint(parser)
    boxes = parser.add_mutually_exclusive_group()
    add_box(
        boxes, action="append", dest="boxes", help="box of a person, in pixels; may be repeated"
    )
    boxes.add_argument(
        "--boxes",
        metavar="FILE",
        dest="box_file",
        type=local_path,
        help="file with the boxes of each input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=local_path,
        help="output folder, or output file for a single input; a name ending in .json writes only "
        "the keypoints (default: predictions)",
    )
    parser.add_argument("--json", action="store_true", help="also write keypoints as COCO JSON")
    parser.add_argument(
        "--results",
        metavar="FILE.json",
        type=local_path,
        help="also write keypoints as COCO results, for evaluation with pycocotools; image ids are "
        "taken from the --boxes file",
    )
    parser.add_argument(
        "--heatmaps",
        action="store_true",
        help="for photos, also write the part maps (the paper's Figs. 1b and 5)",
    )
    parser.add_argument(
        "--context",
        action="store_true",
        help="for photos, also draw how the context maps change the prediction (the paper's Fig. "
        "6)",
    )
    parser.add_argument(
        "--flip_test",
        action="store_true",
        help="average the heat maps of the crop and of the mirrored crop",
    )
    parser.add_argument(
        "--num_crops",
        type=int,
        default=1,
        metavar="N",
        help="predict N crops per person, 1 to 9, and average the positions that agree (default: "
        "1)",
    )
    boxes.add_argument(
        "--detector",
        metavar="MODULE:FUNCTION",
        help="Python function that takes an RGB array and returns boxes [N, 4] (x, y, width, "
        "height)",
    )
    parser.add_argument(
        "--max_persons", type=_count, metavar="N", help="maximum number of persons per image"
    )
    parser.add_argument(
        "--min_score",
        type=_probability,
        metavar="P",
        help="omit persons whose score, the mean confidence of their joints, is lower than P "
        "(default: 0.48 if jaxpose finds the persons; with --detector, 0.3 for videos and no "
        "limit for photos; no limit with --box and --boxes)",
    )
    parser.add_argument(
        "--min_confidence",
        type=_probability,
        metavar="P",
        help="do not draw joints with a confidence below P, and write them to JSON with v = 0 "
        "(default: 0.3)",
    )
    parser.add_argument(
        "--smooth",
        type=_frequency,
        metavar="HZ",
        help="for videos, smooth the keypoints with this cutoff frequency; lower is smoother, and "
        "1 is a good first value",
    )
    parser.add_argument(
        "--webcam",
        type=_camera,
        nargs="?",
        const=0,
        metavar="NUMBER",
        help="record from camera NUMBER (default: 0) until Ctrl-C; with a display, also show the "
        "recording in a window",
    )
    parser.set_defaults(run=run)


def _camera(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < CAMERAS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the number of a camera; give 0 to {CAMERAS - 1}"
        )
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of persons; give 1 or more")
    return int(text)


def _probability(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a probability; give a number from 0 to 1"
        )
    return value


def _frequency(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a frequency; give a number above 0, in Hz"
        )
    return value


def run(arguments) -> None:
    """Predict every input and write the requested files."""
    with phase("loading JAX", log=to_terminal):
        from jaxpose.predict import command

    names = command.Options._fields
    options = command.Options(**{name: getattr(arguments, name) for name in names})
    command.run(arguments.inputs, options)
