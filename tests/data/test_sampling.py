"""Which rows each process makes: together those of one process, whatever their number."""

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jaxpose.data.prepared import PreparedSplit
from jaxpose.data.sampling import evaluation_plan, steps_per_epoch, train_plan
from jaxpose.errors import JaxposeError

COUNTS = st.sampled_from([1, 2, 3, 4, 8])
WEIGHTS = st.one_of(st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.05, 3.0))
SPLITS = st.lists(st.tuples(st.integers(1, 60), WEIGHTS), min_size=1, max_size=3).map(
    lambda drawn: [
        (PreparedSplit(f"people{i}", "train", range(size), ()), max(weight, 1 / size))
        for i, (size, weight) in enumerate(drawn)
    ]
)


def draws_per_epoch(splits) -> int:
    """Everyone the whole part of the weight, and the rest of it for some once more."""
    sizes = [(len(split.source), weight) for split, weight in splits]
    return sum(int(weight) * size + round(weight % 1 * size) for size, weight in sizes)


def train_rows(splits, count, *, first, last, **options):
    """(person, state of its random numbers) of the rows of some steps, of all processes."""
    rows = []
    for step in range(first, last):
        for index in range(count):
            plan = train_plan(splits, process_index=index, process_count=count, **options)
            rows += [(row.index, row.rng.bit_generator.state["state"]) for row in plan.rows(step)]
    return rows


@settings(max_examples=500, deadline=None)
@given(
    splits=SPLITS,
    batch_size=st.one_of(st.integers(1, 48), st.sampled_from([24, 48])),
    seed=st.integers(0, 2**32 - 1),
    counts=st.tuples(COUNTS, COUNTS),
    start=st.integers(0, 12),
    steps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_all_processes_together_make_the_rows_of_one(
    splits, batch_size, seed, counts, start, steps
):
    """From any step on, and after a resumption on another number of processes."""
    options = {"batch_size": batch_size, "seed": seed}
    if draws_per_epoch(splits) < batch_size or any(batch_size % count for count in counts):
        with pytest.raises(JaxposeError, match="is not divisible by|more than the .* persons"):
            for count in counts:
                train_plan(splits, process_count=count, **options)
        return event("refused")
    event(f"compared, {counts[0]} and {counts[1]} processes")
    resumed = start + steps[0]
    end = resumed + steps[1]
    found = train_rows(splits, counts[0], first=start, last=resumed, **options)
    found += train_rows(splits, counts[1], first=resumed, last=end, **options)
    assert found == train_rows(splits, 1, first=start, last=end, **options)
    return None


@settings(max_examples=100, deadline=None)
@given(splits=SPLITS, rows=st.integers(1, 6), seed=st.integers(0, 2**32 - 1), count=COUNTS)
def test_an_epoch_draws_nobody_more_often_than_the_weight_says(splits, rows, seed, count):
    """Of all processes together; what fills no batch is dropped."""
    batch_size = rows * count
    draws = draws_per_epoch(splits)
    steps = draws // batch_size
    if not steps:
        return
    found = train_rows(splits, count, first=0, last=steps, batch_size=batch_size, seed=seed)
    assert len(found) == steps * batch_size > draws - batch_size
    times, first = [index for index, _ in found], 0
    for split, weight in splits:
        for person in range(first, first + len(split.source)):
            assert times.count(person) <= -(-weight // 1)
        first += len(split.source)
    assert len({(index, tuple(state.items())) for index, state in found}) == len(found)


@settings(max_examples=300, deadline=None)
@given(size=st.integers(0, 200), rows=st.integers(1, 20), count=COUNTS)
def test_evaluation_has_everyone_once(size, rows, count):
    batch_size = rows * count
    found = [
        row.index
        for step in range(-(-size // batch_size))
        for index in range(count)
        for row in evaluation_plan(
            size, batch_size=batch_size, process_index=index, process_count=count
        ).rows(step)
    ]
    assert [index for index in found if index >= 0] == list(range(size))
    assert found[size:] == [-1] * (len(found) - size) and len(found) - size < batch_size


def test_a_weight_that_draws_nobody_is_refused():
    few = PreparedSplit("few", "train", range(10), ())
    many = PreparedSplit("many", "train", range(100), ())
    with pytest.raises(JaxposeError, match="weight 0.04 of few train draws none of its 10 persons"):
        steps_per_epoch([(many, 1.0), (few, 0.04)], 10)
    assert steps_per_epoch([(many, 1.0), (few, 0.1)], 1) == 101
