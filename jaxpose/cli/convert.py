"""``jaxpose convert FILE.h5 OUTDIR``: the authors' Keras weights as a checkpoint."""

import argparse

from jaxpose.cli.exits import silence_library_logs
from jaxpose.errors import JaxposeError
from jaxpose.paths import local_path, names_a_file


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "convert",
        help="convert Keras weights by the paper's authors to a checkpoint",
        description="Converts the authors' Keras weights file to a checkpoint, which all commands "
        "accept. The numbers of blocks, joints and context maps are read from the file.",
    )
    parser.add_argument(
        "file", metavar="FILE.h5", type=local_path, help="the authors' weights file"
    )
    parser.add_argument(
        "folder",
        metavar="OUTDIR",
        type=local_path,
        help="folder of the checkpoint to write, new or empty",
    )
    parser.add_argument(
        "--joints",
        type=_names,
        metavar="NAME,NAME,...",
        help="joint names in the file's channel order (default: the authors' 16)",
    )
    unknown = "needed only if the file does not determine it"
    parser.add_argument("--num_joints", type=int, metavar="J", help=f"number of joints; {unknown}")
    parser.add_argument(
        "--num_context_maps",
        type=int,
        metavar="C",
        help=f"number of context maps per joint; {unknown}",
    )
    parser.set_defaults(run=run)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; give NAME,NAME,...")
    return names


def run(arguments) -> None:
    """Convert a file and print what was found in it."""
    from jaxpose.checkpoints import keras_import
    from jaxpose.network import make_net

    silence_library_logs()

    if names_a_file(arguments.folder):
        raise JaxposeError(f"{arguments.folder} is the name of a file; give a folder")

    metadata, folder = keras_import.convert(
        arguments.file,
        arguments.folder,
        joints=arguments.joints,
        num_joints=arguments.num_joints,
        num_context_maps=arguments.num_context_maps,
    )
    net = make_net(metadata.network)
    print(
        f"{arguments.file}: {net.num_blocks} blocks, {net.num_joints} joints, "
        f"{net.num_context_maps} context maps per joint, width {net.width}, grid "
        f"{net.grid}\njoints: {', '.join(metadata.joints)}\ncheckpoint: {folder}"
    )
