"""Sphinx configuration of the documentation site; `make docs` builds it."""

import functools
import inspect
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax.typing  # noqa: E402
from sphinx.util.typing import stringify_annotation  # noqa: E402

import jaxpose  # noqa: E402

project, author = "jaxpose", "The jaxpose authors"
copyright = author
version = release = jaxpose.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
highlight_language = "text"  # of blocks in docstrings that name none; examples are doctests
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"jaxpose {release}"
html_show_sphinx = False
smartquotes = False  # "..." in shapes stays three dots
copybutton_exclude = ".linenos, .gp"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]  # [text]{.source}, what _link_to_sources writes
default_role = "code"  # docstrings quote names of arguments and functions with single backticks
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 80

_ARRAY_LIKE = stringify_annotation(jax.typing.ArrayLike, "smart")
_LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")


def _repository() -> str | None:
    """Address of the source code, from ``[project.urls]`` in pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"].get("urls", {}).get("Source")


def _link_to_sources(app, name, source):
    """Point links to files outside of docs/ to the repository, or drop them without an address."""
    url = _repository()
    target = rf"]({url}/blob/main/\1)" if url else "]{.source}"
    source[0] = _LINK.sub(target, source[0])


def _skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of classes, which their ``Attributes:`` sections describe."""
    documented = inspect.isroutine(obj) or isinstance(obj, (property, functools.cached_property))
    return True if what == "class" and not documented else skip


def _short_types(app, what, name, obj, options, signature, returns):
    """Write ``ArrayLike`` where a signature has the union that it stands for."""
    return tuple(text and text.replace(_ARRAY_LIKE, "ArrayLike") for text in (signature, returns))


def setup(app):
    """Connect the hooks."""
    app.connect("autodoc-process-signature", _short_types)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("source-read", _link_to_sources)
