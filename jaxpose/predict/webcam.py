"""A camera as a video that has no end, and a window to see it in where there is a display."""

import fractions
import time
from collections.abc import Iterator

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.predict.video import Frame

_SILENT = 0  # OpenCV's level of logging


class Camera:
    """Frames of a camera, as `video.VideoReader` has them; a context manager.

    Attributes:
      rate, time_base, count, sound, lost_sound, damaged: as `video.VideoReader` has them.
    """

    rate = fractions.Fraction(15)
    time_base = fractions.Fraction(1, 1000)
    count = None
    sound = None
    lost_sound = ""
    damaged = 0

    def __init__(self, number: int):
        """Open the camera of that number, from 0.

        Raises:
          JaxposeError: there is none, or it gives no image.
        """
        cv2 = import_optional("cv2", extra="predict")
        # OpenCV 4 has it in cv2 itself, OpenCV 5 does not.
        set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        level = set_log_level(_SILENT)  # what it would print stands in our error
        self._camera = cv2.VideoCapture(number)
        set_log_level(level)
        self._number = number
        if not self._camera.isOpened():
            raise JaxposeError(f"no camera {number} can be opened; give another --webcam=NUMBER")

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_) -> None:
        self._camera.release()

    def frames(self, writer=None) -> Iterator[Frame]:
        """What the camera sees when the last frame is dealt with, as long as it sees something."""
        start = time.monotonic()
        number = 0
        while True:
            there, image = self._camera.read()
            if not there:
                break
            passed = fractions.Fraction(round(1000 * (time.monotonic() - start)), 1000)
            yield Frame(np.ascontiguousarray(image[..., ::-1]), passed)
            number += 1
        if number == 0:
            raise JaxposeError(f"camera {self._number} gives no image")


class Window:
    """A window that shows images; without a display it shows nothing and stays open."""

    def __init__(self, title: str):
        """Open it, where there is a display."""
        self.open = True
        self._root = None
        try:
            import tkinter
        except ImportError:  # Debian packs it apart
            return
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError:  # no display
            return
        self._image_tk = import_optional("PIL.ImageTk", extra="predict")
        self._images = import_optional("PIL.Image", extra="predict")
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda _: self.close())

    def show(self, image: np.ndarray) -> None:
        """Show uint8 [H, W, 3]."""
        if self._root is None:
            return
        shown = self._image_tk.PhotoImage(self._images.fromarray(image), master=self._root)
        self._label.configure(image=shown)
        self._shown = shown  # Tk forgets what nobody holds
        self._root.update()

    def close(self) -> None:
        """Close it."""
        self.open = False
        if self._root is not None:
            self._root.destroy()
            self._root = None
