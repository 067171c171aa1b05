"""The common part of the builders: sources, report and progress bar."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
import tqdm

from tfds_builders import image_files, prepared_folder, report
from tfds_builders.errors import BuildError
from tfds_builders.sources import Files, ReadError, open_sources


class PoseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder that reads the user's own files and reports what it finds.

    Args:
      sources: folders, archives or files to read; by default TFDS's ``manual_dir``.
      strict: stop at the first file or person that cannot be used.
      progress: show a progress bar per split.
      **kwargs: TFDS's own arguments (``data_dir``, ``config``, ``version``).

    Attributes:
      NEEDS_SOURCE: whether the command needs ``--source``; if not, it refuses that option.
      NAMED_CONFIGS: configurations that are built only if they are named. Unlike TFDS's
        ``BUILDER_CONFIGS``, none of them is the default.
      report: report of the build so far.
    """

    NEEDS_SOURCE = True
    NAMED_CONFIGS: Sequence[tfds.core.BuilderConfig] = ()

    def __init__(
        self,
        *,
        sources: Sequence[str] = (),
        strict: bool = False,
        progress: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.sources = tuple(str(source) for source in sources)
        self.strict = strict
        self.progress = progress
        self.report = report.Report()

    @classmethod
    def configure(
        cls, name: str, options: argparse.Namespace
    ) -> tuple[tfds.core.BuilderConfig | None, dict[str, Any]]:
        """Choose what the command builds.

        A builder with its own options overrides this method. It defines the options with
        ``add_options(parser)`` in an ``options.py`` in its folder, each under its own name. The
        command refuses them for other data sets.

        Args:
          name: name of the configuration, "" for the default.
          options: options of the command.

        Returns:
          The configuration (None for TFDS's default), and further arguments of this builder.

        Raises:
          BuildError: the configuration does not exist, or the source is missing or not used.
        """
        configs = {config.name: config for config in (*cls.BUILDER_CONFIGS, *cls.NAMED_CONFIGS)}
        if name and name not in configs:
            raise BuildError(
                f"{cls.name} has no config {name!r}; choose one of {', '.join(configs) or '(none)'}"
            )
        if cls.NEEDS_SOURCE and not options.source:
            raise cls.missing_source()
        if options.source and not cls.NEEDS_SOURCE:
            raise BuildError(f"{cls.name} does not use --source; remove this option")
        return configs.get(name), {}

    @classmethod
    def missing_source(cls) -> BuildError:
        """Return the error for a command without ``--source``."""
        return BuildError(f"{cls.name} needs its files; add --source PATH (a folder, zip or tar)")

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Build the data set, as in TFDS, unless another process is building it.

        Args:
          **kwargs: TFDS's arguments.

        Raises:
          BuildError: another process is building it, or the sources cannot be read.
        """
        if self.data_path.exists():
            super().download_and_prepare(**kwargs)
            return
        with prepared_folder.lock(self.data_path.parent):
            super().download_and_prepare(**kwargs)

    def files(self, dl_manager: tfds.download.DownloadManager, archive_name: str) -> list[Files]:
        """Open the sources (``sources.open_sources``), or ``manual_dir`` if none were given.

        Raises:
          BuildError: a source does not exist or is a corrupt archive.
        """
        return open_sources(self.sources or (str(dl_manager.manual_dir),), archive_name)

    def counted(
        self, split: str, examples: Iterable[tuple[int, dict]], total: int
    ) -> Iterator[tuple[int, dict]]:
        """Yield the (key, example) pairs of a split, and count the examples for the report.

        In the examples' strings, characters that UTF-8 cannot encode are escaped: file names may be
        bytes in any encoding.

        Args:
          split: name of the split.
          examples: (key, example) pairs; the split is sorted by the integer key.
          total: number of examples, for the progress bar.

        Yields:
          The pairs.

        Raises:
          BuildError: the split has no readable person.
        """
        bar = tqdm.tqdm(
            total=total, desc=f"{self.name} {split}", unit=" persons", disable=not self.progress
        )
        with bar:
            for key, example in examples:
                example = {name: _encodable(value) for name, value in example.items()}
                self.report.person(split, example)
                yield key, example
                bar.update()
        if not self.report.persons[split]:
            raise BuildError(
                f"no person of the split {split} can be read; check that the files are intact"
            )

    def read_images(
        self,
        requests: Iterable[tuple[Any, Files, str]],
        process: Callable[[bytes, Any], Any],
    ) -> Iterator[tuple[Any, Any]]:
        """Read images. The report lists those that cannot be read.

        Args:
          requests: (tag, files, name) triples.
          process: function of an image's bytes and its tag, called in a thread; may raise
            ReadError.

        Yields:
          (tag, result) of every image that can be read.

        Raises:
          BuildError: an image cannot be read and ``strict`` is set.
        """
        for tag, name, result in image_files.read_all(requests, process):
            if isinstance(result, ReadError):
                self.refuse_if_strict(f"{name} cannot be read ({result})")
                self.report.unreadable.append(f"{name} ({result})")
            else:
                yield tag, result

    def refuse_if_strict(self, what: str) -> None:
        """With ``strict``, raise a BuildError that names what would be skipped."""
        if self.strict:
            raise BuildError(f"{what}; fix it, or build without --strict")


def _encodable(value: Any) -> Any:
    """Escape characters of a text that UTF-8 cannot encode; return other values unchanged."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
