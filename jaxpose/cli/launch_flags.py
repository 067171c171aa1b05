"""The flags of ``launch.py``, with mistakes reported in one line."""

import os
import re
import traceback
from typing import Any

from absl import flags

from jaxpose import _compat
from jaxpose.cli.exits import ConfigFileError
from jaxpose.errors import JaxposeError, UsageError
from jaxpose.optional import import_optional

HELP = "see python launch.py --help"
FIELDS = "and configs/common.py for the fields"


def define_flags(argv: list[str]) -> flags.FlagValues:
    """Define the command's flags, with one for each field of the config that ``argv`` names."""
    config_flags = import_optional("ml_collections.config_flags", extra="train")
    values = flags.FlagValues()
    place: dict[str, Any] = {"flag_values": values, "module_name": "launch"}
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file; to choose a preset, add a colon and its name, as in configs/coco.py:small.",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", None, "Folder of the run; an existing run is resumed.", **place)
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or only evaluate.", **place)
    flags.DEFINE_string(
        "checkpoint",
        "",
        "For eval: another workdir, a checkpoint or the name of a shipped network.",
        **place,
    )
    flags.DEFINE_string(
        "coordinator", None, "host:port of process 0, if no cluster launcher sets it.", **place
    )
    flags.DEFINE_integer(
        "num_processes", None, "Number of processes of the run.", lower_bound=1, **place
    )
    flags.DEFINE_integer(
        "process_id", None, "Number of this process, from 0.", lower_bound=0, **place
    )
    flags.DEFINE_integer(
        "heartbeat_seconds",
        100,
        "Multi-process runs: end the run if a process sends no heartbeat for this many seconds.",
        lower_bound=1,
        **place,
    )
    flags.DEFINE_integer(
        "profile_steps",
        0,
        "Trace this many steps of process 0 and write the trace to WORKDIR/profile.",
        lower_bound=0,
        **place,
    )
    flags.DEFINE_boolean("help", False, "Show this help.", **place)
    return values


def parse(argv: list[str]) -> flags.FlagValues:
    """Parse the arguments of ``launch.py``; the first one is the name of the program.

    Raises:
      UsageError: a wrong flag, config field or combination.
      JaxposeError: the config file cannot be read.
      ConfigFileError: the config file raised an exception, which is this error's cause.
    """
    values = define_flags(argv)
    try:
        rest = values(argv)[1:]
        given = {"config": values.config, "workdir": values.workdir}
        if values.config is not None:
            values.config.keys()  # ml_collections reports an unreadable file on first use
    except JaxposeError:  # a config's own: no such preset
        raise
    except Exception as error:
        inside = _raised_by_config(error, _config_files(argv))
        if inside is not None:
            misspelled = _compat.misspelled_config_field(inside)
            if misspelled:
                raise UsageError(_misspelled(inside, *misspelled)) from error
            raise ConfigFileError from inside
        raise _translated(error, argv) from error
    if rest:
        raise UsageError(f"unknown argument {rest[0]!r}; {HELP}")
    for name, value in given.items():
        if value is None and not values.help:
            raise UsageError(f"--{name} is missing; {HELP}")
    if values.workdir == "":
        raise UsageError("--workdir is empty; give the folder of the run, or . for this folder")
    if values.checkpoint and values.mode != "eval":
        raise UsageError(
            "--checkpoint is for --mode=eval only; to train from another network, give "
            "--config.init_from"
        )
    return values


def _config_files(argv: list[str]) -> set[str]:
    """Return the absolute paths of the files that ``--config`` names."""
    files = set()
    for argument, next_argument in zip(argv, [*argv[1:], ""], strict=True):
        match = re.fullmatch(r"--?config(?:=(.*))?", argument)
        if match:
            value = next_argument if match[1] is None else match[1]
            files.add(os.path.abspath(value.partition(":")[0]))
    return files


def _raised_by_config(error: BaseException | None, files: set[str]) -> BaseException | None:
    """Return the exception that a config file raised, or None; its traceback starts in the file.

    Absl and ml_collections wrap some exceptions, so the chain of causes of ``error`` is searched.
    """
    found = None
    while error is not None:
        frames = error.__traceback__
        while frames and os.path.abspath(frames.tb_frame.f_code.co_filename) not in files:
            frames = frames.tb_next
        does_not_compile = isinstance(error, SyntaxError) and (
            os.path.abspath(error.filename or "") in files
        )
        if frames or does_not_compile:
            found = error.with_traceback(frames)
        error = error.__cause__ or error.__context__
    return found


def _misspelled(error: BaseException, field: str, close: str | None) -> str:
    """Return the message for a field that does not exist, with the line that sets it."""
    place = traceback.extract_tb(error.__traceback__)[0]  # starts in the config file
    advice = f"; did you mean {close}?" if close else ""
    return (
        f"{place.filename}, line {place.lineno}: the config has no field '{field}'{advice}; the "
        "fields are in configs/common.py"
    )


def _translated(error: Exception, argv: list[str]) -> Exception:
    """Translate an exception of absl or ml_collections into a user-facing error.

    Other exceptions are returned unchanged.
    """
    if isinstance(error, AttributeError):
        if _compat.lacks_get_config(error):
            return UsageError(f"the --config file does not define get_config(); {HELP}")
        return UsageError(_unknown_field(error, argv))
    section = _compat.assigned_config_section(error)
    if section:
        return UsageError(f"{section} has several fields; set one, as --{section}.FIELD=VALUE")
    if not isinstance(error, flags.Error | OSError | ValueError | TypeError | KeyError):
        return error
    kind = JaxposeError if isinstance(error, OSError) else UsageError
    return kind(f"{_compat.config_error_reason(error)}; {HELP} {FIELDS}")


def _unknown_field(error: AttributeError, argv: list[str]) -> str:
    """Return an error message with the full field name; ml_collections omits the section."""
    field, close = _compat.unknown_config_field(error)
    given = (re.match(r"--(?:no)?config\.([\w.]+)", argument) for argument in argv)
    names = [match[1] for match in given if match]
    full = next((name for name in names if name.rpartition(".")[2] == field), field)
    section = full.removesuffix(field)
    advice = f"; did you mean {section}{close}?" if close else ""
    return f"the config has no field '{full}'{advice}; the fields are in configs/common.py"
