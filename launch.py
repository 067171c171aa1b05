"""Train or evaluate a network: `python launch.py --config=configs/X.py[:PRESET] --workdir=DIR`.

Re-running the command resumes the run. `--config.FIELD=VALUE` overrides a field. After training, or
with `--mode=eval` alone, a checkpoint is scored on the config's test rows and written up as
WORKDIR/report.html. On a cluster start one process per host (or device) with the same command; see
docs/clusters.md.
"""

import contextlib
import logging
import os
import pathlib
import re
import sys
import traceback

from absl import flags

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.runtime.phases import phase

HELP = "see python launch.py --help"
FIELDS = "and configs/common.py for the fields"


def define_flags(argv: list[str]) -> flags.FlagValues:
    """The command's flags, not yet parsed; those of the config's fields follow from `argv`."""
    config_flags = import_optional("ml_collections.config_flags", extra="train")
    values = flags.FlagValues()
    place = {"flag_values": values, "module_name": "launch"}
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file, with a preset after a colon.",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", None, "Folder of the run; an existing run is resumed.", **place)
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a checkpoint.", **place)
    flags.DEFINE_string(
        "checkpoint",
        "",
        "For eval: another workdir, a checkpoint or the name of a shipped network.",
        **place,
    )
    flags.DEFINE_string(
        "coordinator", None, "host:port of process 0, where no launcher tells it.", **place
    )
    flags.DEFINE_integer("num_processes", None, "Processes of the run.", **place)
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", **place)
    flags.DEFINE_boolean("help", False, "Show this.", **place)
    return values


def parse(argv: list[str]) -> flags.FlagValues:
    """Parse the command's arguments; what a person can mistype becomes one line."""
    values = define_flags(argv)
    try:
        rest = values(argv)[1:]
        given = {"config": values.config, "workdir": values.workdir}
        if values.config is not None:
            values.config.keys()  # a file that was not found is said when it is used
    except AttributeError as error:
        raise JaxposeError(unknown_field(str(error), argv)) from error
    except (flags.Error, OSError, ValueError, TypeError, KeyError, SyntaxError) as error:
        # Of a config file that does not load, the last line says why.
        text = error.args[0] if isinstance(error, KeyError) else error
        lines = str(text).strip().splitlines() or [repr(error)]
        reason = lines[-1].strip().removeprefix("ValueError: ")
        raise JaxposeError(f"{reason}; {HELP} {FIELDS}") from error
    if rest:
        raise JaxposeError(f"unknown argument {rest[0]!r}; {HELP}")
    for name, value in given.items():
        if value is None and not values.help:
            raise JaxposeError(f"--{name} is missing; {HELP}")
    if values.checkpoint and values.mode != "eval":
        raise JaxposeError(
            "--checkpoint is for --mode=eval; to start from another network give --config.init_from"
        )
    return values


def unknown_field(message: str, argv: list[str]) -> str:
    """What is wrong with a field, from the message of ml_collections, which may be a repr."""
    field = re.search(r"\w+", message)[0]
    given = (re.match(r"--(?:no)?config\.([\w.]+)", argument) for argument in argv)
    names = [match[1] for match in given if match]
    full = next((name for name in names if name.rpartition(".")[2] == field), field)
    close = re.search(r'Did you mean "(\w+)"', message)
    section = full.removesuffix(field)
    advice = f"; did you mean {section}{close[1]}?" if close else ""
    return f"the config has no field '{full}'{advice}; the fields are in configs/common.py"


def run(values: flags.FlagValues) -> None:
    """Train or evaluate as the flags say."""
    with phase("loading JAX"):
        import jax

        from jaxpose.runtime import processes
        from jaxpose.runtime.compilation import use_compilation_cache
        from jaxpose.runtime.host_memory import keep_freed_memory
        from jaxpose.training import loop

        keep_freed_memory()
        use_compilation_cache()
        processes.initialise(values.coordinator, values.num_processes, values.process_id)
    if values.mode == "eval":
        evaluate_and_report(values.config, values.workdir, values.checkpoint)
        return
    result = loop.train(values.config, values.workdir)
    if jax.process_index() == 0:
        ended = f"stopped ({result['stopped']})" if result["stopped"] else "done"
        score = "none" if result["score"] is None else f"{result['score']:.2f}"
        print(
            f"{ended} at step {result['step']} of {result['num_steps']}, best validation score "
            f"{score}, in {pathlib.Path(values.workdir)}"
        )
    if values.config.report and values.config.test and result["stopped"] != "preemption":
        evaluate_and_report(values.config, values.workdir)


def evaluate_and_report(config, workdir: str, checkpoint: str = "") -> None:
    """Score the test rows, print their tables, write the page."""
    import jax

    from jaxpose import report
    from jaxpose.evaluation import scoring

    first = jax.process_index() == 0
    with phase("evaluating the test rows") if first else contextlib.nullcontext():
        evaluation = scoring.evaluate_checkpoint(config, workdir, path=checkpoint)
    if not first:
        return
    print(scoring.report_text(evaluation))
    if config.report:
        with phase("writing the report"):
            page = report.report_run(config, workdir, evaluation)
        print(f"\nreport: {page}")


def quieten() -> None:
    """Keep off the terminal what libraries log, thread by thread, of a write that failed.

    The error's line says why. It hides Orbax's and TensorStore's traces, not warnings of Python.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = show_others


def failed(message: str) -> int:
    """Say it in one line; the exit status."""
    print(f"error: {message}", file=sys.stderr)
    return ended(1)


def ended(status: int) -> int:
    """The exit status of a command that failed; of several processes, this one ends here."""
    from jaxpose.runtime import processes

    processes.leave(status)
    return status


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    try:
        values = parse(argv)
        if values.help:
            print(f"{__doc__}\n{values.module_help('launch')}")
        else:
            run(values)
        return 0
    except JaxposeError as error:
        return failed(str(error))
    except OSError as error:  # disk full, no permission
        where = f"{error.filename}: " if error.filename else ""
        return failed(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return ended(130)
    except Exception:  # a bug; or, of several processes, a partner that died
        traceback.print_exc()
        return ended(1)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    quieten()
    sys.exit(main(sys.argv))
