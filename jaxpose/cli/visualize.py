"""``jaxpose visualize [CHECKPOINT] PHOTO``: part and context maps (the paper's Figs. 1b, 5, 6)."""

from jaxpose.cli.options import CHECKPOINT_OR_DEFAULT, add_box
from jaxpose.paths import local_path, stored_path
from jaxpose.runtime.phases import phase, to_terminal


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "visualize",
        help="draw a network's heat maps for a photo",
        description="Writes three images. The first shows the part maps of all joints (the paper's "
        "Fig. 1b), the second shows single part maps before and after the softmax (Fig. 5). The "
        "third shows, for the joints that the context maps moved the furthest, the part map, the "
        "context maps and the prediction (Fig. 6).",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=stored_path,
        nargs="?",
        help=CHECKPOINT_OR_DEFAULT,
    )
    parser.add_argument("photo", metavar="PHOTO", type=local_path, help="photo file")
    add_box(
        parser, help="box of the person, in pixels (default: the best person found in the photo)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=local_path,
        help="output folder (default: predictions)",
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Write the images and print their names."""
    with phase("loading JAX", log=to_terminal):
        from jaxpose.predict import command

    command.visualize(
        arguments.photo,
        checkpoint=arguments.checkpoint,
        box=arguments.box,
        output=arguments.output,
    )
