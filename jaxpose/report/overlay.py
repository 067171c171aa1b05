"""SVG overlays for photos: skeletons, and distances to the true positions."""

import html
from collections.abc import Sequence

import numpy as np

from jaxpose.visualize import joint_colors, limb_color


def skeleton(
    points: np.ndarray,
    *,
    joints: Sequence[str],
    limbs: Sequence[Sequence[str]],
    drawn: np.ndarray,
) -> str:
    """Draw limbs and joints in the colors of ``visualize.draw_skeleton``.

    Args:
      points: [J, 2], (x, y) in units of the drawing.
      joints: J names.
      limbs: pairs of names; a limb is drawn if both of its joints are.
      drawn: bool [J], whether to draw each joint.
    """
    colors = joint_colors(joints)
    place = {name: index for index, name in enumerate(joints) if drawn[index]}
    lines = []
    for a, b in limbs:
        if a in place and b in place:
            i, j = place[a], place[b]
            path = _path(points[i], points[j])
            lines += [
                f'<path class="outline" d="{path}"/>',
                f'<path class="limb" d="{path}" '
                f'stroke="{_rgb(limb_color(a, b, colors[i], colors[j]))}"/>',
            ]
    for name, index in place.items():
        x, y = points[index]
        lines.append(
            f'<circle class="joint" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_rgb(colors[index])}">'
            f"<title>{html.escape(name.replace('_', ' '))}</title></circle>"
        )
    return "".join(lines)


def errors(points: np.ndarray, truth: np.ndarray, *, radius: float | None) -> str:
    """Draw lines from predictions to true positions, and the circles of correct positions.

    Args:
      points: [J, 2], (x, y) in units of the drawing.
      truth: [J, 2]; NaN where a joint is not counted.
      radius: radius of the circles: the largest distance at which a joint is correct; None for no
        circles.
    """
    lines = []
    for start, end in zip(points, truth, strict=True):
        if not np.isfinite([start, end]).all():
            continue
        kind = "error"
        if radius is not None:
            kind = "error correct" if np.hypot(*(start - end)) <= radius else "error wrong"
            lines.append(
                f'<circle class="{kind}" cx="{end[0]:.1f}" cy="{end[1]:.1f}" r="{radius:.1f}"/>'
            )
        path = _path(start, end)
        lines += [
            f'<path class="under" d="{path}"/>',
            f'<path class="{kind}" d="{path}"/>',
            f'<circle class="true" cx="{end[0]:.1f}" cy="{end[1]:.1f}" r="3"/>',
        ]
    return "".join(lines)


def _path(start: np.ndarray, end: np.ndarray) -> str:
    return f"M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"


def _rgb(color: np.ndarray) -> str:
    return f"rgb({', '.join(str(round(float(value))) for value in color)})"
