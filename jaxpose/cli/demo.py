"""``jaxpose demo``: a local page that shows the network's predictions and heat maps of a photo."""

from jaxpose.cli.options import add_checkpoint
from jaxpose.runtime.phases import phase, to_terminal


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo",
        help="open a page that shows the network's predictions and heat maps for your photos",
        description="Serves a local page on which you drop a photo, move the box, and see the "
        "skeleton, the part maps and the confidences. Works offline. Press Ctrl-C to stop.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, only this computer; 0.0.0.0 for every "
        "computer in the local network)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="port to listen on (default: %(default)s; 0 selects a free port)",
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
            ready=lambda address: print(
                f"open {address} in a browser; press Ctrl-C to stop", flush=True
            ),
        )
    except KeyboardInterrupt:  # the normal way to stop it
        return
