"""A video of three persons cut out of photos: they move, one leaves, and another one enters.

    python -m tests.support.people_video PHOTOS FILE.mp4

PHOTOS is the folder `free_photos` of the shared data.
"""

import fractions
import math
import pathlib
import sys
from typing import NamedTuple

import cv2
import numpy as np

RATE = 25
FRAMES = 110
SIZE = (640, 360)


class Walker(NamedTuple):
    """One person.

    Attributes:
      photo: file name.
      box: (x, y, width, height) around the person in the photo.
      height: pixels in the video.
      start, end: x of the person's middle in the first and the last frame.
      ground: y of the feet.
    """

    photo: str
    box: tuple[int, int, int, int]
    height: int
    start: float
    end: float
    ground: float


WALKERS = {
    "stays": Walker("000000187362.jpg", (232, 145, 126, 240), 230, 250, 330, 340),
    "leaves": Walker("000000199055.jpg", (101, 1, 286, 618), 280, 470, 1000, 350),
    "enters": Walker("000000239537.jpg", (238, 1, 308, 418), 260, -420, 150, 350),
}


class VideoFrame(NamedTuple):
    """One frame.

    Attributes:
      image: uint8 [H, W, 3] RGB.
      boxes: by person, float64 [4] (x, y, width, height), which may reach outside of the image.
    """

    image: np.ndarray
    boxes: dict[str, np.ndarray]


def people_video(photos: pathlib.Path) -> list[VideoFrame]:
    """The frames of the video.

    Args:
      photos: folder of the photos.
    """
    cutouts = {name: _cutout(photos, walker) for name, walker in WALKERS.items()}
    ground = cv2.imread(str(photos / "000000261732.jpg"))[300:, :, ::-1]  # a court without lines
    ground = cv2.GaussianBlur(cv2.resize(ground, SIZE), (0, 0), 3)
    frames = []
    for number in range(FRAMES):
        image, boxes = ground.astype(np.float32), {}
        for place, (name, walker) in enumerate(WALKERS.items()):
            matrix, box = _placed(walker, cutouts[name].shape, number, phase=place)
            moved = cv2.warpAffine(cutouts[name], matrix, SIZE, flags=cv2.INTER_AREA)
            alpha = moved[..., 3:] / 255
            image = image * (1 - alpha) + moved[..., :3] * alpha
            boxes[name] = box
        frames.append(VideoFrame(np.rint(image).astype(np.uint8), boxes))
    return frames


def _cutout(photos: pathlib.Path, walker: Walker) -> np.ndarray:
    """The person as float32 [H, W, 4], RGB and opacity, at the size of the video."""
    photo = cv2.imread(str(photos / walker.photo))
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.setRNGSeed(0)
    cv2.grabCut(photo, mask, walker.box, None, None, 6, cv2.GC_INIT_WITH_RECT)
    opacity = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    opacity = 255 * cv2.GaussianBlur(opacity, (0, 0), 1.0)
    x, y, width, height = walker.box
    both = np.dstack([photo[..., ::-1], opacity])[y : y + height, x : x + width]
    scale = walker.height / height
    return cv2.resize(both, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _placed(
    walker: Walker, shape: tuple[int, ...], number: int, *, phase: float
) -> tuple[np.ndarray, np.ndarray]:
    """Affine map [2, 3] of a cutout into a frame, and its box there."""
    height, width = shape[:2]
    seconds = number / RATE
    x = walker.start + (walker.end - walker.start) * number / (FRAMES - 1)
    y = walker.ground - 4 * abs(math.sin(5 * seconds + phase))
    size = 1 + 0.06 * math.sin(1.5 * seconds + phase)
    matrix = cv2.getRotationMatrix2D((width / 2, height), 3 * math.sin(3 * seconds + phase), size)
    matrix[:, 2] += (x - width / 2, y - height)
    box = np.array([x - size * width / 2, y - size * height, size * width, size * height])
    return matrix, box


def main(arguments: list[str]) -> None:
    """Write the video."""
    from jaxpose.predict.video import VideoWriter

    photos, file = map(pathlib.Path, arguments)
    rate = fractions.Fraction(RATE)
    with VideoWriter(file, rate=rate, time_base=1 / rate) as writer:
        for number, frame in enumerate(people_video(photos)):
            writer.write(frame.image, number / rate)


if __name__ == "__main__":
    main(sys.argv[1:])
