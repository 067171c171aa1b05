"""The package as its users get it: public names, extras, lock file, wheel, sdist."""

import ast
import importlib
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jaxpose
from jaxpose import cli
from jaxpose.cli.commands import COMMANDS
from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
HEAVY = {"tensorflow_datasets", "grain", "cv2", "matplotlib", "orbax.checkpoint", "PIL", "scipy.io"}


def run(*command: str | pathlib.Path, folder: pathlib.Path = ROOT) -> str:
    """What a fresh process prints; if it fails, the test fails with what it said."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_python(code: str) -> str:
    """What a fresh process of this Python prints for some code."""
    return run(sys.executable, "-c", code)


# Public names


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("from jaxpose import soft_argmax", "jaxpose jaxpose.heatmaps"),
        ("import jaxpose; jaxpose.soft_argmax", "jaxpose jaxpose.heatmaps"),
        (
            "import jaxpose.heatmaps, jaxpose.errors; from jaxpose import soft_argmax",
            "jaxpose jaxpose.errors jaxpose.heatmaps",
        ),
        ("import jaxpose.network; from jaxpose import *", None),
    ],
)
def test_soft_argmax_loads_its_own_module_whatever_was_imported_before(code, loaded):
    printed = run_python(
        f"{code}\nimport sys, jaxpose\n"
        "assert callable(jaxpose.soft_argmax), jaxpose.soft_argmax\n"
        "assert jaxpose.soft_argmax.__module__ == 'jaxpose.heatmaps'\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] == 'jaxpose'))"
    )
    assert loaded is None or printed.strip() == loaded


def test_import_jaxpose_loads_nothing_else():
    loaded = run_python(
        "import sys, jax\n"
        "before = set(sys.modules)\n"
        "import jaxpose\n"
        f"print(*sorted((set(sys.modules) - before) | (set(sys.modules) & {HEAVY})))"
    ).split()
    assert loaded == ["jaxpose"]


def test_every_public_name_is_there_and_documented():
    for name in jaxpose.__all__:
        assert getattr(jaxpose, name).__doc__, name
    assert set(jaxpose.__all__) <= set(dir(jaxpose))


def test_no_module_carries_a_public_name():
    # jaxpose.NAME would be the module once somebody has imported it.
    modules = {path.stem for path in (ROOT / "jaxpose").iterdir()}
    assert not modules & set(jaxpose.__all__)


def test_type_checkers_read_the_same_public_names():
    tree = ast.parse((ROOT / "jaxpose" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.asname: node.module.removeprefix("jaxpose.")
        for node in block.body
        for alias in node.names
    }
    assert homes == jaxpose._HOME


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'soft_argmin'"):
        jaxpose.soft_argmin  # noqa: B018


def test_version_is_the_same_everywhere():
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    change = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation[1] == change[1] == jaxpose.__version__


# Extras


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        JaxposeError, match=r"^h5py is not .* extra jaxpose\[convert\]: pip install '\.\[convert\]'"
    ):
        import_optional("h5py", extra="convert")


@pytest.mark.parametrize(
    ("module", "package"),
    [("PIL", "pillow"), ("cv2", "opencv-python-headless"), ("yaml", "pyyaml")],
)
def test_a_missing_library_is_named_as_pip_knows_it(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    named = rf"^{package} \(imported as {module}\) is not installed;"
    with pytest.raises(JaxposeError, match=named):
        import_optional(module, extra="train")


def test_a_library_that_an_optional_one_lacks_is_named(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import not_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(JaxposeError, match=r"^not_to_be_found is not .*jaxpose\[train\]"):
        import_optional("needs_more", extra="train")


def test_an_optional_library_that_is_there_is_returned():
    assert import_optional("xml.dom", extra="train") is importlib.import_module("xml.dom")


def distributions(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def optional_imports(path: pathlib.Path) -> list[tuple[str, str]]:
    """The (library, extra) of every call in a file of import_optional, or of progress_bar."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if name in ("import_optional", "progress_bar"):
            extra = next(keyword.value for keyword in node.keywords if keyword.arg == "extra")
            library = node.args[0].value if name == "import_optional" else "tqdm"
            if isinstance(extra, ast.Constant):  # progress_bar passes on what it was given
                found.append((library.split(".")[0], extra.value))
    return found


def statements(node: ast.AST, *, guarded: bool) -> Iterator[ast.AST]:
    """Every node below one; with ``guarded`` False not what stands in a ``try`` or for checkers."""
    for child in ast.iter_child_nodes(node):
        for_checkers = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if guarded or not (for_checkers or isinstance(child, ast.Try)):
            yield child
            yield from statements(child, guarded=guarded)


def imported_libraries(path: pathlib.Path, *, guarded: bool = True) -> set[str]:
    """The top-level names of other people's libraries that import statements of a file name."""
    names = set()
    for node in statements(ast.parse(path.read_text()), guarded=guarded):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"jaxpose"}


def python_files(place: str) -> list[pathlib.Path]:
    return sorted((ROOT / place).rglob("*.py")) or [ROOT / place]


def test_the_core_imports_only_what_the_core_install_brings():
    # jax brings scipy; flax brings optax, orbax and its absl. All else: import_optional.
    brought = {"jax", "jaxlib", "flax", "numpy", "scipy", "optax", "orbax", "absl"}
    wrong = {
        str(path.relative_to(ROOT)): imported_libraries(path, guarded=False) - brought
        for path in python_files("jaxpose")
    }
    assert not {path: names for path, names in wrong.items() if names}


def test_the_extra_that_is_named_brings_the_library():
    homes = importlib.metadata.packages_distributions()
    for path in python_files("jaxpose"):
        for library, extra in optional_imports(path):
            home = homes.get(library, [library])  # those of the extra onnx are not installed here
            assert distributions(home) & distributions(EXTRAS[extra]), (path, library)


def test_the_package_that_is_named_is_one_of_the_extra(monkeypatch):
    for path in python_files("jaxpose"):
        for library, extra in optional_imports(path):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, library, None)
                with pytest.raises(JaxposeError) as caught:
                    import_optional(library, extra=extra)
            package = str(caught.value).split()[0]
            assert canonicalize_name(package) in distributions(EXTRAS[extra]), (path, library)


@pytest.mark.parametrize("place", ["tfds_builders", "configs", "launch.py"])
def test_the_extra_train_brings_what_is_imported_beside_the_package(place):
    homes = importlib.metadata.packages_distributions()
    brought = distributions(PROJECT["dependencies"] + EXTRAS["train"] + EXTRAS["test"])
    for path in python_files(place):
        for library in imported_libraries(path) - {"tfds_builders", "configs"}:
            assert distributions(homes[library]) & brought, (path, library)


# What is printed is true for someone who has only a clone, or only a wheel


def test_nothing_tells_to_install_a_release_that_does_not_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.sh")]
    pages += [path for path in (ROOT / "jaxpose").rglob("*") if path.suffix in (".py", ".html")]
    release = re.compile(r"pip install\b[^\n]*[ '\"]jaxpose\b(?!-)")
    wrong = [path for path in pages if release.search(path.read_text())]
    assert not wrong


def test_the_commands_help_names_no_page_that_a_wheel_lacks(capsys):
    for command in ([], *([name.__name__.rpartition(".")[2]] for name in COMMANDS)):
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        shown = capsys.readouterr().out
        assert "usage: jaxpose" in shown
        assert not re.search(r"docs/|README|configs/|launch\.py|https?://", shown), command


# Lock file


def locked(python: str) -> dict[str, str]:
    """Distribution -> version that the lock file gives a Python version on Linux."""
    environment = {
        **default_environment(),
        "python_full_version": f"{python}.0",
        "python_version": python,
        "os_name": "posix",
        "sys_platform": "linux",
    }
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        requirement = Requirement(line)  # a line of options or an address is refused here
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            assert pin.operator == "==" and requirement.url is None, line
            assert canonicalize_name(requirement.name) not in pins, line
            pins[canonicalize_name(requirement.name)] = pin.version
    return pins


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_serves_every_python(python):
    pins = locked(python)
    wanted = PROJECT["dependencies"] + [
        line
        for extra in ("train", "predict", "demo", "coco", "convert", "export", "cloud", "test")
        for line in EXTRAS[extra]
    ]
    for requirement in map(Requirement, wanted):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    left_out = distributions(EXTRAS["bench"] + EXTRAS["onnx"])
    assert not set(pins) & (left_out - distributions(PROJECT["dependencies"]))


def test_newer_pythons_get_a_newer_jax():
    newer, older = locked("3.12")["jax"], locked("3.11")["jax"]
    assert [int(part) for part in newer.split(".")] > [int(part) for part in older.split(".")]


def test_every_dependency_has_its_license_listed():
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "licenses.md").read_text(), re.MULTILINE)
    listed = {canonicalize_name(name) for row in rows for name in re.split(r", | \(", row)}
    wanted = PROJECT["dependencies"] + [line for lines in EXTRAS.values() for line in lines]
    assert distributions(wanted) <= listed


# Wheel and sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a freshly built wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel"]
    run(*build, "--outdir", folder, ROOT)
    return folder


def test_the_wheel_holds_the_package_and_its_command_alone(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"jaxpose-{jaxpose.__version__}.dist-info"
        commands = archive.read(f"{info}/entry_points.txt").decode()
    assert {name.split("/")[0] for name in names} == {"jaxpose", info}
    assert {"jaxpose/py.typed", "jaxpose/heatmaps.py", f"{info}/licenses/LICENSE"} <= names
    assert {"jaxpose/report/style.css", "jaxpose/demo/page/index.html"} <= names
    assert commands.split() == ["[console_scripts]", "jaxpose", "=", "jaxpose.cli:main"]


def test_the_sdist_holds_what_is_used_from_a_clone(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {pathlib.PurePath(name).parts[1] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "Makefile"}
    assert wanted | {"jaxpose", "tfds_builders", "configs", "launch.py", "docs", "tests"} <= inside
    assert not inside & {".venv", "runs", "data", ".git"}


def readme_example() -> str:
    """The README's first Python block that uses soft_argmax."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if "soft_argmax" in block)


@pytest.mark.slow
@pytest.mark.timeout(600)  # fetches and unpacks JAX and Flax
def test_the_wheel_alone_runs_the_five_lines_of_the_readme(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "alone")
    programs = tmp_path / "alone" / "bin"
    run(programs / "python", "-m", "pip", "install", wheel)
    run(programs / "python", "-c", readme_example(), folder=tmp_path)
    assert jaxpose.__version__ in run(programs / "jaxpose", "--version", folder=tmp_path)
