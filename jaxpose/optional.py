"""Lazy imports of optional dependencies."""

import importlib
from types import ModuleType

from jaxpose.errors import JaxposeError

# Modules whose package has another name for pip.
_PACKAGES = {
    "PIL": "pillow",
    "absl": "absl-py",
    "attr": "attrs",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "orbax": "orbax-checkpoint",
    "tree": "dm-tree",
    "yaml": "pyyaml",
}


def import_optional(module: str, *, extra: str) -> ModuleType:
    """Import an optional library; if it is missing, the error names its package and its extra.

    Args:
      module: dotted name, such as ``"cv2"`` or ``"orbax.checkpoint"``.
      extra: name of the extra in pyproject.toml.

    Returns:
      The imported module.

    Raises:
      JaxposeError: the library, or one of its own dependencies, is not installed.

    Example:
      >>> import_optional("math", extra="train").sqrt(4.0)
      2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # error.name, not module: TFDS imports libraries that are not among its requirements.
        name = error.name or module
        package = _PACKAGES.get(name.split(".")[0])
        missing = f"{package} (imported as {name})" if package else name
        raise JaxposeError(
            f"{missing} is not installed; install the extra jaxpose[{extra}]: "
            f"pip install '.[{extra}]' in a clone, or pip install 'WHEEL[{extra}]' with the path "
            "of a wheel"
        ) from error
