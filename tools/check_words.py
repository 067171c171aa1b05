"""List occurrences of terms that this project does not use: `python -m tools.check_words`.

Spelling is American, and each concept has one word. Terms are found inside identifiers, too
(``is_grey``, ``GreyImage``). A line with the comment ``old spelling`` is exempt: it reads or tests
files that were written before a term changed.
"""

import fnmatch
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tools

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXEMPT = "old spelling"
# Third-party texts, data, generated files, and the list itself.
SKIPPED = (
    "LICENSE", "requirements.lock", "*.bib", "*.tsv", "*/TAGS.txt", "*/validation_persons.txt",
    "*.npz", "*.mat", "*.jpg", "*.png", "*.webp", "docs/runs/*", "tools/check_words.py",
    "tests/tools/test_check_words.py",
)  # fmt: skip
_IZE = (
    "initial|normal|optim|serial|synchron|rematerial|minim|maxim|recogn|organ|visual|summar|quant|"
    "general|special|parallel|random|util|standard|capital|emphas|regular|vector|token|penal|"
    "stabil|discret|factor|character|categor|custom|memor"
)


class Term(NamedTuple):
    """A term that is not used.

    Attributes:
      pattern: regular expression of the term, in lower case and without word boundaries.
      instead: replacement.
      allowed: patterns of the paths in which the term is allowed.
    """

    pattern: str
    instead: str
    allowed: tuple[str, ...] = ()


TERMS = (
    # American spelling.
    Term(rf"(?:{_IZE})is(?:e[drs]?|ers|ing|able|ations?)", "-ize, -ization"),
    Term(r"(?:re|un)?colour\w*", "color"),
    Term(r"grey(?:s|scale)?", "gray"),
    Term(r"cent(?:re[ds]?|ring)", "center"),
    Term(r"(?:un|mis)?labell(?:ed|ing|er)", "labeled, labeling"),
    Term(r"(?:behavi|neighb|fav|hon|rum|vap|harb)our\w*", "behavior, neighbor, favor, ..."),
    Term(r"licences?", "license"),
    Term(r"learnt|burnt|spelt|spoilt", "learned, burned, spelled, spoiled"),
    # "Cancelled" is part of the name of an exception of asyncio.
    Term(
        r"(?:mod|trav|sign|lev)ell(?:ed|ing)|cancell(?:ed|ing)(?!Error)",
        "modeled, traveled, canceled, ...",
    ),
    Term(r"analys(?:e[ds]?|ing)(?<!analyses)", "analyze"),
    Term(r"artefacts?", "artifact"),
    Term(r"catalogues?", "catalog"),
    Term(r"(?:milli|centi|kilo)?metres?", "meter"),
    Term(r"whilst", "while"),
    Term(r"judgement|defence|fibre|mould", "judgment, defense, fiber, mold"),
    # One word for each concept.
    Term(r"pictures?", "image", ("tfds_builders/coco/*", "tests/tfds_builders/test_coco.py")),
    Term(r"picture_size", "stored_size"),
    Term(r"(?-i:MUCH_WAITING|COLDEST|FORGOTTEN|THINNEST)", "a name that says what the constant is"),
    Term(r"(?-i:MOST_(?:BYTES|PIXELS|CROPS|CAUSES|CHANGE|LINES|MEMORY|PERSONS))", "MAX_..."),
    Term(r"(?-i:FEWEST_(?:SURE|UNREADABLE))", "MIN_..."),
    Term(r"read_ahead", "prefetch"),
    Term(r"(?:compare_)?readings(?:_of)?", "decodings"),
    Term(r"(?:score|mean_pose|constant)_answers|answer_crops|answers_of", "predictions"),
    Term(r"config\.score|validation score", "metric (only persons have a score)"),
    Term(r"processes\.(?:meet|leave)", "processes.barrier, processes.abort"),
    Term(r"geometry\.cut", "geometry.crop_image"),
    # Phrases that a reader has to read twice.
    Term(r"checkpoint before it is whole", "the previous checkpoint is intact"),
    Term(r"mend the permissions", "fix the permissions"),
    Term(r"free space or", "free disk space or"),
    Term(r"start the same command again", "re-run the command"),
    Term(r"whom it holds", "example index (-1 for padding)"),
    Term(r"(?:the lower the|lower is) calmer", "lower is smoother"),
    Term(r"a calm video", "smooth the keypoints"),
    Term(r"is no (?:valid )?config", "is not a valid config"),
    Term(r"is no whole", "is not an intact"),
    Term(r"mend(?:s|ed)? (?:it|them)", "fix"),
    Term(r"are else handed back", "otherwise returned to the OS"),
    Term(r"borne without leaving anybody out", "tolerated without dropping any person"),
    Term(r"(?:the|s) wider look", "re-detection"),
    Term(r"better answer for more time", "higher accuracy, slower"),
    Term(r"who has no scale has no crop", "people without a scale get no crop"),
)


class Found(NamedTuple):
    """An occurrence of a term.

    Attributes:
      path: path of the file, relative to the root.
      line: line number, from 1.
      text: the term as it occurs.
      instead: replacement.
    """

    path: str
    line: int
    text: str
    instead: str


def _compiled(pattern: str) -> re.Pattern:
    """Compile a pattern that finds the term as a word or in a snake_case or CamelCase name."""
    return re.compile(
        rf"(?<![A-Za-z])(?i:{pattern})(?![a-z])|(?<=[a-z])(?=[A-Z])(?i:{pattern})(?![a-z])"
    )


_PATTERNS = tuple((term, _compiled(term.pattern)) for term in TERMS)


def check(path: str, text: str) -> Iterator[Found]:
    """Find the terms in a text.

    Args:
      path: path of the text, relative to the root, with forward slashes.
      text: its content.

    Yields:
      Each occurrence, by term and then by line.
    """
    lines = text.splitlines()
    for term, pattern in _PATTERNS:
        if any(fnmatch.fnmatch(path, allowed) for allowed in term.allowed):
            continue
        for number, line in enumerate(lines, start=1):
            if EXEMPT not in line:
                for match in pattern.finditer(line):
                    yield Found(path, number, match[0], term.instead)
        if match := pattern.search(path):
            yield Found(path, 0, match[0], term.instead)


def check_files(paths: Iterable[str], root: pathlib.Path = ROOT) -> list[Found]:
    """Apply ``check`` to all text files among the paths, which are relative to the root."""
    found = []
    for path in paths:
        file = root / path
        if any(fnmatch.fnmatch(path, skipped) for skipped in SKIPPED) or not file.is_file():
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += check(path, text)
    return found


def tracked(root: pathlib.Path = ROOT) -> list[str]:
    """Return the files of a clone that a commit would contain."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path]


def main(arguments: list[str] | None = None) -> int:
    """Print every occurrence; the exit status is 1 if there is one."""
    tools.parser("check_words", __doc__).parse_args(arguments)
    found = check_files(tracked())
    for place in found:
        print(f"{place.path}:{place.line}: {place.text!r}; write {place.instead}")
    if found:
        print(f"{len(found)} terms that this project does not use", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
