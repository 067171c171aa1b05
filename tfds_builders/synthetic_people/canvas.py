"""Paint textured tubes, ellipsoids and flat shapes, with a map of the part that owns each pixel.

The one module of this data set that needs OpenCV. Everything is blended with soft edges onto a
float32 image. A second array holds the owner of each pixel (the number of a part; 0 for the
background), which determines visibility. Coordinates are continuous pixels: the pixel in column c
and row r covers [c, c + 1) x [r, r + 1).

A tube is a limb: a straight axis with an elliptical cross-section and a profile of widths, seen
in orthographic projection. The rows of its texture run along the axis, from the first end to the
second. The columns run around the axis: the middle column faces the part's front, and the column at
three quarters faces its left. An ellipsoid's texture is a map of its surface: its rows run from the
top down, its columns as those of a tube.
"""

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

cv2.setNumThreads(1)  # images are drawn in parallel, each small

AMBIENT = 0.62  # fraction of ambient light
_ROWS, _COLUMNS = 30, 18  # texels of a tube's patch; a limb is some 40 x 15 pixels
_MARGIN = 1.2  # the patch reaches this far across, in half widths, so that its edge is empty
_GRID = 24  # texels of an ellipsoid's patch

# Half width along the axis, from the first end (0) to the second (1), relative to the widest.
PROFILES = {
    "thigh": ((0, 1.0), (0.3, 0.99), (1, 0.68)),
    "shin": ((0, 0.92), (0.28, 1.0), (0.62, 0.76), (1, 0.56)),
    "upper_arm": ((0, 1.0), (0.4, 0.95), (1, 0.80)),
    "forearm": ((0, 0.95), (0.22, 1.0), (1, 0.62)),
    "baggy": ((0, 0.98), (0.5, 1.0), (1, 0.90)),
    "straight": ((0, 1.0), (1, 1.0)),
    "ribs": ((0, 0.90), (0.25, 1.0), (0.5, 0.98), (1, 0.84)),
    "hips": ((0, 0.90), (0.6, 0.98), (1, 1.0)),
    "skirt": ((0, 0.52), (0.25, 0.68), (1, 1.0)),
    "horn": ((0, 0.82), (0.5, 0.82), (1, 1.0)),
}


class Canvas(NamedTuple):
    """``image`` [H, W, 3] float32, RGB in 0..255; ``owner`` [H, W] uint8."""

    image: np.ndarray
    owner: np.ndarray


class Light(NamedTuple):
    """A light in addition to AMBIENT; ``direction`` [3]: unit vector toward it, in camera axes."""

    direction: np.ndarray
    strength: float


def new_canvas(background: np.ndarray) -> Canvas:
    """Make a canvas over a float32 background [H, W, 3], which is painted on in place."""
    return Canvas(background, np.zeros(background.shape[:2], np.uint8))


def paint(canvas: Canvas, patch: np.ndarray, matrix: np.ndarray, owner: int) -> None:
    """Blend ``patch`` [h, w, 4] (RGB and alpha in 0..1) through an affine map.

    ``matrix`` [2, 3] float64 takes continuous texel coordinates to continuous pixels.
    """
    rows, columns = patch.shape[:2]
    height, width = canvas.owner.shape
    (xx, xy, x0), (yx, yy, y0) = matrix.tolist()
    low_x = x0 + min(xx, 0) * columns + min(xy, 0) * rows
    low_y = y0 + min(yx, 0) * columns + min(yy, 0) * rows
    left, top = max(int(low_x), 0), max(int(low_y), 0)
    right = min(int(low_x + abs(xx) * columns + abs(xy) * rows) + 1, width)
    bottom = min(int(low_y + abs(yx) * columns + abs(yy) * rows) + 1, height)
    if right <= left or bottom <= top:
        return
    # In OpenCV, centers are integers: add half a texel before the map, subtract half a pixel after.
    matrix = matrix.copy()
    matrix[0, 2] = x0 + 0.5 * (xx + xy) - (left + 0.5)
    matrix[1, 2] = y0 + 0.5 * (yx + yy) - (top + 0.5)
    drawn = cv2.warpAffine(
        patch,
        matrix,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    alpha = drawn[..., 3:]
    area = canvas.image[top:bottom, left:right]
    color = drawn[..., :3]
    color -= area
    color *= alpha
    area += color
    canvas.owner[top:bottom, left:right][alpha[..., 0] > 0.5] = owner


class _Tube(NamedTuple):
    across: np.ndarray  # [rows, columns] -1..1: place across the local width
    facing: np.ndarray  # [rows, columns] sqrt(1 - across^2)
    angle: np.ndarray  # [rows, columns] asin(across), as a fraction of a full turn
    along: np.ndarray  # [rows, 1] 0..1 along the axis
    alpha: np.ndarray  # [rows, columns]


@cache
def _tube(profile: str, length: float, cap: float) -> _Tube:
    """Make the tables of a tube. ``length`` and ``cap`` (bulge of the ends) are in half widths."""
    places, widths = np.array(PROFILES[profile]).T
    y = (np.arange(_ROWS) + 0.5) / _ROWS * (length + 2 * cap + 0.3) - cap - 0.15
    along = np.clip(y / length, 0, 1)
    beyond = np.where(y < 0, -y, np.maximum(y - length, 0)) / cap
    half_width = np.interp(along, places, widths) * np.sqrt(np.clip(1 - beyond**2, 0, 1))
    x = ((np.arange(_COLUMNS) + 0.5) / _COLUMNS * 2 - 1) * _MARGIN
    texel = 2 * _MARGIN / _COLUMNS
    alpha = np.clip((half_width[:, None] - np.abs(x)) / texel + 0.5, 0, 1)
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    across = np.clip(x / np.maximum(half_width[:, None], 1e-3), -1, 1)
    return _Tube(
        across=across.astype(np.float32),
        facing=np.sqrt(1 - across**2).astype(np.float32),
        angle=(np.arcsin(across) / (2 * np.pi)).astype(np.float32),
        along=along[:, None].astype(np.float32),
        alpha=alpha.astype(np.float32),
    )


def paint_tube(
    canvas: Canvas,
    ends: np.ndarray,
    frame: np.ndarray,
    half_width: float,
    half_depth: float,
    texture: np.ndarray,
    light: Light,
    *,
    profile: str,
    owner: int,
    cap: float = 1.0,
) -> None:
    """Paint a limb.

    Args:
        canvas: canvas to paint on.
        ends: [2, 2] pixels of the axis' first and second end (x, y).
        frame: [3, 3] camera axes; columns left, along the axis (either way), forward.
        half_width: half axis of the widest cross-section along ``frame``'s left, in pixels.
        half_depth: half axis of the widest cross-section along ``frame``'s forward, in pixels.
        texture: [rows, columns, 3] float32, RGB.
        light: see Light.
        profile: a key of PROFILES.
        owner: number that the pixels get.
        cap: how far the ends bulge, in radii; 1 is half a sphere.
    """
    (x0, y0), (x1, y1) = ends.tolist()
    (left_x, _, front_x), (left_y, _, front_y), (left_z, _, front_z) = frame.tolist()
    length = math.hypot(x1 - x0, y1 - y0)
    along_x, along_y = ((x1 - x0) / length, (y1 - y0) / length) if length > 0.2 else (0.0, 1.0)
    across_x, across_y = -along_y, along_x
    to_left = half_width * (across_x * left_x + across_y * left_y)
    to_front = half_depth * (across_x * front_x + across_y * front_y)
    # across(theta) = to_left * sin(theta) + to_front * cos(theta) = reach * sin(theta + phase)
    reach = max(math.hypot(to_left, to_front), 0.6)
    phase = math.atan2(to_front, to_left)
    front = half_depth * math.cos(phase) * front_z - half_width * math.sin(phase) * left_z < 0
    bulge = max(0.1, round(cap * min(half_width, half_depth) / reach * 5) / 5)
    ratio = length / reach
    ratio = max(0.1, round(ratio * 5) / 5 if ratio < 4 else round(ratio))
    table = _tube(profile, ratio, bulge)

    turn = (table.angle if front else 0.5 - table.angle) + (0.5 - phase / (2 * math.pi) + 2)
    rows, columns = texture.shape[:2]
    texels = (turn * columns).astype(np.int32) % columns
    texels += (table.along * (rows - 1) + 0.5).astype(np.int32) * columns
    light_x, light_y, light_z = light.direction.tolist()
    sideways = across_x * light_x + across_y * light_y
    toward = math.sqrt(max(0.0, 1 - sideways**2)) * (1.0 if light_z < 0.3 else 0.6)
    shade = table.across * (light.strength * sideways)
    shade += table.facing * (light.strength * toward)
    np.maximum(shade, 0, out=shade)
    shade += AMBIENT
    patch = np.empty((_ROWS, _COLUMNS, 4), np.float32)
    np.multiply(texture.reshape(-1, 3).take(texels, axis=0), shade[..., None], out=patch[..., :3])
    patch[..., 3] = table.alpha

    per_row = (length + (2 * bulge + 0.3) * reach) / _ROWS
    per_column = 2 * _MARGIN * reach / _COLUMNS
    back = (bulge + 0.15) * reach
    side = _MARGIN * reach
    matrix = np.array(
        [
            [across_x * per_column, along_x * per_row, x0 - along_x * back - across_x * side],
            [across_y * per_column, along_y * per_row, y0 - along_y * back - across_y * side],
        ]
    )
    paint(canvas, patch, matrix, owner)


@cache
def _disc() -> tuple[np.ndarray, np.ndarray]:
    """Return points on the visible half of the unit sphere [3, n] and alpha [_GRID, _GRID]."""
    line = ((np.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _MARGIN
    x, y = np.meshgrid(line, line)
    radius = np.hypot(x, y)
    texel = 2 * _MARGIN / _GRID
    alpha = np.clip((1 - radius) / texel + 0.5, 0, 1)
    shrink = np.minimum(1, 0.999 / np.maximum(radius, 1e-6))
    x, y = x * shrink, y * shrink
    places = np.stack([x.ravel(), y.ravel(), np.sqrt(np.maximum(1 - x**2 - y**2, 0)).ravel()])
    return places.astype(np.float32), alpha.astype(np.float32)


def paint_ellipsoid(
    canvas: Canvas,
    middle: np.ndarray,
    frame: np.ndarray,
    half_axes: tuple[float, float, float],
    texture: np.ndarray,
    light: Light,
    *,
    owner: int,
) -> None:
    """Paint an ellipsoid exactly, in orthographic projection.

    Args:
        canvas: canvas to paint on.
        middle: [2] pixels.
        frame: [3, 3] camera axes; columns left, up, forward.
        half_axes: pixels along left, up and forward.
        texture: [rows, columns, 3] float32, RGB.
        light: see Light.
        owner: number that the pixels get.
    """
    spread = frame * half_axes  # unit sphere -> camera axes
    (a, b, c), (d, e, f), (g, h, i) = spread.tolist()
    # the outline is the image of the unit disc under the root of flat @ flat.T
    xx, xy, yy = a * a + b * b + c * c + 0.25, a * d + b * e + c * f, d * d + e * e + f * f + 0.25
    det = math.sqrt(xx * yy - xy * xy)
    trace = math.sqrt(xx + yy + 2 * det)
    xx, xy, yy = (xx + det) / trace, xy / trace, (yy + det) / trace
    inverse = np.array([[yy, -xy], [-xy, xx]]) / (xx * yy - xy * xy)
    # the point of the sphere that faces the camera is orthogonal to both rows of `flat`
    u, v, w = b * f - c * e, c * d - a * f, a * e - b * d
    norm = math.sqrt(u * u + v * v + w * w) or 1.0
    norm = -norm if g * u + h * v + i * w > 0 else norm
    from_disc = np.empty((3, 3), np.float32)
    from_disc[:, :2] = spread[:2].T @ inverse
    from_disc[:, 2] = u / norm, v / norm, w / norm
    places, alpha = _disc()
    surface = from_disc @ places
    rows, columns = texture.shape[:2]
    row = ((0.5 - 0.499 * surface[1]) * rows).astype(np.int32)
    turn = np.arctan2(surface[0], surface[2]) * (0.5 / math.pi) + 0.5
    texels = row * columns + (turn * columns).astype(np.int32) % columns
    shade = (light.strength * light.direction @ frame).astype(np.float32) @ surface
    np.maximum(shade, 0, out=shade)
    shade += AMBIENT
    patch = np.empty((_GRID, _GRID, 4), np.float32)
    flat = patch.reshape(-1, 4)
    np.multiply(texture.reshape(-1, 3).take(texels, axis=0), shade[:, None], out=flat[:, :3])
    patch[..., 3] = alpha
    step = 2 * _MARGIN / _GRID
    x, y = middle.tolist()
    matrix = np.array(
        [
            [xx * step, xy * step, x - _MARGIN * (xx + xy)],
            [xy * step, yy * step, y - _MARGIN * (xy + yy)],
        ]
    )
    paint(canvas, patch, matrix, owner)


def paint_polygon(
    canvas: Canvas, corners: np.ndarray, colors: np.ndarray, *, owner: int, opacity: float = 1.0
) -> None:
    """Paint a flat shape.

    ``corners`` [n, 2] is in pixels; ``colors`` is one color [3] or a texture [h, w, 3], stretched
    over the shape's bounding box.
    """
    height, width = canvas.owner.shape
    low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
    if (high <= low).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    fixed = np.round((np.clip(corners, -2000, 2000) - low - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
    colors = np.asarray(colors, np.float32)
    if colors.ndim == 3:
        colors = resize(colors, (mask.shape[1], mask.shape[0]))
    area = canvas.image[low[1] : high[1], low[0] : high[0]]
    area += (mask * np.float32(opacity / 255))[..., None] * (colors - area)
    canvas.owner[low[1] : high[1], low[0] : high[0]][mask > 127] = owner


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly to (width, height)."""
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def smooth_noise(rng: np.random.Generator, cells: int, size: int, channels: int = 1) -> np.ndarray:
    """Return float32 [size, size, channels]: standard normal values on a grid, interpolated."""
    coarse = rng.standard_normal((cells, cells, channels), dtype=np.float32)
    fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(size, size, channels)


def text_mask(
    shape: tuple[int, int], text: str, corner: tuple[int, int], scale: float
) -> np.ndarray:
    """Return float32 [rows, columns], 1 where a text has ink; ``corner``: lower left texel."""
    mask = np.zeros(shape, np.uint8)
    cv2.putText(mask, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 2, cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def draw_ellipse(
    texture: np.ndarray,
    middle: tuple[int, int],
    half_axes: tuple[int, int],
    color: tuple[float, ...],
) -> None:
    """Fill an ellipse on a texture in place, in texels."""
    cv2.ellipse(texture, middle, half_axes, 0, 0, 360, color, -1)


@cache
def _grains() -> np.ndarray:
    """Return precomputed sensor noise, float32 [512, 512, 3].

    Generating it for every image costs more than rendering a person.
    """
    return np.random.default_rng(512).standard_normal((512, 512, 3), dtype=np.float32)


def add_noise(rng: np.random.Generator, image: np.ndarray, sigma: float) -> None:
    """Add normal noise in place: a random window of a fixed field (tiled if necessary)."""
    height, width = image.shape[:2]
    grains = _grains()
    while grains.shape[0] < 2 * height or grains.shape[1] < 2 * width:
        grains = np.tile(grains, (2, 2, 1))
    row = int(rng.integers(grains.shape[0] - height + 1))
    column = int(rng.integers(grains.shape[1] - width + 1))
    cut = grains[row : row + height, column : column + width]
    image += np.float32(sigma * (1 if rng.random() < 0.5 else -1)) * cut


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Apply a Gaussian blur; ``sigma`` in pixels."""
    return cv2.GaussianBlur(image, (0, 0), sigma)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Convert float32 to uint8, rounded and clipped to 0..255."""
    return cv2.convertScaleAbs(np.maximum(image, 0))


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encode an RGB image [H, W, 3] uint8 as JPEG bytes."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1].tobytes()
