"""A camera as an endless video, and a window to watch it in if there is a display."""

import fractions
import time
from collections.abc import Iterator

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.predict.video import Frame

_SILENT = 0  # OpenCV's level of logging


class Camera:
    """Frames of a camera, with the interface of ``VideoReader``; a context manager.

    Attributes:
      rate, time_base, count, sound, lost_sound, damaged: as in ``VideoReader``.
    """

    rate = fractions.Fraction(15)
    time_base = fractions.Fraction(1, 1000)
    count = None
    sound = None
    lost_sound = ""
    damaged = 0

    def __init__(self, number: int):
        """Open a camera by its number, from 0.

        Raises:
          JaxposeError: the camera cannot be opened.
        """
        cv2 = import_optional("cv2", extra="predict")
        # OpenCV 4 has the function in cv2, OpenCV 5 only in cv2.utils.logging.
        set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        level = set_log_level(_SILENT)  # our error message replaces OpenCV's output
        self._camera = cv2.VideoCapture(number)
        set_log_level(level)
        self._number = number
        if not self._camera.isOpened():
            raise JaxposeError(f"camera {number} cannot be opened; try another --webcam=NUMBER")

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_) -> None:
        self._camera.release()

    def frames(self, writer=None) -> Iterator[Frame]:
        """Yield the latest frame each time the previous one is processed, until the camera ends."""
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
            raise JaxposeError(
                f"camera {self._number} delivers no images; try another --webcam=NUMBER"
            )


class Window:
    """A window that shows images; without a display it shows nothing and counts as open."""

    def __init__(self, title: str):
        """Open the window, if there is a display."""
        self.open = True
        self._root = None
        try:
            import tkinter
        except ImportError:  # on Debian, tkinter is a separate package
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
        """Show an image uint8 [H, W, 3]."""
        if self._root is None:
            return
        shown = self._image_tk.PhotoImage(self._images.fromarray(image), master=self._root)
        self._label.configure(image=shown)
        self._shown = shown  # keep a reference: Tk does not
        self._root.update()

    def close(self) -> None:
        """Close the window."""
        self.open = False
        if self._root is not None:
            self._root.destroy()
            self._root = None
