"""Where compiled programs are kept."""

import errno

import jax
import pytest

from jaxpose.runtime import compilation
from jaxpose.runtime.compilation import use_compilation_cache
from tests.support import kept_programs


@pytest.fixture(autouse=True)
def settings_as_before(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    with kept_programs.settings_as_before():
        yield


def test_it_lies_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert use_compilation_cache() == str(tmp_path / "jaxpose" / "compilation")
    assert (tmp_path / "jaxpose" / "compilation").is_dir()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jaxpose" / "compilation")


def test_without_that_variable_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert use_compilation_cache() == str(tmp_path / ".cache" / "jaxpose" / "compilation")


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    assert use_compilation_cache() == str(tmp_path / "mine")


def test_a_folder_in_a_bucket_is_passed_to_jax_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/cache")
    assert use_compilation_cache() == "gs://bucket/cache"
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/cache"
    assert not list(tmp_path.iterdir())


def test_off(monkeypatch):
    """JAX reads the variable too, and would keep its programs in a folder called "off"."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "off")
    jax.config.update("jax_compilation_cache_dir", "off")
    assert use_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_written_does_without(tmp_path, monkeypatch):
    def refused(dir):
        raise PermissionError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(compilation.tempfile, "TemporaryFile", refused)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert use_compilation_cache() is None


def test_a_folder_that_cannot_be_made_does_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert use_compilation_cache() is None
