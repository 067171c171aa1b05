"""Draw docs/images/soft_argmax/, one figure per function.

    python -m tools.soft_argmax_figures

All of them show what a function does to the same map with two peaks. The drawings have their own
background, so that they are readable on light and on dark pages.
"""

import pathlib
from xml.sax.saxutils import escape

import jax
import jax.numpy as jnp
import numpy as np

import jaxpose
import tools

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "images" / "soft_argmax"
HEIGHT, WIDTH = 20, 32  # cells of the map
CELL = 7  # pixels of a cell
MARGIN, GAP, LINE = 10, 24, 16
LEVELS = 12
# From low to high values.
LOW, HIGH = np.array([245, 248, 252]), np.array([22, 72, 140])

STYLE = """
  .ground { fill: #ffffff; }
  .frame { fill: none; stroke: #9aa4b1; }
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
         fill: #1c2733; }
  .mark { fill: none; stroke: #d1401f; stroke-width: 2.2; }
  .other { fill: none; stroke: #0d8a5f; stroke-width: 2.2; }
  .third { fill: none; stroke: #8247b5; stroke-width: 2.2; }
  .fourth { fill: none; stroke: #1c2733; stroke-width: 2.2; }
  .line { fill: none; stroke: #16488c; stroke-width: 1.6; }
  .bar { fill: #16488c; }
  .hidden { fill: #9aa4b1; fill-opacity: 0.55; }
"""


def two_peaks() -> np.ndarray:
    """Return logits [20, 32] with two peaks.

    Their heights are 9 and 8.6, and their positions (column, row) are (8.3, 6.4) and (22.6, 12.3).
    """
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    first = 9.0 * np.exp(-((columns - 8.3) ** 2 + (rows - 6.4) ** 2) / (2 * 2.2**2))
    second = 8.6 * np.exp(-((columns - 22.6) ** 2 / 18 + (rows - 12.3) ** 2 / 6))
    return (first + second).astype(np.float32)


class Drawing:
    """Panels side by side, each with lines of text below."""

    def __init__(self):
        self.parts, self.left, self.bottom = [], MARGIN, 0

    def add(self, element: str) -> None:
        """Add one SVG element, in pixels of the current panel."""
        self.parts.append(element)

    def begin(self, width: float, height: float, *text: str) -> None:
        """Begin a panel of that size with text below it."""
        if self.parts:
            self.add("</g>")
        self.add(f'<g transform="translate({self.left:g} {MARGIN})">')
        for number, line in enumerate(text, 1):
            self.add(f'<text x="0" y="{height + LINE * number:g}">{escape(line)}</text>')
        longest = max(map(len, text), default=0)
        self.left += max(width, 6.6 * longest) + GAP
        self.bottom = max(self.bottom, MARGIN + height + LINE * len(text))

    def heatmap(self, values: np.ndarray, *text: str, cell: float = CELL, ends=None) -> None:
        """Add a panel with a map [H, W], scaled to its own range or between two bounds."""
        height, width = values.shape
        low, high = ends or (values.min(), values.max())
        fraction = np.clip((values - low) / (high - low), 0, 1)
        level = np.floor(fraction * (LEVELS - 1e-6)).astype(int)
        self.begin(width * cell, height * cell, *text)
        for number in range(LEVELS):
            path = "".join(
                f"M{start * cell:g} {row * cell:g}h{(end - start) * cell:g}v{cell:g}"
                f"h{(start - end) * cell:g}z"
                for row in range(height)
                for start, end in runs(level[row] == number)
            )
            if path:
                color = LOW + (HIGH - LOW) * number / (LEVELS - 1)
                rgb = ",".join(f"{x:.0f}" for x in color)
                self.add(f'<path fill="rgb({rgb})" d="{path}"/>')
        self.frame(0, 0, width * cell, height * cell)

    def frame(self, left: float, top: float, width: float, height: float, kind="frame") -> None:
        """Add a rectangle."""
        self.add(
            f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/>'
        )

    def cross(self, x: float, y: float, kind: str = "mark", size: float = 5) -> None:
        """Add a cross at a position in pixels."""
        self.add(
            f'<path class="{kind}" d="M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}'
            f'm0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"/>'
        )

    def circle(self, x: float, y: float, kind: str = "other", size: float = 5) -> None:
        """Add a circle around a position in pixels."""
        self.add(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>')

    def curve(self, points, kind: str = "line") -> None:
        """Add a line through points in pixels."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.add(f'<path class="{kind}" d="M{path}"/>')

    def svg(self) -> str:
        """Return the text of the file."""
        width, height = self.left - GAP + MARGIN, self.bottom + MARGIN
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}">\n<style>{STYLE}</style>\n'
            f'<rect class="ground" width="100%" height="100%" rx="6"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</g>\n</svg>\n"


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return starts and ends of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def pixels(position, shape=(HEIGHT, WIDTH), cell=CELL) -> tuple[float, float]:
    """Convert a normalized position to pixels of a panel."""
    x, y = np.asarray(position, np.float64)
    return x * shape[1] * cell, y * shape[0] * cell


def soft_argmax() -> Drawing:
    """The expectation over all cells. At a low temperature, the second peak pulls it less."""
    drawing, peaks = Drawing(), two_peaks()
    drawing.heatmap(peaks, "soft_argmax(map): between the peaks")
    drawing.cross(*pixels(jaxpose.soft_argmax(peaks)))
    drawing.heatmap(peaks, "temperature=0.1: the higher peak")
    drawing.cross(*pixels(jaxpose.soft_argmax(peaks, temperature=0.1)))
    return drawing


def covariance() -> Drawing:
    """Ellipses of one standard deviation."""
    drawing, peaks = Drawing(), two_peaks()
    size = (WIDTH * CELL, HEIGHT * CELL)
    left = np.arange(WIDTH) < 16
    for text, where in (("all cells: wide", None), ("where= left half: narrow", left)):
        drawing.heatmap(peaks, text)
        mean, square = jaxpose.soft_argmax_with_covariance(peaks, size=size, where=where)
        root = np.linalg.cholesky(np.asarray(square, np.float64))
        angles = np.linspace(0, 2 * np.pi, 49)
        circle = np.stack([np.cos(angles), np.sin(angles)])
        drawing.curve((np.asarray(mean)[:, None] + root @ circle).T, "mark")
        drawing.cross(*np.asarray(mean))
    return drawing


def mask() -> Drawing:
    """Masked cells are ignored."""
    drawing, peaks = Drawing(), two_peaks()
    visible = np.arange(WIDTH) >= 16
    drawing.heatmap(peaks, "where=: gray cells are ignored")
    drawing.frame(0, 0, 16 * CELL, HEIGHT * CELL, "hidden")
    drawing.cross(*pixels(jaxpose.soft_argmax(peaks, where=visible)))
    return drawing


def local() -> Drawing:
    """The window around the highest cell."""
    drawing, peaks = Drawing(), two_peaks()
    column, row = np.asarray(jaxpose.hard_argmax(peaks, refinement="none")) * (WIDTH, HEIGHT)
    drawing.heatmap(peaks, "local_soft_argmax(map, window=7)")
    side = 7 * CELL
    drawing.frame(column * CELL - side / 2, row * CELL - side / 2, side, side, "other")
    drawing.cross(*pixels(jaxpose.local_soft_argmax(peaks, window=7)))
    return drawing


def softmax() -> Drawing:
    """Probabilities and their logarithm."""
    drawing, peaks = Drawing(), two_peaks()
    drawing.heatmap(np.asarray(jaxpose.spatial_softmax(peaks)), "spatial_softmax(map)")
    drawing.heatmap(np.asarray(jaxpose.spatial_log_softmax(peaks)), "spatial_log_softmax(map)")
    return drawing


def expectation() -> Drawing:
    """Probabilities need the expectation, not another softmax."""
    drawing = Drawing()
    p = np.asarray(jaxpose.spatial_softmax(two_peaks()))
    drawing.heatmap(p, "× spatial_expectation(p)", "○ soft_argmax(p): wrong, near the center")
    drawing.cross(*pixels(jaxpose.spatial_expectation(p)))
    drawing.circle(*pixels(jaxpose.soft_argmax(p)))
    return drawing


def hard() -> Drawing:
    """Refinements of the highest cell, enlarged."""
    drawing, cell = Drawing(), 40
    center = np.array([8.56 / WIDTH, 6.12 / HEIGHT])
    values = np.asarray(jaxpose.gaussian_heatmap(center, (HEIGHT, WIDTH), (1.0, 1.4)))
    column, row = 6, 4  # first cell that is shown
    shown = values[row : row + 4, column : column + 5]
    drawing.heatmap(
        shown, "○ the keypoint, × none (black), quarter (violet),", "quadratic (green), dark (red)",
        cell=cell,
    )  # fmt: skip

    def place(position):
        x, y = np.asarray(position, np.float64) * (WIDTH, HEIGHT)
        return (x - column) * cell, (y - row) * cell

    kinds = {"none": "fourth", "quarter": "third", "quadratic": "other", "dark": "mark"}
    for refinement, kind in kinds.items():
        drawing.cross(*place(jaxpose.hard_argmax(values, refinement=refinement)), kind, 4)
    drawing.circle(*place(center), "fourth", 8)
    return drawing


def peaks() -> Drawing:
    """Both peaks, numbered."""
    drawing, values = Drawing(), two_peaks()
    found = jaxpose.find_peaks(values, 2, window=5)
    drawing.heatmap(values, "find_peaks(map, 2, window=5)")
    for number, position in enumerate(found.position, 1):
        x, y = pixels(position)
        drawing.circle(x, y, "mark", 6)
        drawing.add(f'<text x="{x - 3:.1f}" y="{y - 20:.1f}">{number}</text>')
    return drawing


def gaussian() -> Drawing:
    """Targets at two keypoints, and a volume slice by slice."""
    drawing = Drawing()
    keypoints = np.array([[8.8 / WIDTH, 6.9 / HEIGHT], [23.1 / WIDTH, 12.8 / HEIGHT]])
    sigma = np.array([[1.5, 1.5], [3.0, 1.7]])
    maps = np.asarray(jaxpose.gaussian_heatmap(keypoints, (HEIGHT, WIDTH), sigma))
    drawing.heatmap(maps.sum(0), "gaussian_heatmap: one sigma per map or axis")
    volume = np.asarray(jaxpose.gaussian_heatmap(np.array([0.4, 0.6, 0.45]), (4, 14, 14), 1.6))
    slices = np.concatenate([*volume], axis=1)
    drawing.heatmap(slices, "the same in 3-D: four slices of a volume")
    return drawing


def profile(drawing, values, left, top, width, height, *, upright=False) -> None:
    """Add a distribution as a filled curve, along x or along y."""
    fraction = np.asarray(values) / np.max(values)
    along = (np.arange(len(fraction)) + 0.5) / len(fraction)
    if upright:
        points = zip(left + width * fraction, top + height * along, strict=True)
    else:
        points = zip(left + width * along, top + height * (1 - fraction), strict=True)
    drawing.curve(points)


def simcc() -> Drawing:
    """The two distributions next to the image that they describe."""
    drawing = Drawing()
    keypoint = np.array([0.7, 0.6])
    x, y = jaxpose.simcc_targets(keypoint, (HEIGHT, WIDTH), 3.0, splits=2)
    width, height = WIDTH * CELL, HEIGHT * CELL
    drawing.begin(width + 50, height + 50, "simcc_targets: one distribution per axis")
    drawing.frame(0, 50, width, height)
    profile(drawing, x, 0, 5, width, 40)
    profile(drawing, y, width + 5, 50, 40, height, upright=True)
    px, py = pixels(keypoint)
    drawing.cross(px, py + 50)
    drawing.curve([(px, 45), (px, py + 50), (width + 5, py + 50)], "other")
    return drawing


def axes() -> Drawing:
    """The soft-argmax of a line (one axis) and of a volume (three axes)."""
    drawing, values = Drawing(), two_peaks()
    line = values.max(0)
    drawing.begin(WIDTH * CELL, 80, "spatial_ndim=1: x of a line")
    profile(drawing, line, 0, 0, WIDTH * CELL, 80)
    x = float(jaxpose.soft_argmax(line, spatial_ndim=1)[0]) * WIDTH * CELL
    drawing.curve([(x, 0), (x, 80)], "mark")
    drawing.frame(0, 0, WIDTH * CELL, 80)
    depth, side = 4, 16
    volume = np.zeros((depth, side, side), np.float32)
    volume += 12 * np.asarray(
        jaxpose.gaussian_heatmap(np.array([0.3, 0.3, 0.2]), volume.shape, 1.5)
    )
    volume += 12 * np.asarray(
        jaxpose.gaussian_heatmap(np.array([0.7, 0.7, 0.8]), volume.shape, 1.5)
    )
    drawing.heatmap(np.concatenate([*volume], axis=1), "spatial_ndim=3: (x, y, z), here in slice 2")
    x, y, z = np.asarray(jaxpose.soft_argmax(volume, spatial_ndim=3), np.float64)
    drawing.cross((int(z * depth) + x) * side * CELL, y * side * CELL)
    return drawing


def divergence() -> Drawing:
    """Losses that grow with a second peak."""
    drawing, values = Drawing(), two_peaks()
    target = np.array([8.8 / WIDTH, 6.9 / HEIGHT])
    alone = values * (np.arange(WIDTH) < 16)
    for text, heatmap in (("two peaks", values), ("one peak", alone)):
        js = float(jaxpose.heatmap_divergence(heatmap, target, sigma=1.2))
        kl = float(jaxpose.heatmap_divergence(heatmap, target, sigma=1.2, kind="kl"))
        variance = float(jaxpose.variance_loss(heatmap, sigma=1.2))
        drawing.heatmap(
            np.asarray(jaxpose.spatial_softmax(heatmap)),
            f"{text}: Jensen-Shannon {js:.2f},",
            f"KL {kl:.2f}, variance_loss {variance:.0f}",
        )
        drawing.circle(*pixels(target), "other", 1.2 * CELL)
    return drawing


def losses() -> Drawing:
    """Coordinate losses as functions of the distance from the target."""
    drawing = Drawing()
    distance = np.linspace(-0.2, 0.2, 81).astype(np.float32)
    prediction = jnp.stack([distance, jnp.zeros_like(distance)], axis=-1)
    zero = jnp.zeros(2)
    curves = {
        "euclidean_loss (black)": (jaxpose.euclidean_loss(prediction, zero), "fourth"),
        "coordinate_loss, eq. 7 (red)": (jaxpose.coordinate_loss(prediction, zero), "mark"),
        "wing_loss (green)": (
            jaxpose.wing_loss(prediction, zero, width=0.06, epsilon=0.02), "other"
        ),
        "oks_loss / 4 (violet)": (
            jaxpose.oks_loss(prediction, zero, 0.25, jnp.asarray(0.06)) / 4, "third"
        ),
    }  # fmt: skip
    names = list(curves)
    width, height = 240, 120
    drawing.begin(width, height, ", ".join(names[:2]), ", ".join(names[2:]))
    drawing.frame(0, 0, width, height)
    for values, kind in curves.values():
        places = zip(distance, np.asarray(values), strict=True)
        drawing.curve([(width * (d + 0.2) / 0.4, height * (1 - v / 0.3)) for d, v in places], kind)
    return drawing


def presence() -> Drawing:
    """The maximum of a map as the logit of a joint's presence."""
    drawing = Drawing()
    for shift in (0, -9.5):
        values = two_peaks() + np.float32(shift)
        p = float(jaxpose.joint_probability(values))
        logit = float(jaxpose.joint_logit(values))
        drawing.heatmap(
            values, f"joint_logit {logit:.1f},", f"joint_probability {p:.2f}", ends=(-9.5, 9)
        )
    return drawing


def context() -> Drawing:
    """A joint's position from its part map and from two context maps."""
    drawing = Drawing()
    part = jaxpose.soft_argmax(two_peaks(), temperature=0.1)[None]
    points = jnp.array([[[0.62, 0.35], [0.8, 0.75]]])
    logits = jnp.array([[2.0, -1.0]])
    result = jaxpose.aggregate_context(part, points, logits)
    drawing.heatmap(
        two_peaks(), "aggregate_context: × result; ○ part map (green),",
        "context maps with p = 0.88 and 0.27 (violet)",
    )  # fmt: skip
    drawing.circle(*pixels(part[0]))
    for point, logit in zip(points[0], logits[0], strict=True):
        drawing.circle(*pixels(point), "third", 3 + 4 * float(jax.nn.sigmoid(logit)))
    drawing.cross(*pixels(result[0]))
    return drawing


def grids() -> Drawing:
    """Positions of four cells in a row, in several coordinate conventions."""
    drawing, scale = Drawing(), 240
    names = ("half_pixel", "align_corners", "paper", "dsntnn", "kornia", "integral_regression")
    drawing.begin(
        scale + 240, 26 * len(names), "positions of a row of four cells in each convention"
    )
    for number, name in enumerate(names):
        y = 26 * number + 14
        cells = np.arange(4, dtype=np.float32)[:, None]
        found = jaxpose.convert_grid(cells, (4,), source="index", target=name)
        ends = (-1, 1) if name in ("dsntnn", "kornia") else (0, 1)
        if name == "integral_regression":
            ends = (-0.5, 0.5)
        drawing.curve([(0, y), (scale, y)], "frame")
        for x in np.asarray(found)[:, 0]:
            drawing.circle((x - ends[0]) / (ends[1] - ends[0]) * scale, y, "mark", 4)
        drawing.add(
            f'<text x="{scale + 12}" y="{y + 4}">{name} ({ends[0]:g} to {ends[1]:g})</text>'
        )
    return drawing


FIGURES = {
    "soft_argmax": soft_argmax,
    "covariance": covariance,
    "mask": mask,
    "local": local,
    "softmax": softmax,
    "expectation": expectation,
    "axes": axes,
    "hard_argmax": hard,
    "find_peaks": peaks,
    "gaussian_heatmap": gaussian,
    "simcc": simcc,
    "divergence": divergence,
    "losses": losses,
    "joint_probability": presence,
    "aggregate_context": context,
    "grids": grids,
}


def main(arguments: list[str] | None = None) -> None:
    """Write the figures."""
    tools.parser("soft_argmax_figures", __doc__).parse_args(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
