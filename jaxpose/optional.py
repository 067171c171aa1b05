"""Lazy imports of optional dependencies."""

import importlib
from types import ModuleType

from jaxpose.errors import JaxposeError


def import_optional(module: str, *, extra: str) -> ModuleType:
    """Import a library that an extra of jaxpose installs, or say which extra that is.

    Args:
      module: dotted name, such as ``"cv2"`` or ``"orbax.checkpoint"``.
      extra: the extra of jaxpose that brings it, as pyproject.toml names it.

    Returns:
      The imported module.

    Raises:
      JaxposeError: the library, or one that it needs itself, is not installed.

    Example:
      >>> import_optional("math", extra="train").sqrt(4.0)
      2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # error.name, not module: TFDS imports libraries that it does not ask pip for.
        raise JaxposeError(
            f"{error.name or module} is not installed; it comes with the extra jaxpose[{extra}]: "
            f"pip install '.[{extra}]' in a clone, 'WHEEL[{extra}]' with the path of a wheel"
        ) from error
