"""Fixtures of all tests, four virtual CPU devices, and quick compilations.

Most of the time of the tests is compilation, so XLA leaves out most of its optimizations, in child
processes too. JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests the optimized programs that users run.
"""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()

import pytest  # noqa: E402

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items):
    """Begin with tests/training: its slow tests take longest, and should not be the last ones."""
    items.sort(key=lambda item: item.path.parent.name != "training")


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and golden answers; without it the test is skipped by name."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real data: {SHARED.name}/ does not lie beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """The folder of the people that `tiny_run` trains on, to be left as it is."""
    from tests.support import tiny_run  # loads TFDS

    folder = tmp_path_factory.mktemp("data")
    tiny_run.prepare(folder)
    return folder
