"""``python -m tfds_builders NAME[/CONFIG] --source PATH``: prepare one data set.

Needs neither TensorFlow nor network access: it reads local archives or extracted files, checks
every image, writes TFDS's files (array_record) and prints a report.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import logging
import os
import pathlib
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator

from tfds_builders import prepared_folder
from tfds_builders.errors import BuildError
from tfds_builders.sources import local_path, path_option

NAMES = ("lsp", "lspet", "mpii", "coco", "backgrounds", "synthetic_people")

REPORT = "build_report.txt"

# Name in pip of each package that installs a module of another name.
_PACKAGES = {"PIL": "pillow", "absl": "absl-py", "cv2": "opencv-python-headless"}

EXAMPLES = """examples:
  python -m tfds_builders lsp --source lsp_dataset.zip
  python -m tfds_builders lsp/observer_centric --source DOWNLOADS
  python -m tfds_builders lspet --source lspet_dataset.zip
  python -m tfds_builders mpii --source mpii_human_pose_v1.tar.gz mpii_human_pose_v1_u12_2.zip
  python -m tfds_builders mpii/crops --source MPII MORE_OF_MPII
  python -m tfds_builders coco --source dogs.json --images dogs --name dogs --holdout 0.1
  python -m tfds_builders backgrounds --source IMAGES_WITHOUT_PEOPLE
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status; wrong arguments exit with status 2."""
    for stream in (sys.stdout, sys.stderr):  # write characters outside the encoding as \x escapes
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # our report contains Pillow's reason
    try:
        with _sigterm_interrupts():
            build(_parse(arguments))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith(("tfds_builders", "jaxpose.")):
            raise
        print(f"error: {_missing(error.name)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; fix it and re-run the command", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not _is_full_disk(error):
            raise
        print("error: the disk is full; free disk space and re-run the command", file=sys.stderr)
        return 1
    except _Terminated:
        print("error: terminated; nothing was prepared", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("error: interrupted; nothing was prepared", file=sys.stderr)
        return 130
    return 0


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the command as Ctrl-C does."""


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Raise _Terminated at the first SIGTERM; ignore further ones, so that cleanup completes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _missing(module: str) -> str:
    """Return what to do about a library that is not installed."""
    package = _PACKAGES.get(module.split(".")[0])
    missing = f"{package} (imported as {module})" if package else module
    return f"{missing} is not installed; install the extra train: pip install '.[train]'"


def _is_full_disk(error: RuntimeError) -> bool:
    """Whether array_record could not write because the disk is full.

    array_record 0.8 raises a plain RuntimeError with the system's message. Remove when it raises
    OSError with an ``errno``. (The corresponding checks of jaxpose are in jaxpose/_compat.py, which
    the builders do not import.)
    """
    return "No space left" in str(error) or "quota exceeded" in str(error)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Returns:
      The common options, and the options of the chosen data set only.

    Raises:
      BuildError: the data set does not exist, or an option belongs to another data set.
    """
    own = {name: _own_options(name) for name in NAMES}
    defaults = {name: vars(parser.parse_args([])) for name, parser in own.items()}
    parser = _parser(list(own.values()))
    # None marks an option that is not given.
    parser.set_defaults(**dict.fromkeys((key for keys in defaults.values() for key in keys), None))
    options = parser.parse_args(arguments)
    name = options.data_set.partition("/")[0]
    if name not in NAMES:
        raise BuildError(f"no data set is called {name!r}; choose one of {', '.join(NAMES)}")
    unused = []
    for key in set().union(*defaults.values()):
        if key not in defaults[name]:
            if getattr(options, key) is not None:
                unused.append(f"--{key}")
            delattr(options, key)
        elif getattr(options, key) is None:
            setattr(options, key, defaults[name][key])
    if unused:
        raise BuildError(
            f"{name} does not use {', '.join(sorted(unused))}; "
            f"remove {'this option' if len(unused) == 1 else 'these options'}"
        )
    return options


def _own_options(name: str) -> argparse.ArgumentParser:
    """Return a parser of the options in the data set's ``options.py``, if it has one."""
    parser = argparse.ArgumentParser(add_help=False)
    if importlib.util.find_spec(f"tfds_builders.{name}.options"):
        importlib.import_module(f"tfds_builders.{name}.options").add_options(parser)
    return parser


def _parser(parents: list[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Return the parser of the common options and those of the parents."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders",
        description="Prepares a pose data set for training, from the files that you have.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=parents,
    )
    parser.add_argument(
        "data_set",
        metavar="NAME[/CONFIG]",
        help="lsp[/person_centric | /observer_centric], lspet[/corrected], mpii[/full | /crops], "
        "coco, backgrounds, synthetic_people[/demo | /tiny]; without /CONFIG: lsp/person_centric, "
        "lspet with the released labels, mpii/full, synthetic_people/demo",
    )
    parser.add_argument(
        "--source",
        nargs="+",
        action="extend",
        type=path_option("--source"),
        default=[],
        metavar="PATH",
        help="zip, tar or extracted folder of the release, or a folder that contains one of them; "
        "for coco, the annotation file; several paths may be given, except for coco",
    )
    parser.add_argument(
        "--data_dir",
        "--data-dir",
        type=path_option("--data_dir"),
        metavar="DIR",
        help="folder of prepared data sets (default: TFDS's, ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="stop at the first unusable file or person instead of skipping it",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="rebuild the data set if it is already prepared or incomplete",
    )
    return parser


def build(options: argparse.Namespace) -> None:
    """Prepare the data set and print what it found.

    Raises:
      BuildError: the configuration does not exist, the sources are wrong or cannot be read, or the
        data set is already there but incomplete.
    """
    import tensorflow_datasets as tfds  # after parsing the arguments: it takes a second

    name, _, config = options.data_set.partition("/")
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    config, more = module.Builder.configure(config, options)

    tfds.disable_progress_bar()  # our progress bar shows the number of persons
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns about each of our configurations
    data_dir = _data_dir(options)
    path = data_dir / _place(module.Builder, config)
    if not options.overwrite and _is_prepared(path, options.data_set):
        return
    with prepared_folder.lock(path.parent) as locked:
        if prepared_folder.restore(path):
            print(f"{path} is restored (an earlier --overwrite was interrupted)")
        if locked:
            prepared_folder.remove_leftovers(path)
        if not options.overwrite and _is_prepared(path, options.data_set):
            return
        with prepared_folder.set_aside(path), tempfile.TemporaryDirectory() as downloads:
            builder = module.Builder(
                config=config,
                data_dir=data_dir,
                sources=options.source,
                strict=options.strict,
                progress=True,
                **more,
            )
            with contextlib.redirect_stdout(io.StringIO()):  # hide TFDS's messages about downloads
                builder.download_and_prepare(file_format="array_record", download_dir=downloads)
    report = "\n".join(builder.report.lines(names_shown=None)) + "\n"
    (path / REPORT).write_text(report, "utf-8", errors="backslashreplace")
    print(f"{builder.info.full_name} is prepared in {path}")
    for line in builder.report.lines():
        print(f"  {line}")
    print(f"  (full report, including all names: {path / REPORT})")


def _data_dir(options: argparse.Namespace) -> pathlib.Path:
    """Return ``--data_dir``, by default TFDS's folder."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(options.data_dir or local_path(default, "TFDS_DATA_DIR"))


def _place(builder_class, config) -> pathlib.Path:
    """Return the data set's folder below ``--data_dir``, without reading that folder.

    A builder reads the metadata in its folder, which may be damaged; this one has an empty folder.
    """
    with tempfile.TemporaryDirectory() as empty:
        folder = builder_class(config=config, data_dir=empty).data_dir
        return pathlib.Path(folder).relative_to(empty)


def _is_prepared(path: pathlib.Path, name: str) -> bool:
    """Whether the data set exists, which is then printed.

    Raises:
      BuildError: it exists but is incomplete.
    """
    if not path.exists():
        return False
    damage = prepared_folder.damage(path)
    if damage:
        raise BuildError(f"{path} is incomplete: {damage}; add --overwrite to rebuild it")
    print(f"{name} is already prepared in {path}")
    print("add --overwrite to rebuild it")
    return True


if __name__ == "__main__":
    sys.exit(main())
