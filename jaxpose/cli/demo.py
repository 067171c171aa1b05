"""``jaxpose demo``: a page on this computer that shows what the network sees in a photo."""

from jaxpose.cli.predict import add_checkpoint
from jaxpose.runtime.phases import phase, to_terminal


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo",
        help="open a page that shows what the network sees in your photos",
        description="Serves a page, to this computer alone, where you drop a photo, move the box "
        "and see skeleton, part maps and probabilities. It needs no network. Ctrl-C ends it.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at (default: %(default)s, this computer alone; 0.0.0.0 lets "
        "everybody in your network use the page)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="default: %(default)s; 0 takes a free one"
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Serve the page until Ctrl-C."""
    with phase("loading JAX", log=to_terminal):
        from jaxpose.demo.server import serve
        from jaxpose.predict.command import open_estimator

    estimator = open_estimator(arguments.checkpoint)
    try:
        serve(
            estimator,
            host=arguments.host,
            port=arguments.port,
            ready=lambda address: print(f"open {address} (Ctrl-C ends it)", flush=True),
        )
    except KeyboardInterrupt:  # how it is meant to end
        return
