"""Fixtures of runs in this process."""

import shutil

import pytest

from tests.support import tiny_run


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """The runs of a module compile the same programs: they are compiled once."""
    with tiny_run.compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture
def copy(whole, tmp_path):
    """The workdir of the module's undisturbed run, to go on with."""
    return shutil.copytree(whole, tmp_path / "copy")
