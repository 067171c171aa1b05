"""The report of a build: persons, labeled joints, changed labels, and what was skipped."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_NAMES_SHOWN = 20


class Report:
    """Counts of one build, filled while it runs, printed when it is done."""

    def __init__(self):
        self.persons = collections.Counter()
        self.labeled = collections.Counter()
        self.joints = collections.Counter()
        self.images = collections.defaultdict(set)
        self.missing: list[str] = []
        self.unreadable: list[str] = []
        self.left_out = collections.defaultdict(list)  # names by (kind, reason)
        self.changed = collections.defaultdict(list)  # names by reason
        self.remarks = collections.Counter()
        self.notes: list[str] = []

    def person(self, split: str, example: Mapping[str, Any]) -> None:
        """Count an example that goes into the split."""
        self.persons[split] += 1
        self.labeled[split] += int(np.sum(example["labeled"]))
        self.joints[split] += len(example["labeled"])
        self.images[split].add(example["image_name"])

    def leave_out(self, reason: str, name: str, *, kind: str = "person") -> None:
        """Count a person, or another kind of entry such as an image, that goes into no split."""
        self.left_out[kind, reason].append(name)

    def change(self, reason: str, name: str) -> None:
        """Count a label that is used, but not as it is in the source."""
        self.changed[reason].append(name)

    def remark(self, text: str, count: int = 1) -> None:
        """Count something that was tolerated without dropping any person."""
        self.remarks[text] += count

    def lines(self, names_shown: int | None = MAX_NAMES_SHOWN) -> list[str]:
        """Return the report, one finding per line, with names of files and persons.

        Args:
          names_shown: maximum number of names per finding; None for all.
        """

        def some(names):
            more = len(names) - len(names[:names_shown])
            return ", ".join(names[:names_shown]) + (f" and {more:,} more" if more else "")

        lines = []
        for split, persons in self.persons.items():
            percentage = 100 * self.labeled[split] / max(1, self.joints[split])
            lines.append(
                f"{split}: {persons:,} persons in {len(self.images[split]):,} images, "
                f"{self.labeled[split]:,} of {self.joints[split]:,} joints labeled "
                f"({percentage:.1f} %)"
            )
        if self.missing:
            lines.append(f"{_count(self.missing, 'file')} missing: {some(self.missing)}")
        if self.unreadable:
            lines.append(f"{_count(self.unreadable, 'file')} unreadable: {some(self.unreadable)}")
        for (kind, reason), names in self.left_out.items():
            lines.append(f"{_count(names, kind)} skipped ({reason}): {some(names)}")
        for reason, names in self.changed.items():
            lines.append(f"{_count(names, 'label')} changed, {reason}: {some(names)}")
        lines += [f"{text}: {count:,}" for text, count in self.remarks.items()]
        return lines + self.notes


def _count(things: list[str], one: str) -> str:
    return f"{len(things):,} {one}{'' if len(things) == 1 else 's'}"
