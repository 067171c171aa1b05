"""``jaxpose predict INPUT...``: keypoints of people in photos, folders and videos."""

import argparse
import math

from jaxpose.cli.options import add_box, add_checkpoint, number
from jaxpose.paths import local_path
from jaxpose.runtime.phases import phase, to_terminal

CAMERAS = 100  # OpenCV reads a larger number as one of its drivers


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "predict",
        help="find people's keypoints in photos and videos",
        description="Finds the keypoints of people in photos, folders of them, and videos, and "
        "draws them. Without boxes it finds the people by itself; in a video it tracks them from "
        "frame to frame.",
        epilog="FILE holds boxes as COCO's JSON has them, or lines FILE,x,y,width,height. For many "
        "people, write it with any detector.",
    )
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="*", type=local_path, help="photo, video or folder"
    )
    add_checkpoint(parser)
    boxes = parser.add_mutually_exclusive_group()
    add_box(boxes, action="append", dest="boxes", help="of a person, in pixels; may be repeated")
    boxes.add_argument(
        "--boxes", metavar="FILE", dest="box_file", type=local_path, help="boxes for each input"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=local_path,
        help="folder, or file for a single input; with .json only that is written (default: "
        "predictions)",
    )
    parser.add_argument("--json", action="store_true", help="write keypoints as COCO's JSON too")
    parser.add_argument(
        "--results",
        metavar="FILE.json",
        type=local_path,
        help="write keypoints as a list of COCO results too, which pycocotools evaluates; image "
        "ids are those of the file of --boxes",
    )
    parser.add_argument(
        "--heatmaps", action="store_true", help="of photos: the part maps too (Figs. 1b and 5)"
    )
    parser.add_argument(
        "--context", action="store_true", help="of photos: what context maps change too (Fig. 6)"
    )
    parser.add_argument(
        "--flip_test", action="store_true", help="average with the prediction for the mirrored crop"
    )
    parser.add_argument(
        "--num_crops",
        type=int,
        default=1,
        metavar="N",
        help="average over N crops a person, 1 to 9",
    )
    boxes.add_argument(
        "--detector",
        metavar="MODULE:FUNCTION",
        help="Python function from an RGB array to boxes [N, 4] of x, y, width, height",
    )
    parser.add_argument(
        "--max_persons", type=_count, metavar="N", help="the most persons of an image"
    )
    parser.add_argument(
        "--min_score",
        type=_probability,
        metavar="P",
        help="persons of a lower score, their mean confidence, are left out (default: 0.42 without "
        "boxes)",
    )
    parser.add_argument(
        "--min_confidence",
        type=_probability,
        metavar="P",
        help="joints of a lower confidence are not drawn and have v = 0 in JSON",
    )
    parser.add_argument(
        "--smooth",
        type=_frequency,
        metavar="HZ",
        help="of videos: smooth the keypoints; 1 is a good start, lower is smoother",
    )
    parser.add_argument(
        "--webcam",
        type=_camera,
        nargs="?",
        const=0,
        metavar="NUMBER",
        help="record from a camera until Ctrl-C, shown in a window where there is a display",
    )
    parser.set_defaults(run=run)


def _camera(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < CAMERAS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a camera; give its number, 0 to {CAMERAS - 1}"
        )
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of persons; give 1 or more")
    return int(text)


def _probability(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability; give one from 0 to 1")
    return value


def _frequency(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no frequency; give one above 0, in Hz")
    return value


def run(arguments) -> None:
    """Predict every input and write what was asked for."""
    with phase("loading JAX", log=to_terminal):
        from jaxpose.predict import command

    command.run(
        arguments.inputs,
        checkpoint=arguments.checkpoint,
        boxes=arguments.boxes,
        box_file=arguments.box_file,
        output=arguments.output,
        json=arguments.json,
        results=arguments.results,
        heatmaps=arguments.heatmaps,
        context=arguments.context,
        smooth=arguments.smooth,
        min_confidence=arguments.min_confidence,
        max_persons=arguments.max_persons,
        min_score=arguments.min_score,
        detector=arguments.detector,
        webcam=arguments.webcam,
        flip_test=arguments.flip_test,
        num_crops=arguments.num_crops,
    )
