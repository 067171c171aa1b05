"""``jaxpose pack CHECKPOINT FILE.npz``: a checkpoint as one small file."""

from jaxpose.cli.options import CHECKPOINT
from jaxpose.paths import local_path, stored_path


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "pack",
        help="write a checkpoint as a single file, about half as large",
        description="Writes a checkpoint as one .npz file, with kernels in float16. Every command "
        "that takes a checkpoint accepts this file.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=stored_path, help=CHECKPOINT)
    parser.add_argument(
        "file", metavar="FILE.npz", type=local_path, help="packed checkpoint to write"
    )
    parser.add_argument(
        "--window",
        metavar="CELLS",
        type=int,
        help="decode the heat maps within a window of this side around their highest cell; odd, "
        "or 0 for the whole map (default: as in CHECKPOINT)",
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Pack a checkpoint and print the path of the file."""
    from jaxpose.checkpoints import packed, store

    variables, metadata, folder = store.load(arguments.checkpoint)
    if arguments.window is not None:
        metadata = metadata._replace(network={**metadata.network, "window": arguments.window})
    file = packed.pack(variables, metadata, arguments.file)
    print(f"{folder} (step {metadata.step}) is packed in {file}, {file.stat().st_size:,} bytes")
