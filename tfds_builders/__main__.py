"""`python -m tfds_builders NAME[/CONFIG] --source PATH`: prepares one data set.

No TensorFlow, no network: it reads what lies on the disk, as the releases' archives or extracted,
checks every image, writes TFDS's files (array_record) and says what it found.
"""

import argparse
import contextlib
import importlib
import io
import logging
import pathlib
import shutil
import sys
import tempfile

from tfds_builders.errors import BuildError
from tfds_builders.sources import local_path

NAMES = ("lsp", "lspet", "mpii", "coco", "backgrounds", "synthetic_people")

REPORT = "build_report.txt"
PATHS = ("data_dir", "images", "corrections")  # options beside --source

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
    for stream in (sys.stdout, sys.stderr):  # file names that the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # our report has its reason
    options = _parser().parse_args(arguments)
    try:
        build(options)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; mend it and run the same command again", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not _is_full_disk(error):
            raise
        print("error: the disk is full; free some space and run it again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was prepared", file=sys.stderr)
        return 130
    return 0


def _is_full_disk(error: RuntimeError) -> bool:
    """Whether array_record could not write for lack of space.

    array_record 0.8 raises a plain RuntimeError with the system's message. Remove when it raises
    OSError with an ``errno``. (jaxpose/_compat.py holds such matches of jaxpose, which the builders
    do not import.)
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
        "coco, backgrounds, synthetic_people; without CONFIG the first one named",
    )
    parser.add_argument(
        "--source",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="the release's zip or tar, the extracted folder, or a folder that holds either; "
        "several may be given",
    )
    coco = parser.add_argument_group("coco")
    coco.add_argument("--name", dest="config_name", default="", help="the data set is coco/NAME")
    coco.add_argument(
        "--images", default="", help="folder of the images (default: that of the annotation file)"
    )
    coco.add_argument(
        "--split",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="annotation files of several splits, such as train=A.json validation=B.json",
    )
    coco.add_argument(
        "--holdout",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="this fraction of the training images makes the split validation",
    )
    coco.add_argument(
        "--category", metavar="NAME", help="default: person, or the one with keypoints"
    )
    coco.add_argument(
        "--flip_pair",
        nargs=2,
        action="append",
        metavar=("RIGHT", "LEFT"),
        help="joints that a mirror exchanges; may be repeated (default: from left and right in "
        "their names)",
    )
    coco.add_argument(
        "--limb",
        nargs=2,
        action="append",
        metavar=("JOINT", "JOINT"),
        help="joints that a drawing connects; may be repeated (default: the file's skeleton)",
    )
    coco.add_argument(
        "--sigmas",
        nargs="+",
        type=float,
        default=[],
        metavar="SIGMA",
        help="of OKS-AP, one for all joints or one a joint (default: COCO's for its own joints)",
    )
    coco.add_argument(
        "--min_joints",
        type=int,
        default=1,
        metavar="N",
        help="persons with fewer labeled joints make no example (default: 1)",
    )
    coco.add_argument(
        "--min_side",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="nor do those whose box is smaller (default: 0)",
    )
    parser.add_argument(
        "--corrections",
        metavar="FILE",
        help="lspet/corrected: the file that `python -m tools.correct_labels` wrote",
    )
    parser.add_argument(
        "--data_dir",
        "--data-dir",
        metavar="DIR",
        help="where prepared data sets lie (default: TFDS's, ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end at the first file or person that cannot be used, instead of leaving it out",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="build again what is already prepared"
    )
    return parser


def build(options: argparse.Namespace) -> None:
    """Prepares the data set and prints what it found.

    Raises:
      BuildError: no such data set, wrong sources, files that cannot be read.
    """
    _expand_paths(options)
    name, _, config = options.name.partition("/")
    if name not in NAMES:
        raise BuildError(f"no data set is called {name!r}; choose one of {', '.join(NAMES)}")
    import tensorflow_datasets as tfds  # after the arguments: it takes a second

    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    config, more = configure(module, name, config, options)
    if module.Builder.NEEDS_SOURCE and not (options.source or options.split):
        raise BuildError(f"{name} needs its files; add --source PATH (a folder, zip or tar)")

    tfds.disable_progress_bar()  # ours knows the number of persons
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of every configuration of ours
    place = {"config": config, "data_dir": options.data_dir}
    path = pathlib.Path(module.Builder(**place).data_dir)
    if path.exists() and not options.overwrite:
        print(f"{options.name} is already prepared in {path}")
        print("add --overwrite to build it again")
        return
    with _set_aside(path), tempfile.TemporaryDirectory() as downloads:
        builder = module.Builder(
            **place, **more, sources=options.source, strict=options.strict, progress=True
        )
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS's talk of a download
            builder.download_and_prepare(file_format="array_record", download_dir=downloads)
    report = "\n".join(builder.report.lines(names_shown=None)) + "\n"
    (path / REPORT).write_text(report, "utf-8", errors="backslashreplace")
    print(f"{builder.info.full_name} is prepared in {path}")
    for line in builder.report.lines():
        print(f"  {line}")
    if name == "coco":
        pairs = ", ".join(f"{a} - {b}" for a, b in config.joint_set.flip_pairs) or "none"
        print(f"  joints: {', '.join(config.joint_set.joints)}")
        print(f"  exchanged by a mirror: {pairs}")
    print(f"  (all of it, with every name: {path / REPORT})")


def configure(module, name: str, config: str, options: argparse.Namespace):
    """The configuration to build, and the builder's arguments that only this data set has.

    Raises:
      BuildError: there is no such configuration.
    """
    if name == "coco":
        given = options.source or options.split
        return (module.configure(options, config) if given else None), {}
    configs = {known.name: known.name for known in module.Builder.BUILDER_CONFIGS}
    more = {}
    if name == "lspet":
        configs = {"corrected": module.CORRECTED}
        more = {"corrections": options.corrections} if config else {}
    if config and config not in configs:
        raise BuildError(
            f"{name} has no config {config!r}; choose one of {', '.join(configs) or '(none)'}"
        )
    return configs.get(config), more


def _expand_paths(options: argparse.Namespace) -> None:
    """Expand ``~`` in every path, in place, and refuse addresses."""
    options.source = [str(local_path(path, "--source")) for path in options.source]
    for place, text in enumerate(options.split):
        split, _, path = text.partition("=")
        if path:
            options.split[place] = f"{split}={local_path(path, '--split')}"
    for option in PATHS:
        if path := getattr(options, option):
            setattr(options, option, str(local_path(path, f"--{option}")))


class _set_aside:
    """Moves a prepared data set away while another is built, back if that fails."""

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
