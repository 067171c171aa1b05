"""The documentation site: it builds without a warning and has every public name."""

import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import jaxpose

ROOT = pathlib.Path(__file__).resolve().parents[1]
API = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))
DOCUMENTED = set(re.findall(r"automodule:: (\S+)", API))


def test_every_public_name_is_in_the_reference():
    for name in jaxpose.__all__:
        home = getattr(jaxpose, name).__module__
        packages = {home.rsplit(".", i)[0] for i in range(home.count("."))}
        assert packages & DOCUMENTED, f"{name} of {home} is in no page of docs/api"


def test_every_documented_module_exists():
    for module in DOCUMENTED:
        importlib.import_module(module)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_shows_docstrings(tmp_path):
    pytest.importorskip("sphinx")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*build, "-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").glob("*.html"):
        assert "{.source}" not in page.read_text(), f"{page}: a link that was not taken out"
    page = (tmp_path / "site" / "api" / "heatmaps.html").read_text()
    for name in ("soft_argmax", "aggregate_context", "find_peaks"):
        assert re.search(rf'id="jaxpose\.\w+\.{name}"', page), name
    assert (tmp_path / "site" / "searchindex.js").stat().st_size > 10_000
