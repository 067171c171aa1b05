"""Draw predictions: skeletons, part maps (Fig. 1b), single maps (Figs. 5 and 6).

Functions take arrays and return new uint8 RGB images. In skeletons and part maps alike, left joints
have warm colors, right joints cool ones, and joints in the middle are green.
"""

import colorsys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose.heatmaps import Grid, spatial_softmax
from jaxpose.network import decode_maps
from jaxpose.optional import import_optional
from jaxpose.skeleton import joint_index

STRIDE = 8  # pixels of the network's input per cell of a heat map, along each axis
NEUTRAL = (235, 235, 235)  # color of a limb between a left and a right joint
HUES = {"left_": (-20 / 360, 50 / 360), "right_": (185 / 360, 285 / 360), "": (85 / 360, 150 / 360)}
# Dark blue, violet, red, orange, pale yellow: brightness increases, so that it works in gray.
HEAT = np.array(
    [(8, 8, 32), (70, 20, 110), (165, 30, 110), (235, 85, 55), (252, 180, 60), (255, 252, 200)],
    np.float32,
)
# The joints of Fig. 5; those that a network lacks are skipped.
JOINTS_OF_FIG_5 = (
    "right_ankle", "right_hip", "right_wrist", "right_shoulder", "upper_neck", "head_top",
    "left_knee", "left_wrist",
)  # fmt: skip
JOINTS_OF_FIG_6 = 3  # number of joints for which Fig. 6 shows context maps, per person
DIM_FACTOR = 0.45  # brightness of an image beneath its maps, relative to the original
PERSON_TO_LINE_RATIO = 60  # the person's longer side relative to the width of the skeleton's lines
MIN_LINE_WIDTH = 1.5  # pixels
# Width of the dark outline, which makes lines visible on any background, relative to the line's.
OUTLINE_FRACTION = 0.28


def joint_colors(joints: Sequence[str]) -> np.ndarray:
    """Choose one color per joint: warm for ``left_...``, cool for ``right_...``, otherwise green.

    Args:
      joints: J names. If none of them starts with ``left_`` or ``right_``, hues are spread over the
        whole color circle.

    Returns:
      uint8 [J, 3] RGB.
    """
    sides = [_side(name) for name in joints]
    hues = HUES if any(sides) else {"": (0.0, 0.85)}
    colors = np.zeros((len(joints), 3))
    for side, (first, last) in hues.items():
        members = [index for index, found in enumerate(sides) if found == side]
        for rank, index in enumerate(members):
            hue = first + (last - first) * rank / max(len(members) - 1, 1)
            colors[index] = colorsys.hsv_to_rgb(hue % 1.0, 0.72, 1.0)
    return np.rint(255 * colors).astype(np.uint8)


def _side(joint: str) -> str:
    return next((side for side in ("left_", "right_") if joint.startswith(side)), "")


def draw_skeleton(
    image: np.ndarray,
    keypoints: np.ndarray,
    *,
    joints: Sequence[str],
    limbs: Sequence[Sequence[str]],
    confidence: np.ndarray | None = None,
    threshold: float = 0.0,
) -> np.ndarray:
    """Draw a person's limbs and joints on an image.

    Lines are antialiased, with a width proportional to the person's size, within limits.

    Args:
      image: uint8 [H, W, 3].
      keypoints: [J, 2], (x, y) in pixels of the image; parts outside the image are clipped,
        non-finite joints are not drawn.
      joints: J names.
      limbs: pairs of names; a limb is drawn if both of its joints are.
      confidence: [J] probabilities; joints below ``threshold`` are not drawn.
      threshold: see ``confidence``.

    Returns:
      uint8 [H, W, 3], a new image.
    """
    canvas = np.array(image, np.uint8)
    points = np.asarray(keypoints, np.float64)
    drawn = np.asarray(np.isfinite(points).all(axis=-1))
    if confidence is not None:
        drawn &= np.asarray(confidence) >= threshold
    if not drawn.any():
        return canvas
    extent = np.ptp(points[drawn], axis=0).max()
    most = max(canvas.shape[:2]) / PERSON_TO_LINE_RATIO
    width = max(min(extent / PERSON_TO_LINE_RATIO, most), MIN_LINE_WIDTH)
    colors = joint_colors(joints)
    place = {name: index for index, name in enumerate(joints)}
    for a, b in limbs:
        if a in place and b in place and drawn[place[a]] and drawn[place[b]]:
            color = limb_color(a, b, colors[place[a]], colors[place[b]])
            _line(canvas, points[place[a]], points[place[b]], width, color)
    for index in np.flatnonzero(drawn):
        _line(canvas, points[index], points[index], 1.7 * width, colors[index])
    return canvas


def limb_color(a: str, b: str, color_a: np.ndarray, color_b: np.ndarray) -> np.ndarray:
    """Color of the limb between two joints.

    Args:
      a: name of a joint.
      b: name of the other.
      color_a: [3], RGB, the first joint's color.
      color_b: [3], RGB, the other's.

    Returns:
      [3], RGB, in [0, 255].
    """
    sides = _side(a), _side(b)
    if sides[0] == sides[1]:
        return (color_a.astype(np.float32) + color_b) / 2
    if all(sides):
        return np.array(NEUTRAL)
    return color_a if sides[0] else color_b


def _line(canvas: np.ndarray, a, b, width: float, color, opacity: float = 1.0) -> None:
    """Blend a line with round ends (a dot if they coincide) into an image; (x, y) in pixels.

    The coverage of a pixel is computed from the distance of its center to the line.
    """
    outline = max(OUTLINE_FRACTION * width, 0.8)
    reach = width / 2 + outline + 1
    ends = np.array([a, b], np.float64)
    corner = canvas.shape[1], canvas.shape[0]
    left, top = np.clip(np.floor(ends.min(axis=0) - reach), 0, corner).astype(int)
    right, bottom = np.clip(np.ceil(ends.max(axis=0) + reach), 0, corner).astype(int)
    if left >= right or top >= bottom:
        return
    x = (np.arange(left, right) + 0.5 - ends[0, 0])[None, :]
    y = (np.arange(top, bottom) + 0.5 - ends[0, 1])[:, None]
    along = ends[1] - ends[0]
    fraction = np.clip((x * along[0] + y * along[1]) / max(along @ along, 1e-9), 0.0, 1.0)
    distance = np.hypot(x - fraction * along[0], y - fraction * along[1])
    region = canvas[top:bottom, left:right].astype(np.float32)
    for radius, paint, cover in ((width / 2 + outline, 0.0, 0.55), (width / 2, color, 1.0)):
        alpha = opacity * cover * np.clip(radius - distance + 0.5, 0.0, 1.0)[..., None]
        region += alpha * (np.asarray(paint, np.float32) - region)
    canvas[top:bottom, left:right] = np.rint(region)


def part_maps(
    heatmaps: np.ndarray,
    *,
    joints: Sequence[str],
    temperature: float = 1.0,
    size: int | None = None,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Draw the softmax of all part maps in one image, one hue per joint (Fig. 1b).

    Args:
      heatmaps: [H, W, J] raw maps.
      joints: J names; their colors are those of ``draw_skeleton``.
      temperature: temperature of the network's soft-argmax.
      size: height of the image in pixels; by default 8 pixels per cell, the size of the network's
        input.
      image: uint8 [S, S', 3], image that the maps cover, drawn beneath them; it determines the
        size.

    Returns:
      uint8 [S, S', 3] RGB. Each map is scaled to a maximum of 1. The opacity of a pixel is the
      largest map value there; its color averages the joints' colors, weighted by the squared
      values of their maps.
    """
    weights = _stretched(_relative_softmax(heatmaps, temperature), _shape(heatmaps, size, image))
    colors = joint_colors(joints).astype(np.float32) / 255
    # Weight by squares, so that the highest map determines the hue; a plain sum would be close to
    # white.
    mix = np.square(weights) / np.maximum(np.square(weights).sum(axis=-1, keepdims=True), 1e-9)
    shown = weights.max(axis=-1, keepdims=True)
    return _to_uint8((1 - shown) * _ground(weights.shape, image) + shown * (mix @ colors))


def heat_map(
    heatmap: np.ndarray,
    *,
    softmaxed: bool = True,
    temperature: float = 1.0,
    size: int | None = None,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Draw one map in colors from dark (lowest) to bright (highest), as in Figs. 5 and 6.

    Args:
      heatmap: [H, W], raw.
      softmaxed: draw the softmax of the map, from 0 to its highest cell; otherwise draw the raw
        map, from its lowest to its highest cell.
      temperature: temperature of the network's soft-argmax; unused for the raw map.
      size: as in ``part_maps``.
      image: uint8 [S, S', 3], as in ``part_maps``.

    Returns:
      uint8 [S, S', 3] RGB.
    """
    maps = np.asarray(heatmap, np.float64)[..., None]
    if softmaxed:
        maps = _relative_softmax(maps, temperature)
    else:
        low, high = maps.min(), maps.max()
        maps = (maps - low) / max(high - low, 1e-9)
    value = _stretched(maps, _shape(maps, size, image))[..., 0]
    steps = np.arange(len(HEAT)) / (len(HEAT) - 1)
    color = np.stack([np.interp(value, steps, HEAT[:, c]) for c in range(3)], axis=-1) / 255
    if image is None:
        return _to_uint8(color)
    shown = 0.85 * np.clip(value * 2, 0.0, 1.0)[..., None]  # the lower half fades out
    return _to_uint8((1 - shown) * _ground(value.shape, image) + shown * color)


def _relative_softmax(heatmaps: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of maps [H, W, M] over H and W, each scaled to a maximum of 1."""
    maps = np.moveaxis(np.asarray(heatmaps, np.float32), -1, 0)
    weights = np.asarray(spatial_softmax(maps, temperature=temperature))
    return np.moveaxis(weights / weights.max(axis=(1, 2), keepdims=True), 0, -1)


def single_maps(
    heatmaps: np.ndarray, *, joints: Sequence[str], temperature: float = 1.0, size: int
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Draw single part maps before and after the softmax (Fig. 5).

    Args:
      heatmaps: [H, W, J] raw maps.
      joints: J names. Only the joints of Fig. 5 are drawn, or all joints if the skeleton has none
        of them.
      temperature: temperature of the network's soft-argmax.
      size: height of an image in pixels.

    Returns:
      One tuple (name in words, raw map, its softmax) per joint; the maps are uint8 RGB images.
    """
    known = [index for index in joint_index(joints, JOINTS_OF_FIG_5).tolist() if index >= 0]
    return [
        (
            joints[index].replace("_", " "),
            heat_map(heatmaps[..., index], softmaxed=False, size=size),
            heat_map(heatmaps[..., index], temperature=temperature, size=size),
        )
        for index in known or range(len(joints))
    ]


def moved_most(
    image: np.ndarray,
    heatmaps: np.ndarray,
    keypoints: np.ndarray,
    *,
    joints: Sequence[str],
    channels: np.ndarray,
    num_joints: int,
    most: int,
    grid: Grid,
    temperature: float,
    window: int = 0,
) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Draw the joints that the context maps moved the furthest.

    Args:
      image: uint8 [S, S, 3], the crop.
      heatmaps: [H, W, M] raw maps of the network: part maps, then context maps grouped by joint.
      keypoints: [J, 2], (x, y) in [0, 1], the network's predictions for ``joints``.
      joints: J names.
      channels: int [J], the index of each of these joints among the network's ``num_joints``.
      num_joints: number of the network's joints.
      most: number of joints to draw.
      grid: grid of the network's soft-argmax.
      temperature: temperature of the network's soft-argmax.
      window: the network's ``window``.

    Returns:
      One tuple (name in words, images from ``context_images``) per joint; an empty list if the
      network has no context maps.
    """
    num_context_maps = heatmaps.shape[-1] // num_joints - 1
    if not num_context_maps:
        return []
    decoded = decode_maps(
        jnp.asarray(heatmaps),
        num_joints=num_joints,
        grid=grid,
        temperature=temperature,
        window=window,
    )
    part, context = np.asarray(decoded.part), np.asarray(decoded.context)
    probabilities = np.asarray(jax.nn.sigmoid(decoded.context_logits))
    moved = np.linalg.norm(keypoints - part[channels], axis=-1)
    found = []
    for index in np.argsort(-moved)[:most]:
        channel = channels[index]
        first = num_joints + channel * num_context_maps
        images = context_images(
            image,
            heatmaps[..., [channel, *range(first, first + num_context_maps)]],
            np.concatenate([part[channel, None], context[channel]]),
            probabilities[channel],
            keypoints[index],
            temperature=temperature,
        )
        found.append((joints[index].replace("_", " "), images))
    return found


def context_images(
    image: np.ndarray,
    heatmaps: np.ndarray,
    positions: np.ndarray,
    probabilities: np.ndarray,
    prediction: np.ndarray,
    *,
    temperature: float = 1.0,
) -> list[tuple[str, np.ndarray]]:
    """Draw one joint's part map, its context maps, and what they change (Fig. 6, eq. 6).

    Args:
      image: uint8 [S, S, 3], the crop.
      heatmaps: [H, W, 1 + C] raw maps of the joint: its part map, then its context maps.
      positions: [1 + C, 2], (x, y) in [0, 1], decoded from each map by the soft-argmax.
      probabilities: [C], probabilities of the context maps.
      prediction: [2], the aggregated position, (x, y) in [0, 1].
      temperature: temperature of the network's soft-argmax.

    Returns:
      (caption, uint8 [S, S, 3]) tuples: one for the part map, one for every context map, and one
      for the prediction. In the last image, a large blue dot marks the position of the part map,
      small yellow dots those of the context maps, and a red dot the prediction.
    """
    pixels = np.asarray(positions, np.float64) * (image.shape[1], image.shape[0])
    end = np.asarray(prediction, np.float64) * (image.shape[1], image.shape[0])
    width = max(max(image.shape[:2]) / 100, MIN_LINE_WIDTH)
    part, context, final = (90, 230, 255), (255, 225, 70), (255, 90, 120)
    captions = ["part map"]
    captions += [f"context map {i + 1}, p = {p:.2f}" for i, p in enumerate(probabilities)]
    found = []
    for index, caption in enumerate(captions):
        drawing = heat_map(heatmaps[..., index], temperature=temperature, image=image)
        _line(drawing, pixels[index], pixels[index], 3 * width, context if index else part)
        found.append((caption, drawing))
    drawing = np.array(image, np.uint8)
    for place, p in zip(pixels[1:], probabilities, strict=True):
        _line(drawing, place, pixels[0], 0.6 * width, context, opacity=0.3 + 0.4 * float(p))
        _line(drawing, place, place, 1.8 * width, context)
    _line(drawing, pixels[0], pixels[0], 3.6 * width, part)
    _line(drawing, pixels[0], end, width, final)
    _line(drawing, end, end, 2.4 * width, final)
    moved = np.hypot(*(end - pixels[0])) / max(image.shape[:2])
    return [*found, (f"moved by {100 * moved:.1f} % of the crop's side", drawing)]


def tile(
    images: Sequence[np.ndarray],
    columns: int,
    captions: Sequence[str] | None = None,
    *,
    gap: int = 8,
) -> np.ndarray:
    """Arrange images in rows of ``columns`` on white, each in the middle of its cell.

    Args:
      images: uint8 [H, W, 3] each, of any sizes.
      columns: number of cells in a row.
      captions: a short text for each image, drawn beneath it and clipped to the width of its cell.
      gap: width of the white space around cells, in pixels.

    Returns:
      uint8 [S, S', 3] RGB.
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    text = max(round(width / 16), 11) if captions else 0
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    step_x, step_y = width + gap, height + gap + 2 * text
    sheet = np.full((rows * step_y + gap, columns * step_x + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        y = gap + row * step_y + (height - image.shape[0]) // 2
        x = gap + column * step_x + (width - image.shape[1]) // 2
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
        if captions:
            top, left = gap + row * step_y + height, gap + column * step_x
            sheet[top : top + 2 * text, left : left + width] = _text(
                captions[index], (width, 2 * text), text
            )
    return sheet


def draw_number(image: np.ndarray, number: int, place: np.ndarray) -> np.ndarray:
    """Draw a person's number on an image, black on white.

    Args:
      image: uint8 [H, W, 3].
      number: the number.
      place: [2], (x, y), the person's highest joint in pixels; the label is drawn above it.

    Returns:
      uint8 [H, W, 3], a new image.
    """
    canvas = np.array(image, np.uint8)
    height = max(1, min(max(round(max(canvas.shape[:2]) / 40), 12), canvas.shape[0] // 2))
    label = _text(str(number), (round(0.7 * height * len(str(number))) + 4, 2 * height), height)
    label = label[height // 4 : height // 4 + round(1.25 * height)]
    rows, columns = (min(a, b) for a, b in zip(label.shape, canvas.shape[:2], strict=False))
    left = int(np.clip(place[0] - columns / 2, 0, canvas.shape[1] - columns))
    top = int(np.clip(place[1] - 1.6 * rows, 0, canvas.shape[0] - rows))
    canvas[top : top + rows, left : left + columns] = label[:rows, :columns]
    return canvas


def _text(line: str, size: tuple[int, int], height: int) -> np.ndarray:
    """Draw a line of text, black on white: uint8 [h, w, 3] for ``size`` (w, h)."""
    drawing = import_optional("PIL.ImageDraw", extra="predict")
    images = import_optional("PIL.Image", extra="predict")
    fonts = import_optional("PIL.ImageFont", extra="predict")
    label = images.new("RGB", size, "white")
    drawing.Draw(label).text((0, height // 4), line, fill="black", font=fonts.load_default(height))
    return np.asarray(label)


def _shape(maps: np.ndarray, size: int | None, image: np.ndarray | None) -> tuple[int, int]:
    """(height, width) of the image to draw for maps."""
    if image is not None:
        return image.shape[:2]
    rows, columns = maps.shape[:2]
    size = rows * STRIDE if size is None else size
    return size, round(size * columns / rows)


def _stretched(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate maps [H, W, M] in [0, 1] to [*shape, M]; their cells divide the image evenly."""
    cv2 = import_optional("cv2", extra="predict")
    stretched = [
        cv2.resize(
            np.ascontiguousarray(maps[..., index], np.float32),
            shape[::-1],
            interpolation=cv2.INTER_CUBIC,
        )
        for index in range(maps.shape[-1])
    ]
    return np.clip(np.stack(stretched, axis=-1), 0.0, 1.0)


def _ground(shape: tuple[int, ...], image: np.ndarray | None) -> np.ndarray:
    """Background of maps: float32 in [0, 1], the image gray and dimmed, or black without one."""
    if image is None:
        return np.zeros((*shape[:2], 3), np.float32)
    cv2 = import_optional("cv2", extra="predict")
    gray = cv2.cvtColor(np.asarray(image, np.float32), cv2.COLOR_RGB2GRAY) / 255
    return np.repeat(DIM_FACTOR * gray[..., None], 3, axis=-1)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
