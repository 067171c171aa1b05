"""``jaxpose export CHECKPOINT OUT``: a checkpoint as one program for other people's code."""

from jaxpose.checkpoints import KINDS
from jaxpose.cli.options import CHECKPOINT
from jaxpose.paths import local_path, stored_path
from jaxpose.runtime.phases import phase, to_terminal


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "export",
        help="turn a checkpoint into one program that runs without jaxpose",
        description="Writes one program that computes the positions and confidences of the joints "
        "from crops. It contains the network, the normalization of the crops and the decoding of "
        "the heat maps. OUT.json contains the joint names, the limbs and the rule for computing "
        "the crop from a person's box.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=stored_path,
        help=CHECKPOINT,
    )
    parser.add_argument("out", metavar="OUT", type=local_path, help="file of the program to write")
    parser.add_argument(
        "--format",
        help="jax: an artifact of jax.export, for CPU, CUDA and TPU; onnx: a model for ONNX "
        "Runtime and others (default: onnx if OUT ends in .onnx, otherwise jax)",
    )
    parser.add_argument(
        "--which",
        choices=KINDS,
        default=KINDS[0],
        help="which checkpoint of a workdir to export (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Export a checkpoint and print what was written."""
    with phase("loading JAX", log=to_terminal):
        from jaxpose.export import export_network
        from jaxpose.runtime.compilation import use_compilation_cache

    use_compilation_cache()
    name = arguments.format or ("onnx" if arguments.out.endswith(".onnx") else "jax")
    with phase("compiling the program", log=to_terminal):
        done = export_network(
            arguments.checkpoint, arguments.out, format=name, which=arguments.which
        )
    print(
        f"checkpoint: {done.checkpoint}\n"
        f"program: {done.program} ({name}, {done.program.stat().st_size / 1e6:.1f} MB); its "
        f"outputs differ from the network's by at most {done.difference:.1e}\n"
        f"description: {done.description}"
    )
