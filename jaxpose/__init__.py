"""Human pose regression by soft-argmax (Luvizon, Tabia, Picard 2019) in JAX and Flax.

Public names are loaded when they are first asked for: ``from jaxpose import soft_argmax`` loads
``jaxpose.heatmaps`` and nothing else of the package, and ``import jaxpose`` loads nothing at all.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers read; at run time _HOME says the same
    from jaxpose.depthwise import depthwise_conv as depthwise_conv
    from jaxpose.errors import JaxposeError as JaxposeError
    from jaxpose.heatmaps import aggregate_context as aggregate_context
    from jaxpose.heatmaps import joint_logit as joint_logit
    from jaxpose.heatmaps import joint_probability as joint_probability
    from jaxpose.heatmaps import soft_argmax as soft_argmax
    from jaxpose.network import PoseNet as PoseNet
    from jaxpose.network import PoseOutput as PoseOutput
    from jaxpose.predict import PoseEstimator as PoseEstimator
    from jaxpose.runtime.compilation import compiler_options as compiler_options

__version__ = "0.1.0"

_HOME = {
    "JaxposeError": "errors",
    "PoseEstimator": "predict",
    "PoseNet": "network",
    "PoseOutput": "network",
    "aggregate_context": "heatmaps",
    "compiler_options": "runtime.compilation",
    "depthwise_conv": "depthwise",
    "joint_logit": "heatmaps",
    "joint_probability": "heatmaps",
    "soft_argmax": "heatmaps",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
