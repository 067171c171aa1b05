"""Select the objects of one category in a COCO file."""

from collections.abc import Collection
from typing import NamedTuple

from jaxpose.coco.entries import Annotation, Category, CocoFile, Dropped, id_key
from jaxpose.errors import JaxposeError

OTHER_CATEGORY = "of another category"
MARKED_CROWD = "marked iscrowd"
MARKED_IGNORE = "marked ignore"
NO_LABELS = "no labeled keypoints"
INTACT_REASONS = frozenset({OTHER_CATEGORY, MARKED_CROWD, MARKED_IGNORE, NO_LABELS})
"""Reasons for which ``select`` drops annotations without an error in the file."""


class Selection(NamedTuple):
    """Result of ``select``.

    Attributes:
      annotations: annotations of the category, in the file's order.
      category: the category, or None if the file lists no categories.
      dropped: all other entries of the file, as ``{reason: entries}``.
      changed: entries of ``annotations`` that were modified when read, as ``{reason: entries}``
        (``CocoFile.changed``).
      ignored: the category's dropped entries with a box: crowds, objects marked as ignored, and, if
        ``needs`` includes keypoints, objects without usable ones. Predictions for them are ignored
        in the evaluation.
    """

    annotations: tuple[Annotation, ...]
    category: Category | None
    dropped: Dropped
    changed: Dropped
    ignored: tuple[Annotation, ...] = ()


def select(
    file: CocoFile, *, category: str | None = None, needs: Collection[str] = ("box",)
) -> Selection:
    """Select the objects of one category, without crowds and ignored objects.

    Args:
      file: result of ``read_coco``.
      category: name of the category. If None, ``person`` is selected; if there is none, the only
        category with keypoints; otherwise, the only one with annotations. If the file lists no
        categories, id 1 (COCO's person) or the only id is selected.
      needs: required fields: "box", "keypoints" or both; entries without them are dropped.

    Raises:
      JaxposeError: the category is missing, or several categories qualify.
    """
    chosen = _category(file, category)
    category_id = id_key(chosen.id) if chosen else _only_id(file)
    dropped = {reason: list(entries) for reason, entries in file.dropped.items()}
    kept, ignored = [], []
    for annotation in file.annotations:
        entry = annotation.name
        if id_key(annotation.category_id) != category_id:
            reason = OTHER_CATEGORY
        elif annotation.crowd:
            reason = MARKED_CROWD
        elif annotation.ignore:
            reason = MARKED_IGNORE
        elif "keypoints" in needs and _has_no_labels(annotation, needs):
            reason = NO_LABELS
        elif "box" in needs and annotation.box is None:
            reason = "no usable box"
        elif "keypoints" in needs and annotation.keypoints is None:
            reason = "no usable keypoints"
            entry += f" ({annotation.problem})" if annotation.problem else ""
        else:
            kept.append(annotation)
            continue
        dropped.setdefault(reason, []).append(entry)
        if reason != OTHER_CATEGORY and annotation.box is not None:
            ignored.append(annotation)
    names = {annotation.name for annotation in kept}
    changed = {}
    for reason, entries in file.changed.items():
        of_kept = [entry for entry in entries if entry.partition(".")[0] in names]
        if of_kept:
            changed[reason] = of_kept
    return Selection(tuple(kept), chosen, dropped, changed, tuple(ignored))


def _has_no_labels(annotation: Annotation, needs: Collection[str]) -> bool:
    """Whether the keypoints are missing, or none is labeled and a required box is missing, too."""
    if annotation.keypoints is None or annotation.visibility is None:
        return not annotation.problem
    return "box" in needs and annotation.box is None and not annotation.visibility.any()


def _category(file: CocoFile, name: str | None) -> Category | None:
    if not file.categories:
        return None
    wanted = (name or "person").casefold()
    named = [c for c in file.categories if c.name.casefold() == wanted]
    names = ", ".join(repr(c.name) for c in file.categories[:20])
    if name is not None and not named:
        raise JaxposeError(f"{file.path} has no category {name!r}; it has {names}")
    fitting = named or list(file.categories)
    used = {id_key(annotation.category_id) for annotation in file.annotations}
    for group in (
        fitting,
        [c for c in fitting if c.joints],
        [c for c in fitting if id_key(c.id) in used],
    ):
        if len(group) == 1:
            return group[0]
    raise JaxposeError(
        f"{file.path} has the categories {names}; rename one to 'person', or keep only one"
    )


def _only_id(file: CocoFile) -> str | None:
    ids = {id_key(annotation.category_id) for annotation in file.annotations}
    if len(ids) > 1 and "1" not in ids:
        found = ", ".join(sorted(str(i) for i in ids)[:20])
        raise JaxposeError(
            f"{file.path} has the category ids {found} without names, and none is 1 (COCO's "
            "person); keep only one of them"
        )
    return "1" if len(ids) > 1 else next(iter(ids), None)
