"""What people wear and look like: textures for every part of a body.

Textures wrap around a part. Rows run down: from the head to the feet, from the shoulder to the
hand. Columns run around it: the middle one is on the front, the one at three quarters on the
person's left. A shirt's front differs from its back. The shirt, the face and the shoes show whether
a person is seen from the front or from behind, and so which side is left.
"""

from typing import NamedTuple

import numpy as np

from tfds_builders.synthetic_people import canvas
from tfds_builders.synthetic_people.chance import pick, pick_weighted

_LIMB = (20, 24)  # texels along and around
_TRUNK = (44, 64)
_HEAD = (28, 48)

_FABRICS = {
    "plain": 0.44, "hoops": 0.13, "stripes": 0.09, "checks": 0.10, "dots": 0.06, "blotches": 0.09,
    "fading": 0.09,
}  # fmt: skip
_FRONTS = ("logo", "zip", "open", "text", "collar", "panel", "number")
_BOLD_FRONTS = ("logo", "open", "panel", "number")
_BACKS = {"nothing": 0.45, "number": 0.30, "yoke": 0.15, "seam": 0.10}
_HAIR_STYLES = {
    "short": 0.38, "long": 0.22, "tail": 0.11, "bun": 0.06, "bald": 0.08, "cap": 0.15,
}  # fmt: skip
_SLEEVES = {
    0.0: 0.14,
    0.5: 0.40,
    1.0: 0.06,
    2.0: 0.40,
}  # length (0: none, 1: to the elbow, 2: to the wrist) and weight
_LEG_WEAR = {"long": 0.52, "short": 0.26, "skirt": 0.14, "bare": 0.08}

_SKIN = np.array(
    [
        (241, 206, 180), (232, 190, 158), (214, 165, 126),
        (188, 135, 96), (141, 93, 62), (98, 64, 45),
    ],
    np.float32,
)  # fmt: skip
_HAIR = np.array(
    [
        (28, 24, 22), (58, 40, 28), (104, 70, 42),
        (182, 142, 84), (128, 54, 30), (150, 148, 146),
    ],
    np.float32,
)  # fmt: skip


class Outfit(NamedTuple):
    """Textures, float32 RGB in 0..255, and the shapes that go with them."""

    trunk: np.ndarray  # neck base to crotch
    head: np.ndarray  # top to chin
    upper_arms: tuple[np.ndarray, np.ndarray]  # right, left
    forearms: tuple[np.ndarray, np.ndarray]
    thighs: tuple[np.ndarray, np.ndarray]
    shins: tuple[np.ndarray, np.ndarray]
    neck: np.ndarray
    hands: np.ndarray
    shoes: np.ndarray
    skin: np.ndarray
    hair: np.ndarray | None  # texture of hair that hangs or stands; None: none
    hair_style: str  # "short" | "long" | "tail" | "bun" | "bald" | "cap"
    brim: np.ndarray | None  # of a cap
    skirt: np.ndarray | None
    skirt_length: float  # fraction of the thigh; more than 1: below the knee
    backpack: np.ndarray | None
    loose_arms: float  # how much wider than the limb the clothes are
    loose_legs: float


def random_color(rng: np.random.Generator, low: float = 20, high: float = 245) -> np.ndarray:
    """Draw a color, float32 [3], gray as often as in clothes and rooms."""
    color = rng.uniform(low, high, 3).tolist()
    gray = sum(color) / 3
    vividness = pick(rng, (0.2, 0.6, 1.2))
    return np.array(
        [min(max(gray + (value - gray) * vividness, 8), 250) for value in color], np.float32
    )


def _contrasting(rng: np.random.Generator, color: np.ndarray) -> np.ndarray:
    other = random_color(rng)
    brightness = sum(color.tolist()) / 3
    if abs(sum(other.tolist()) / 3 - brightness) < 60:
        other = other * np.float32(0.3) if brightness > 128 else 255 - np.float32(0.3) * other
    return other


def fabric(rng: np.random.Generator, shape: tuple[int, int], around: float = 1.0) -> np.ndarray:
    """Make a texture [rows, columns, 3]: plain, striped, checked, dotted, blotched or fading.

    ``around`` is how often a pattern repeats across the columns, relative to a trunk.
    """
    rows, columns = shape
    base = random_color(rng)
    kind = pick_weighted(rng, _FABRICS)
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, columns, endpoint=False, dtype=np.float32)[None]
    count = float(rng.integers(3, 9))
    turns = max(2.0, round(1.5 * count * around))
    if kind == "plain":
        weight = np.zeros(shape, np.float32)
    elif kind == "hoops":
        weight = np.broadcast_to(((y * count) % 1 < rng.uniform(0.2, 0.6)), shape)
    elif kind == "stripes":
        weight = np.broadcast_to(((x * turns) % 1 < rng.uniform(0.2, 0.6)), shape)
    elif kind == "checks":
        weight = 0.5 * ((y * count) % 1 < 0.5) + 0.5 * ((x * turns) % 1 < 0.5)
    elif kind == "dots":
        weight = ((y * count) % 1 - 0.5) ** 2 + ((x * turns) % 1 - 0.5) ** 2 < 0.09
    elif kind == "blotches":
        noise = canvas.smooth_noise(rng, int(rng.integers(4, 9)), max(shape))[:rows, :columns, 0]
        weight = np.clip(noise * 2, 0, 1)
    else:
        weight = np.broadcast_to(y, shape)
    weight = np.asarray(weight, np.float32)[..., None]
    return base + weight * (_contrasting(rng, base) - base)


def _creased(rng: np.random.Generator, texture: np.ndarray, strength: float) -> np.ndarray:
    """Add darker and lighter folds."""
    rows, columns = texture.shape[:2]
    folds = canvas.smooth_noise(rng, 7, max(rows, columns))[:rows, :columns]
    return texture * (1 + strength * np.clip(folds, -1.6, 1.6))


def plain(color: np.ndarray) -> np.ndarray:
    """Make a texture [1, 1, 3] of one color."""
    return np.asarray(color, np.float32).reshape(1, 1, 3)


def _sleeved(
    rng: np.random.Generator, cloth: np.ndarray, skin: np.ndarray, length: float
) -> np.ndarray:
    """Make cloth down to the fraction ``length`` of the limb, and skin below; some have a hem."""
    texture = cloth.copy()
    end = int(np.clip(length, 0, 1) * len(texture))
    texture[end:] = skin
    if 0 < end < len(texture) and rng.random() < 0.6:
        texture[end - 1] *= 0.75
    return texture


def _trunk(
    rng: np.random.Generator, top: np.ndarray, bottom: np.ndarray, skin: np.ndarray, bold: bool
) -> np.ndarray:
    """Make shirt, collar, front and back prints, belt, and the upper end of the trousers.

    A bold shirt has something large on its front and nothing on its back.
    """
    rows, columns = _TRUNK
    texture = top.copy()
    mark = _contrasting(rng, texture[rows // 3].mean(0))
    middle = columns // 2
    front = pick(rng, _BOLD_FRONTS if bold else _FRONTS)
    if front == "logo":
        half = 9 if bold else 5
        place = (middle + int(rng.integers(-5, 6)) * (not bold), 16)
        canvas.draw_ellipse(texture, place, (half, half), tuple(mark.tolist()))
    elif front == "zip":
        texture[:, middle - 1 : middle + 1] = mark
        texture[::5, middle - 2 : middle + 2] = mark * 0.6
    elif front == "open":
        half = int(rng.integers(7, 11)) if bold else int(rng.integers(3, 8))
        texture[:, middle - half : middle + half] = mark
    elif front == "text":
        for line in range(12, 12 + 4 * int(rng.integers(1, 4)), 4):
            texture[line : line + 2, middle - 9 : middle + 9 : 2] = mark
    elif front == "panel":
        texture[8:26, middle - 12 : middle + 12] = mark
    elif front == "number":
        if bold:
            texture[6:30, middle - 12 : middle + 12] = mark
        _number(rng, texture, middle, _contrasting(rng, mark) if bold else mark, 0.55)
    if bold or front in ("collar", "open", "zip") or rng.random() < 0.5:
        for row in range(int(rng.integers(4, 9))):  # a neckline shows skin in front
            half = max(1, 6 - row)
            texture[row, middle - half : middle + half] = skin
    back = "nothing" if bold else pick_weighted(rng, _BACKS)
    behind = np.roll(texture, middle, axis=1)  # a copy whose middle is the back
    if back == "number":
        _number(rng, behind, middle, mark, 0.8)
    elif back == "yoke":
        behind[2:10, middle - 16 : middle + 16] = mark
    elif back == "seam":
        behind[:, middle - 1 : middle] *= 0.6
    texture = np.roll(behind, -middle, axis=1)
    waist = int(rows * rng.uniform(0.74, 0.90))
    texture[waist:] = bottom[waist:]
    if rng.random() < 0.5:
        texture[waist - 1 : waist + 1] = random_color(rng, 10, 120)
        if rng.random() < 0.6:
            texture[waist - 1 : waist + 1, middle - 2 : middle + 2] = 215
    return texture


def _number(
    rng: np.random.Generator, texture: np.ndarray, middle: int, color: np.ndarray, scale: float
) -> None:
    """Make a shirt's number, readable from outside, since columns run to the person's left."""
    text = str(rng.integers(1, 99))
    corner = (13 - int(9.5 * scale * len(text)), 19)
    ink = canvas.text_mask((24, 26), text, corner, scale)[..., None]
    board = texture[6:30, middle - 13 : middle + 13]
    board += ink * (color - board)


def _head(
    rng: np.random.Generator, skin: np.ndarray, hair: np.ndarray, style: str, cap: np.ndarray | None
) -> np.ndarray:
    """Make a face in front, hair or a cap on top and behind."""
    rows, columns = _HEAD
    texture = np.broadcast_to(skin, (rows, columns, 3)).astype(np.float32)
    texture = np.ascontiguousarray(
        texture * np.linspace(1.04, 0.92, rows, dtype=np.float32)[:, None, None]
    )
    middle = columns // 2
    dark = tuple((hair * 0.8).tolist())
    for side in (-1, 1):  # eyes some 25 degrees off the middle
        x = middle + side * 3
        canvas.draw_ellipse(texture, (x, 13), (1, 1), (238, 238, 235))
        texture[12:15, x - (side > 0) : x + (side < 0) + 1] = (45, 35, 30)
        texture[10, x - 2 : x + 2] = dark
    texture[15:18, middle - 1 : middle + 1] *= 0.84
    texture[20:22, middle - 3 : middle + 3] = skin * (0.75, 0.5, 0.5)
    if rng.random() < 0.15:  # a beard
        texture[19:, middle - 8 : middle + 8] = hair
        texture[20:21, middle - 2 : middle + 2] = skin * (0.8, 0.55, 0.55)
    if rng.random() < 0.12:  # sun glasses
        texture[11:15, middle - 6 : middle + 6] = (30, 30, 34)
    around = np.abs(np.arange(columns) - middle) / (columns / 2)  # 0 in front, 1 behind
    if style == "bald":
        line = np.where(around > 0.5, 12, 0) if rng.random() < 0.5 else np.zeros(columns)
        bottom = np.where(around > 0.5, 19, 0)
    else:
        line = np.zeros(columns)
        front = int(rng.integers(5, 10))
        low = rows if style == "long" else int(rng.integers(20, 25))
        bottom = np.interp(around, (0, 0.24, 0.34, 0.46, 1), (front, front + 1, 15, low - 4, low))
    row = np.arange(rows)[:, None]
    hairy = (row >= line) & (row < bottom)
    texture[hairy] = hair
    strands = 1 + 0.13 * rng.standard_normal(columns).astype(np.float32)
    texture = np.where(hairy[..., None], texture * strands[None, :, None], texture)
    if cap is not None:
        edge = np.where(around < 0.3, 9, 11)
        texture = np.where((row < edge)[..., None], cap, texture)
    return texture


def sample_outfit(rng: np.random.Generator, *, bold_fronts: float = 0.0) -> Outfit:
    """Dress one person.

    ``bold_fronts`` is the fraction of people whose front and back differ at a glance: the shirt has
    something large in front, the hair's color is not the skin's, shoes have light toes.
    """
    bold = rng.random() < bold_fronts
    skin = _SKIN[rng.integers(len(_SKIN))] * np.float32(rng.uniform(0.92, 1.06))
    hair = _HAIR[rng.integers(len(_HAIR))] * np.float32(rng.uniform(0.8, 1.15))
    style = pick_weighted(rng, _HAIR_STYLES)
    if bold:
        style = "short" if style == "bald" else style
        if abs(sum((hair - skin).tolist())) < 200:
            hair = _HAIR[0] if sum(skin.tolist()) > 350 else _HAIR[3]
    top = _creased(rng, fabric(rng, _TRUNK), 0.07)
    one_piece = rng.random() < 0.12
    bottom = top if one_piece else _creased(rng, fabric(rng, _TRUNK), 0.06)
    sleeve = pick_weighted(rng, _SLEEVES)
    sleeve += 0.12 * float(rng.normal()) * (0 < sleeve < 1)
    legs = pick_weighted(rng, _LEG_WEAR)

    # cut from the trunk's cloth, so that the pattern has the same size
    arm_cloth = (top[:20, :24], top[14:34, 24:48])
    leg_cloth = (bottom[24:44, :24], bottom[16:36, 24:48])
    if rng.random() < 0.2:  # sleeves of another color
        arm_cloth = (np.broadcast_to(random_color(rng), (*_LIMB, 3)).astype(np.float32),) * 2
    upper_arm = _sleeved(rng, arm_cloth[0], skin, sleeve)
    forearm = _sleeved(rng, arm_cloth[1], skin, sleeve - 1)
    if legs == "long":
        thigh_length = shin_length = 2.0
    elif legs == "short":
        thigh_length, shin_length = rng.uniform(0.45, 1.05), 0.0
    else:
        thigh_length, shin_length = 0.12, 0.0
    thigh = _sleeved(rng, leg_cloth[0], skin, thigh_length)
    shin = _sleeved(rng, leg_cloth[1], skin, shin_length)
    if legs in ("skirt", "bare") and rng.random() < 0.35:  # tights
        tights = random_color(rng, 10, 140)
        thigh[3:], shin[:] = tights, tights
    sock = rng.random()
    if legs != "long" and sock < 0.65:
        shin[int(20 * (0.45 if sock < 0.2 else 0.82)) :] = random_color(rng, 60, 250)
    thighs, shins = [thigh, thigh.copy()], [shin, shin.copy()]
    if legs in ("long", "short") and rng.random() < 0.18:  # a stripe down the outer side
        stripe = _contrasting(rng, thigh[5].mean(0))
        for limb, length in ((thighs, thigh_length), (shins, shin_length)):
            end = int(20 * min(length, 1.0))
            limb[0][:end, 5:7] = stripe  # right leg: a quarter of the way round
            limb[1][:end, 17:19] = stripe
    shoe = np.empty((12, 24, 3), np.float32)
    shoe[:] = random_color(rng)
    shoe[9:] = pick(rng, (235, 40, 200))
    if bold:
        shoe[:, :6], shoe[:, 18:], shoe[:, 8:16] = 25, 25, 240  # heel, heel, toes
    cap = random_color(rng) if style == "cap" else None
    hair_texture = None
    if style in ("long", "tail", "bun"):
        hair_texture = hair * (1 + 0.12 * rng.standard_normal((8, 24, 1)).astype(np.float32))
    gloves = rng.random() < 0.06
    skirt = None
    if legs == "skirt":
        skirt = bottom[:32] if rng.random() < 0.5 else _creased(rng, fabric(rng, (32, 64)), 0.08)
    has_pack = rng.random() < 0.07
    return Outfit(
        trunk=_trunk(rng, top, bottom, skin, bold),
        head=_head(rng, skin, hair, style, cap),
        upper_arms=(upper_arm, upper_arm),
        forearms=(forearm, forearm),
        thighs=tuple(thighs),
        shins=tuple(shins),
        neck=plain(skin * 0.93),
        hands=plain(random_color(rng) if gloves else skin),
        shoes=shoe,
        skin=skin,
        hair=hair_texture,
        hair_style=style,
        brim=None if cap is None else plain(cap * 0.85),
        skirt=skirt,
        skirt_length=float(rng.uniform(0.45, 1.5)),
        backpack=fabric(rng, (16, 24)) if has_pack else None,
        loose_arms=1.0 if sleeve < 0.3 else float(rng.uniform(1.0, 1.28)),
        loose_legs=1.0 if legs in ("skirt", "bare") else float(rng.uniform(1.0, 1.25)),
    )
