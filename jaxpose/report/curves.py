"""Draw line charts as SVG text; the page's style sheet sets the colors."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 340, 210  # of the drawing, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 48, 330, 10, 180  # edges of the plot area
TICKS = 5  # approximate number per axis
POINTS_WITH_DOTS = 160  # longer curves have no dots
# The axis is logarithmic if the ratio of the largest to the smallest value is in this range. Above
# it, very small values would take up most of the axis.
LOGARITHMIC = (20, 5000)


class Curve(NamedTuple):
    """Points of one line.

    Attributes:
      name: label in the legend.
      steps: steps, increasing.
      values: one value per step; None interrupts the line.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float | None]


def line_chart(curves: Sequence[Curve], *, last_step: int, label: str) -> str:
    """Draw curves over the steps as an ``<svg>``.

    The vertical axis is logarithmic if the largest value is 20 to 5000 times the smallest.

    Args:
      curves: the curves; at least one has a value.
      last_step: end of the horizontal axis, which starts at 0.
      label: text for screen readers.

    Returns:
      Markup. Each curve has one ``<polyline>`` for every sequence of values without a gap; curves
      with few points also have a ``<circle>`` per point, with a title that gives step and value.
    """
    shown = [value for curve in curves for value in curve.values if value is not None]
    logarithmic = min(shown) > 0 and LOGARITHMIC[0] < max(shown) / min(shown) < LOGARITHMIC[1]
    ticks = _log_ticks(min(shown), max(shown)) if logarithmic else _ticks(min(shown), max(shown))
    step_ticks = [tick for tick in _ticks(0, last_step) if 0 <= tick <= last_step]

    def height(value: float) -> float:
        low, high, value = (
            (math.log(v) if logarithmic else v) for v in (ticks[0], ticks[-1], value)
        )
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    def place(step: float) -> float:
        return LEFT + step / max(last_step, 1) * (RIGHT - LEFT)

    lines = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">']
    for tick in ticks:
        y = height(tick)
        lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        lines.append(f'<text class="left" x="{LEFT - 6}" y="{y + 4:.1f}">{_number(tick)}</text>')
    for tick in step_ticks:
        x = place(tick)
        lines.append(f'<text class="below" x="{x:.1f}" y="{BOTTOM + 18}">{_number(tick)}</text>')
    lines.append(f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    for number, curve in enumerate(curves):
        lines.append(f'<g class="curve curve{number % 4}">')
        for part in _parts(curve):
            points = " ".join(f"{place(step):.1f},{height(value):.1f}" for step, value in part)
            lines.append(f'<polyline points="{points}"/>')
        if len(curve.steps) <= POINTS_WITH_DOTS:
            lines += [
                f'<circle cx="{place(step):.1f}" cy="{height(value):.1f}" r="2.2"><title>'
                f"{html.escape(curve.name)}, step {_number(step)}: {value:.4g}</title></circle>"
                for step, value in zip(curve.steps, curve.values, strict=True)
                if value is not None
            ]
        lines.append("</g>")
    lines.append("</svg>")
    return "\n".join(lines)


def _parts(curve: Curve) -> list[list[tuple[float, float]]]:
    """Split the (step, value) pairs of a curve where a value is missing."""
    parts: list[list[tuple[float, float]]] = [[]]
    for step, value in zip(curve.steps, curve.values, strict=True):
        if value is None:
            parts.append([])
        else:
            parts[-1].append((step, value))
    return [part for part in parts if part]


def _ticks(low: float, high: float) -> list[float]:
    """Return evenly spaced round numbers that cover ``low`` to ``high``."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, low + (abs(low) or 1.0) / 2
    rough = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten that cover both values."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def _number(value: float) -> str:
    """Format a number briefly: 12k, 0.25, 1e-05."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
