"""The notebooks of examples/: stored without results, and every cell runs."""

import json
import pathlib

import numpy as np
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).resolve().parents[1] / "examples").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@each_notebook
def test_notebooks_are_stored_without_results(path):
    for cell in code_cells(path):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_the_notebook_of_the_soft_argmax_runs_and_shows_what_it_says(monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib: the extra test").use("agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    (path,) = NOTEBOOKS
    names = {"__name__": "__main__"}
    for cell in code_cells(path):
        exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    assert names["worst"]["none"] == pytest.approx(0.5, abs=0.02)
    assert names["worst"]["dark"] < 1e-3 < names["worst"]["quadratic"] < names["worst"]["quarter"]
    np.testing.assert_allclose(names["decoded"], names["keypoint"], atol=1e-4)
    for errors in names["errors"].values():  # a guess of the middle is 9 cells off
        assert np.median(errors) < 1
