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
import pathlib
import shutil
import sys
import tempfile
import types

from tfds_builders.errors import BuildError
from tfds_builders.sources import path_option

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
        build(_parser().parse_args(arguments))
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
    except KeyboardInterrupt:
        print("error: interrupted; nothing was prepared", file=sys.stderr)
        return 130
    return 0


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders",
        description="Prepares a pose data set for training, from the files that you have.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name",
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
    for module in _option_modules():
        module.add_options(parser)
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
        help="rebuild the data set if it is already prepared",
    )
    return parser


def _option_modules() -> list[types.ModuleType]:
    """Import the ``options.py`` of each data set that has its own options."""
    modules = (f"tfds_builders.{name}.options" for name in NAMES)
    return [
        importlib.import_module(module) for module in modules if importlib.util.find_spec(module)
    ]


def build(options: argparse.Namespace) -> None:
    """Prepare the data set and print what it found.

    Raises:
      BuildError: the data set does not exist, the sources are wrong or cannot be read.
    """
    name, _, config = options.name.partition("/")
    if name not in NAMES:
        raise BuildError(f"no data set is called {name!r}; choose one of {', '.join(NAMES)}")
    import tensorflow_datasets as tfds  # after parsing the arguments: it takes a second

    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    config, more = module.Builder.configure(config, options)

    tfds.disable_progress_bar()  # our progress bar shows the number of persons
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns about each of our configurations
    place = {"config": config, "data_dir": options.data_dir}
    path = pathlib.Path(module.Builder(**place).data_dir)
    if path.exists() and not options.overwrite:
        print(f"{options.name} is already prepared in {path}")
        print("add --overwrite to rebuild it")
        return
    with _set_aside(path), tempfile.TemporaryDirectory() as downloads:
        builder = module.Builder(
            **place, **more, sources=options.source, strict=options.strict, progress=True
        )
        with contextlib.redirect_stdout(io.StringIO()):  # hide TFDS's messages about downloads
            builder.download_and_prepare(file_format="array_record", download_dir=downloads)
    report = "\n".join(builder.report.lines(names_shown=None)) + "\n"
    (path / REPORT).write_text(report, "utf-8", errors="backslashreplace")
    print(f"{builder.info.full_name} is prepared in {path}")
    for line in builder.report.lines():
        print(f"  {line}")
    print(f"  (full report, including all names: {path / REPORT})")


class _set_aside:
    """Move a prepared data set away during a rebuild; move it back if the rebuild fails."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.aside = path.with_name(f"replaced_{path.name}")

    def __enter__(self):
        if self.path.exists():
            shutil.rmtree(self.aside, ignore_errors=True)
            self.path.rename(self.aside)

    def __exit__(self, kind, error, trace):
        if self.aside.exists() and self.path.exists():
            shutil.rmtree(self.aside)
        elif self.aside.exists():
            self.aside.rename(self.path)


if __name__ == "__main__":
    sys.exit(main())
