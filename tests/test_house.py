"""The rules of the house: who may import whom, what no file may hold."""

import ast
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# A module imports from those before it, never from those after it.
ORDER = """
    errors optional _compat paths storage npz heatmaps heatmap_targets peaks depthwise losses
    skeleton coco geometry layers network visualize runtime data checkpoints evaluation training
    predict report export demo cli
""".split()


NUMPY_ONLY = re.compile(r"jaxpose\.(coco|errors|skeleton)(\.|$)")


def imports(path: pathlib.Path) -> set[str]:
    """Dotted names that a file imports, at any depth; ``from a import b`` counts as ``a.b`` too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms(path: pathlib.Path) -> set[str]:
    """The modules and folders directly below jaxpose/ that a file imports."""
    parts = [name.split(".") for name in imports(path)]
    return {part[1] for part in parts if part[0] == "jaxpose" and part[1:] and part[1] in ORDER}


def modules() -> dict[str, list[pathlib.Path]]:
    """Every module or folder directly below jaxpose/, with its files."""
    found = {}
    for path in sorted((ROOT / "jaxpose").rglob("*.py")):
        room = path.relative_to(ROOT / "jaxpose").parts[0].removesuffix(".py")
        found.setdefault(room, []).append(path)
    del found["__init__"], found["__main__"]
    return found


def imported_files(path: pathlib.Path, files: set[str]) -> set[str]:
    """Those of the files, by dotted name, that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in files else node.module)
    return names & files


def test_no_files_import_each_other_in_a_circle():
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "jaxpose").rglob("*.py")
    }
    del files["jaxpose"]  # which loads its names when they are asked for
    graph = {name: imported_files(path, set(files)) for name, path in files.items()}
    assert graph["jaxpose.peaks"] == {"jaxpose.heatmaps"}  # the test sees imports
    graphlib.TopologicalSorter(graph).prepare()  # raises an error that names a circle


def test_every_module_has_its_place_in_the_order():
    assert set(modules()) <= set(ORDER)


def test_arrows_point_upwards_only():
    for module, files in modules().items():
        allowed = set(ORDER[: ORDER.index(module) + (files[0].stem != module)])
        for path in files:
            assert rooms(path) <= allowed, path


@pytest.mark.parametrize(
    ("module", "beside"),
    [
        ("heatmaps", set()),
        ("depthwise", set()),
        ("heatmap_targets", {"heatmaps"}),
        ("peaks", {"heatmaps"}),
        ("losses", {"heatmaps", "heatmap_targets"}),
    ],
)
def test_what_strangers_lift_out_imports_jax_only(module, beside):
    path = ROOT / "jaxpose" / f"{module}.py"
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots - set(sys.stdlib_module_names) - {"jaxpose"} <= {"jax", "jaxlib", "numpy"}
    assert rooms(path) == beside


@pytest.mark.parametrize(
    ("folder", "other"), [("jaxpose", "tfds_builders"), ("tfds_builders", "jaxpose")]
)
def test_the_two_packages_meet_on_disk_only(folder, other):
    for path in (ROOT / folder).rglob("*.py"):
        found = {name for name in imports(path) if name.split(".")[0] == other}
        if path.is_relative_to(ROOT / "tfds_builders" / "coco"):  # modules that need NumPy alone
            found -= {"jaxpose"} | {name for name in found if NUMPY_ONLY.match(name)}
        assert not found, path


def test_no_module_carries_the_name_of_a_public_function():
    # Whether PACKAGE.NAME is the module or the function would depend on what was imported first.
    for path in (ROOT / "jaxpose").rglob("*.py"):
        body = ast.parse(path.read_text()).body
        defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert path.stem not in defined, path


def test_only_init_files_re_export():
    homes = {}
    for path in (ROOT / "jaxpose").rglob("*.py"):
        if path.stem != "__init__":
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            homes[dotted] = own_names(path)
    for path in [*(ROOT / "jaxpose").rglob("*.py"), ROOT / "launch.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in homes:
                for alias in node.names:
                    assert alias.name in homes[node.module], f"{path}: {node.module}.{alias.name}"


def own_names(path: pathlib.Path) -> set[str]:
    """Names that a module defines at its top level rather than imports."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        for inner in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ():
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
    return names


def private_names(path: pathlib.Path) -> set[str]:
    """Dotted names of private modules and attributes of libraries that a file uses."""
    tree = ast.parse(path.read_text())
    ours = sys.stdlib_module_names | {"jaxpose", "tfds_builders"}
    dotted, modules = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
            modules |= {(a.asname or a.name.split(".")[0]): a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            dotted |= {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            dotted |= {a.value for a in node.args if isinstance(getattr(a, "value", 0), str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in modules:
                dotted.add(f"{modules[first]}.{rest}")
    return {
        name
        for name in dotted
        if name.split(".")[0] not in ours and re.search(r"\._(?!_)", f".{name}")
    }


# The modules below a library's package that are imported. Each stands in the library's own
# documentation; one that does not is private, whatever its name, and belongs into _compat.py.
PUBLIC_MODULES = set(
    """
    PIL.Image PIL.ImageDraw PIL.ImageFont PIL.ImageTk av.stream etils.epath flax.linen
    flax.traverse_util
    jax.custom_derivatives jax.experimental jax.experimental.compilation_cache jax.numpy
    jax.sharding jax.typing jaxlib.version ml_collections.config_flags orbax.checkpoint
    orbax.checkpoint.checkpoint_managers orbax.checkpoint.multihost orbax.checkpoint.utils
    pycocotools.coco pycocotools.cocoeval scipy.io scipy.optimize scipy.special scipy.stats
    starlette.applications starlette.concurrency starlette.middleware
    starlette.middleware.trustedhost starlette.requests starlette.responses starlette.routing
    """.split()
)


IMPORTERS = ("import_optional", "import_module")


def library_modules(path: pathlib.Path) -> set[str]:
    """Modules below a library's package that a file imports, by name or through a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(IMPORTERS):
            found |= {a.value for a in node.args if isinstance(getattr(a, "value", 0), str)}
    ours = sys.stdlib_module_names | {"jaxpose", "tfds_builders"}
    return {name for name in found if "." in name and name.split(".")[0] not in ours}


def matched_messages(path: pathlib.Path) -> list[str]:
    """Comparisons of a file with the text of a caught exception: ``"..." in str(error)``."""
    tree = ast.parse(path.read_text())
    caught = {n.name for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name}
    texts = {f"str({name})" for name in caught}
    comparisons = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    return [each for each in comparisons if any(text in each for text in texts)]


def test_private_interfaces_of_libraries_stand_in_one_module():
    assert private_names(ROOT / "jaxpose" / "_compat.py")  # the test sees them
    for folder in ("jaxpose", "tfds_builders"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "_compat.py":
                assert not private_names(path), path


def test_modules_of_libraries_are_those_that_they_document():
    internal = library_modules(ROOT / "jaxpose" / "_compat.py") - PUBLIC_MODULES
    assert "tensorboardX.event_file_writer" in internal  # the test sees them
    found = set()
    for folder in ("jaxpose", "tfds_builders"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "_compat.py":
                found |= library_modules(path)
    assert found == PUBLIC_MODULES


def test_messages_of_libraries_are_matched_in_one_module():
    # depthwise.py is lifted out alone, and the builders do not import jaxpose: they keep their own.
    own = ("jaxpose/_compat.py", "jaxpose/depthwise.py", "tfds_builders/__main__.py")
    for folder in ("jaxpose", "tfds_builders"):
        for path in (ROOT / folder).rglob("*.py"):
            if str(path.relative_to(ROOT)) not in own:
                assert not matched_messages(path), path


def tracked() -> list[pathlib.Path]:
    """The files that a commit would hold; a test that asks for them is skipped outside a clone."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git clone")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_of_one_machine():
    place = re.compile(rb"(?<![\w.~}])/(?:root|home|Users|work|workspace)/\w")
    wrong = [str(path.relative_to(ROOT)) for path in tracked() if place.search(path.read_bytes())]
    assert not wrong


def test_no_file_tells_pip_where_to_look():
    option = re.compile(rb"--(?:extra-)?index[-_]url|--find[-_]links|(?:^|\s)-f https?:")
    own = pathlib.Path(__file__)
    wrong = [str(path) for path in tracked() if path != own and option.search(path.read_bytes())]
    assert not wrong


@pytest.mark.parametrize("check", ["ruff check .", "ruff format --check .", "mypy"])
def test_lint_is_clean(check):
    command = [sys.executable, "-m", *check.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
