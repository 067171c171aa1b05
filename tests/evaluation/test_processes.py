"""Evaluation by 1, 2, 3 and 4 processes: the same tables, and each person counted once."""

import json

import numpy as np
import pytest

from jaxpose.evaluation.labeled_predictions import read_predictions
from tests.support import tiny_run
from tests.support.launches import EVALUATE, Launch

COUNTS = (1, 2, 3, 4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_each_person_is_counted_once(tmp_path):
    """Of 16 persons in batches of 12, so that the second batch is padded."""
    people, cache = tmp_path / "data", tmp_path / "compiled"
    tiny_run.prepare(people)
    with Launch(tmp_path / "run", people, cache, processes=1, num_epochs=1) as launch:
        assert launch.wait() == [0], launch.said()
    script = ("-c", EVALUATE, str(tmp_path / "run"))
    reports, predictions = [], []
    for count in COUNTS:
        workdir = tmp_path / f"scored{count}"
        how = {"processes": count, "devices": 1, "script": script, "eval__batch_size": 12}
        with Launch(workdir, people, cache, **how) as launch:
            assert launch.wait() == [0] * count, launch.said()
        report = json.loads((workdir / "evaluation.json").read_text())
        reports.append({name: report[name] for name in ("rows", "decodings", "unreadable")})
        (file,) = (workdir / "predictions").iterdir()
        predictions.append(read_predictions(file).prediction)
    for report, found in zip(reports[1:], predictions[1:], strict=True):
        assert report == reports[0]
        # A person counted twice would have twice its coordinates, one left out none.
        np.testing.assert_allclose(found, predictions[0], atol=1e-2)
