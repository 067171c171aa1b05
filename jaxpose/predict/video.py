"""Videos frame by frame through PyAV, and written again as H.264, which every browser plays."""

import contextlib
import fractions
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional

DEFAULT_RATE = fractions.Fraction(25)  # of a video that does not tell
MOST_PIXELS = 64_000_000  # of a frame; 8K has 33 million
# x264's: constant rate factor (smaller is better and larger), and time for size.
ENCODING = {"crf": "20", "preset": "veryfast"}
SOUND = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac")  # what an mp4 takes as it is
# FFmpeg draws texts as pictures, and fetches what lists of other files name.
NO_VIDEOS = frozenset(("tty", "hls", "dash", "concat", "imf", "sdp"))
BT709, LIMITED = 1, 1  # FFmpeg's numbers of the colours that browsers expect


class Frame(NamedTuple):
    """One frame, upright.

    Attributes:
      image: uint8 [H, W, 3] RGB.
      time: seconds from the start of the video, exact.
    """

    image: np.ndarray
    time: fractions.Fraction


class VideoReader:
    """A video that is read once, from its first frame to its last; a context manager.

    Attributes:
      rate: frames a second, on average.
      time_base: seconds that one tick of the frames' times lasts.
      count: number of frames by the file's word or its duration, None if it has neither.
      sound: a stream of sound that can be copied, or None.
      damaged: parts that could not be decoded so far.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens a file.

        Raises:
          JaxposeError: it is missing, or no video that PyAV reads.
        """
        self._av = import_optional("av", extra="predict")
        self._path = pathlib.Path(path)
        if not self._path.is_file():
            raise JaxposeError(f"no file {path}; give a picture or a video")
        with _as_ours(self._av, f"{path} can be read neither as a picture nor as a video"):
            # With "file:" a name that looks like an address of a network is a name all the same.
            try:
                self._container = self._av.open(f"file:{path}")
            except UnicodeDecodeError:  # a title in another encoding, which PyAV 19 does not mind
                self._container = self._av.open(f"file:{path}", metadata_errors="ignore")
        wrong = None
        if self._container.format.name in NO_VIDEOS:
            wrong = f"{path} can be read neither as a picture nor as a video (it is a text)"
        elif not self._container.streams.video:
            wrong = f"{path} has no picture in it; give a picture or a video"
        if wrong:
            self._container.close()
            raise JaxposeError(wrong)
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_RATE
        self.time_base = self._stream.time_base or 1 / self.rate
        self.count = self._stream.frames or self._count_by_duration()
        sounds = self._container.streams.audio
        self.sound = next((s for s in sounds if s.codec_context.name in SOUND), None)
        self.damaged = 0

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_) -> None:
        self._container.close()

    def _count_by_duration(self) -> int | None:
        if self._stream.duration:
            seconds = self._stream.duration * self.time_base
        elif self._container.duration:
            seconds = fractions.Fraction(self._container.duration, self._av.time_base)
        else:
            return None
        return max(round(seconds * self.rate), 1)

    def frames(self, writer: "VideoWriter | None" = None) -> Iterator[Frame]:
        """Every frame in the order in which it is shown; parts that are damaged are left out.

        Args:
          writer: gets the sound, if it was opened for it.

        Raises:
          JaxposeError: no frame can be decoded, or the file cannot be read to its end.
        """
        streams = [self._stream]
        if writer is not None and self.sound is not None:
            streams.append(self.sound)
        start = (self._stream.start_time or 0) * self.time_base
        number = 0
        with _as_ours(self._av, f"{self._path} cannot be read to its end"):
            for packet in self._container.demux(streams):
                if packet.stream is self.sound:
                    writer.copy_sound(packet, start)
                    continue
                for frame in self._decode(packet):
                    time = number / self.rate
                    if frame.pts is not None:
                        time = frame.pts * (frame.time_base or self.time_base) - start
                    yield Frame(self._upright(frame), fractions.Fraction(time))
                    number += 1
        if number == 0:
            raise JaxposeError(f"{self._path} has no frame that can be decoded")

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return packet.decode()
        except self._av.error.InvalidDataError:
            self.damaged += 1
            return []

    def _upright(self, frame: Any) -> np.ndarray:
        if frame.width * frame.height > MOST_PIXELS:
            raise JaxposeError(
                f"{self._path} has frames of {frame.width}x{frame.height}, more than "
                f"{MOST_PIXELS} pixels; reduce it first"
            )
        image = frame.to_ndarray(format="rgb24")
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class VideoWriter:
    """An mp4 with H.264 in yuv420p, whole and closed when its context is left.

    It appears under its name only then. Where an error leaves the context nothing appears; Ctrl-C
    leaves what was written so far.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        rate: fractions.Fraction,
        time_base: fractions.Fraction,
        sound: Any = None,
    ):
        """Opens a file for writing.

        Args:
          path: ends in .mp4.
          rate: frames a second, on average.
          time_base: seconds; times are multiples of it.
          sound: `VideoReader.sound`, if it is to be copied.
        """
        self._av = import_optional("av", extra="predict")
        self._path = pathlib.Path(path)
        self._part = self._path.with_name(f".{self._path.stem}.part.mp4")
        self._rate, self._time_base = rate, time_base
        with _as_ours(self._av, f"{path} cannot be written"):
            # The index comes first in the file, so that a browser plays while it loads.
            self._container = self._av.open(
                f"file:{self._part}", "w", format="mp4", options={"movflags": "faststart"}
            )
        self._sound = self._sound_from = None
        if sound is not None:
            self._sound_from = sound
            self._sound = self._container.add_stream_from_template(sound)
        self._stream = None
        self._waiting = []  # sound that came before the first frame
        self._last = -1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            kept = kind is None or issubclass(kind, KeyboardInterrupt)
            with _as_ours(self._av, f"{self._path} cannot be written"):
                if kept and self._stream is not None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            if kept and self._stream is not None:
                os.replace(self._part, self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def write(self, image: np.ndarray, time: fractions.Fraction) -> None:
        """Append a frame.

        Args:
          image: uint8 [H, W, 3], of the same size as all others; of an odd height or width the
            last line or column is written twice, since H.264 wants even ones.
          time: seconds from the start; later than the frame before.

        Raises:
          JaxposeError: the file cannot be written.
        """
        odd = [(0, length % 2) for length in image.shape[:2]]
        if any(after for _, after in odd):
            image = np.pad(image, [*odd, (0, 0)], mode="edge")
        with _as_ours(self._av, f"{self._path} cannot be written"):
            if self._stream is None:
                self._open_stream(*image.shape[1::-1])
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(
                self._stream.width, self._stream.height, "yuv420p", dst_colorspace="ITU709"
            )
            self._last = max(round(time / self._time_base), self._last + 1)
            frame.pts, frame.time_base = self._last, self._time_base
            self._container.mux(self._stream.encode(frame))

    def _open_stream(self, width: int, height: int) -> None:
        stream = self._container.add_stream("libx264", rate=self._rate, options=ENCODING)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        self._stream = stream
        for packet in self._waiting:
            self._container.mux(packet)
        self._waiting.clear()

    def copy_sound(self, packet: Any, start: fractions.Fraction) -> None:
        """Append a packet of the sound as it is, `start` seconds earlier."""
        if packet.dts is None or self._sound is None:
            return
        shift = round(start / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = self._sound
        if self._stream is None:
            self._waiting.append(packet)
            return
        with _as_ours(self._av, f"{self._path} cannot be written"):
            self._container.mux(packet)


@contextlib.contextmanager
def _as_ours(av: Any, what: str):
    """FFmpeg's errors as ours."""
    try:
        yield
    except av.FFmpegError as error:
        raise JaxposeError(f"{what} ({error.strerror or error})") from error
