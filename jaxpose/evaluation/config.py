"""Check a config before evaluation, and open the splits of its test rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxpose import geometry
from jaxpose.checkpoints import KINDS
from jaxpose.data import prepared
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import metric_choice, views

if TYPE_CHECKING:
    import ml_collections

# Format of the rows of a config field: description, and the types of the columns.
RowForm = tuple[str, Sequence[tuple[type, ...]]]
TEST_ROW: RowForm = ("(name, split, crop)", [(str, str, str)])


def open_tests(
    config: "ml_collections.ConfigDict",
) -> list[tuple[prepared.PreparedSplit, str]]:
    """Open the splits of ``config.test``; returns each with the name of its crop rule."""
    return [
        (prepared.open_split(name, split, data_dir=config.data_dir), crop)
        for name, split, crop in config.test
    ]


def check_evaluation(config: "ml_collections.ConfigDict") -> None:
    """Raise a JaxposeError for values that evaluation cannot use."""
    check_rows(config, "test", TEST_ROW)
    check_distinct(config, "test")
    if config.dtype not in ("float32", "bfloat16"):
        raise JaxposeError(f"dtype is {config.dtype!r}; choose 'float32' or 'bfloat16'")
    metric_choice.check_metric(config.metric)
    if config.eval.batch_size < 1:
        raise JaxposeError(f"eval.batch_size is {config.eval.batch_size}; it must be 1 or more")
    if config.eval.checkpoint not in KINDS:
        raise JaxposeError(
            f"eval.checkpoint is {config.eval.checkpoint!r}; choose one of {', '.join(KINDS)}"
        )
    views.crop_sizes(config.eval.num_crops)
    for *_, crop in config.test:
        geometry.crop_rule(crop)


def check_rows(config: "ml_collections.ConfigDict", field: str, form: RowForm) -> None:
    """Raise a JaxposeError for a row of the field that does not have the form."""
    text, kinds = form
    for row in config[field]:
        columns = row if isinstance(row, tuple | list) else (row,)
        found = tuple(float if type(value) is int else type(value) for value in columns)
        if found not in kinds:
            raise JaxposeError(f"config.{field} has the invalid row {row!r}; write rows as {text}")


def check_distinct(config: "ml_collections.ConfigDict", field: str) -> None:
    """Raise a JaxposeError if two rows of the field evaluate the same split in the same crops."""
    rows = [tuple(row[:3]) for row in config[field]]
    for row in rows:
        if rows.count(row) > 1:
            raise JaxposeError(f"config.{field} has the row {row!r} twice; remove one of them")
