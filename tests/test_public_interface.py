"""The public interface is typed, gives the shape of every array, and its examples run."""

import ast
import doctest
import importlib
import inspect
import pathlib
import re
import textwrap

import pytest

import jaxpose
from jaxpose import PoseEstimator, PoseNet

ROOT = pathlib.Path(__file__).resolve().parents[1]
ARRAY = re.compile(r"(?:jax\.Array|np\.ndarray|ArrayLike)(?: \| None)?")
SHAPE = re.compile(r"\[[^\]]*\]|\b[Ss]calar\b|\bbroadcast")
ENTRY = re.compile(r"^\**(\w+): (.*(?:\n .*)*)", re.MULTILINE)


# All but the commands and what only they use.
PUBLIC = (
    "*.py", "checkpoints/metadata.py", "coco/*.py", "data/*.py", "evaluation/*.py",
    "predict/__init__.py", "predict/estimator.py", "predict/inputs.py", "predict/prediction.py",
    "runtime/*.py", "training/*.py",
)  # fmt: skip
MODULES = [path for pattern in PUBLIC for path in sorted((ROOT / "jaxpose").glob(pattern))]
NAMES = [path.relative_to(ROOT).as_posix() for path in MODULES]


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The public functions of a module, and the public methods of its public classes."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    bodies = [tree.body, *(node.body for node in classes)]
    functions = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
    return [function for function in functions if function.name[0] != "_"]


def arguments(function: ast.FunctionDef) -> list[ast.arg]:
    listed = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return [argument for argument in listed if argument.arg not in ("self", "cls")]


def is_array(annotation: ast.expr | None) -> bool:
    return annotation is not None and ARRAY.fullmatch(ast.unparse(annotation)) is not None


def shapeless(function: ast.FunctionDef) -> list[str]:
    """The array arguments whose shape the docstring does not give; "return" for the result."""
    doc = (ast.get_docstring(function) or "") + "\n"
    section = re.search(r"^Args:\n((?: .*\n|\n)+)", doc, re.MULTILINE)
    entries = dict(ENTRY.findall(textwrap.dedent(section[1]))) if section else {}
    results = doc.replace(section[0], "") if section else doc
    missing = []
    for argument in arguments(function):
        in_prose = re.compile(rf"\b{argument.arg} \[[^\]]*\]")
        given = SHAPE.search(entries.get(argument.arg, "")) or in_prose.search(doc)
        if is_array(argument.annotation) and not given:
            missing.append(argument.arg)
        results = in_prose.sub("", results)
    if is_array(function.returns) and not SHAPE.search(results):
        missing.append("return")
    return missing


def test_exported_names_live_in_checked_modules():
    for name in jaxpose.__all__:
        home = importlib.import_module(getattr(jaxpose, name).__module__)
        assert pathlib.Path(inspect.getfile(home)) in MODULES, name


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_every_public_argument_and_result_has_a_type(path):
    for function in public_functions(ast.parse(path.read_text())):
        untyped = [one.arg for one in arguments(function) if one.annotation is None]
        assert not untyped, f"{function.name}: {untyped}"
        assert function.returns is not None, function.name


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_docstrings_give_the_shape_of_every_array(path):
    for function in public_functions(ast.parse(path.read_text())):
        assert not shapeless(function), f"{function.name}: {shapeless(function)}"


@pytest.mark.parametrize(
    ("doc", "missing"),
    [
        ("Add x [..., C] and y [C] to [..., C].", []),
        ("Add x [..., C] and y.", ["y", "return"]),
        ("Add.\n\n    Args:\n      x: [..., C].\n      y: scalar.", ["return"]),
        ("Add.\n\n    Args:\n      x: one.\n      y: other,\n        [C].\n\n    [C].", ["x"]),
        ("Add.", ["x", "y", "return"]),
    ],
)
def test_a_missing_shape_is_noticed(doc, missing):
    code = f'def add(x: jax.Array, y: ArrayLike | None) -> jax.Array:\n    """{doc}"""'
    assert shapeless(ast.parse(code).body[0]) == missing


def modules_with_examples() -> list[str]:
    files = [
        path for folder in ("jaxpose", "tfds_builders") for path in (ROOT / folder).rglob("*.py")
    ]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(files)
        if ">>> " in path.read_text()
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings_run(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert (failed, attempted > 0) == (0, True)


def test_every_exported_function_and_network_has_an_example():
    for name in jaxpose.__all__:
        exported = getattr(jaxpose, name)
        if not inspect.isclass(exported) or exported in (PoseNet, PoseEstimator):
            assert ">>> " in inspect.getdoc(exported), name
