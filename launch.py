"""Train or evaluate a network: `python launch.py --config=configs/X.py[:PRESET] --workdir=DIR`.

The same command again goes on where the run was stopped. `--config.FIELD=VALUE` overrides a field;
`--mode=eval` scores a checkpoint on the config's test rows. On a cluster start one process a host
(or device) with the same command; see docs/clusters.md.
"""

import os
import pathlib
import sys

from absl import flags

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    config_flags = import_optional("ml_collections.config_flags", extra="train")
    config_flags.DEFINE_config_file("config", None, "Config file, with a preset after a colon.")
    flags.DEFINE_string("workdir", None, "Folder of the run; the same one goes on with it.")
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a checkpoint.")
    flags.DEFINE_string("checkpoint", "", "For eval: a checkpoint folder or another workdir.")
    flags.DEFINE_string("coordinator", None, "host:port of process 0, where no launcher tells it.")
    flags.DEFINE_integer("num_processes", None, "Processes of the run.")
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
    flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    try:
        define_flags()
        rest = parse(argv)
        if rest:
            raise JaxposeError(f"unknown argument {rest[0]!r}; see python launch.py --helpshort")
        run()
        return 0
    except JaxposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def parse(argv: list[str]) -> list[str]:
    """Parse the flags; what a person can mistype becomes one line."""
    try:
        return FLAGS(argv)[1:]
    except flags.Error as error:
        lines = str(error).strip().splitlines()
        raise JaxposeError(f"{lines[0]}; see python launch.py --helpshort") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        lines = str(error).strip('"').strip().splitlines() or [repr(error)]
        raise JaxposeError(f"{lines[0]}; see configs/common.py for the fields") from error


def run() -> None:
    """Train or evaluate as the flags say."""
    import jax

    from jaxpose import cluster, evaluate, train
    from jaxpose.compilation_cache import use_compilation_cache
    from jaxpose.host_memory import keep_freed_memory

    keep_freed_memory()
    use_compilation_cache()
    cluster.initialise(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    if FLAGS.mode == "eval":
        report = train.evaluate_checkpoint(FLAGS.config, FLAGS.workdir, path=FLAGS.checkpoint)
        if jax.process_index() == 0:
            print(evaluate.report_text(report))
        return
    result = train.train(FLAGS.config, FLAGS.workdir)
    if jax.process_index() == 0:
        ended = f"stopped ({result['stopped']})" if result["stopped"] else "done"
        print(
            f"{ended} at step {result['step']} of {result['num_steps']}, best validation score "
            f"{result['score']:.2f}, in {pathlib.Path(FLAGS.workdir)}"
        )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(sys.argv))
