"""Read videos frame by frame with PyAV, and write them as H.264, which every browser plays.

Frames are converted to what a player shows: rotated and flipped by the display matrix, with square
pixels, and all in the size of the first frame.
"""

import contextlib
import fractions
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.storage import temporary_path

DEFAULT_RATE = fractions.Fraction(25)  # for videos without a frame rate
MAX_PIXELS = 64_000_000  # of a frame; 8K has 33 million
# x264: constant rate factor (lower is better quality and a larger file), and speed preset.
ENCODING = {"crf": "20", "preset": "veryfast"}
SOUND = ("aac", "ac3", "eac3", "opus", "alac", "flac")  # codecs copied into an mp4
# Other sound is re-encoded as AAC, with one of these rates.
SOUND_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
SOUND_BITS = 128_000  # per second
SQUARE_PIXEL_TOLERANCE = 0.01  # deviation of the pixel aspect from 1 that is ignored
MAX_PIXEL_ASPECT = 8  # larger values are treated as errors in the file
RESTART_SECONDS = 1  # timestamps that go back by more than this have restarted
# FFmpeg would render text as images, or read other files named in a playlist.
NON_VIDEO_FORMATS = frozenset(("tty", "hls", "dash", "concat", "imf", "sdp"))
BT709, LIMITED = 1, 1  # FFmpeg's codes of the color space that browsers expect


class Frame(NamedTuple):
    """One frame, upright, with square pixels.

    Attributes:
      image: uint8 [H, W, 3] RGB.
      time: seconds from the start of the video, as an exact fraction.
    """

    image: np.ndarray
    time: fractions.Fraction


class VideoReader:
    """A video that is read once, from the first to the last frame; a context manager.

    Attributes:
      rate: average frame rate, in Hz.
      time_base: unit of the frames' times, in seconds.
      count: number of frames according to the file, or estimated from its duration; None if
        unknown.
      sound: the audio stream, for a ``VideoWriter``, or None.
      lost_sound: why the sound cannot be copied, or empty.
      damaged: number of corrupt parts so far.
    """

    def __init__(self, path: str | os.PathLike):
        """Open a file.

        Raises:
          JaxposeError: the file is missing, or is not a video that PyAV reads.
        """
        self._av = import_optional("av", extra="predict")
        self._path = pathlib.Path(path)
        if not self._path.is_file():
            raise JaxposeError(f"no file {path}; give an image or a video")
        with _as_ours(self._av, f"{path} can be read neither as an image nor as a video"):
            # "file:" makes FFmpeg treat names that look like URLs as file names.
            try:
                self._container = self._av.open(f"file:{path}")
            except UnicodeDecodeError:  # a title in another encoding; PyAV 19 ignores it
                self._container = self._av.open(f"file:{path}", metadata_errors="ignore")
        wrong = None
        if self._container.format.name in NON_VIDEO_FORMATS:
            wrong = f"{path} can be read neither as an image nor as a video (it is a text file)"
        elif (stream := self._find_video()) is None:
            wrong = f"{path} contains no video stream; give an image or a video"
        if wrong:
            self._container.close()
            raise JaxposeError(wrong)
        self._stream = stream
        self._stream.thread_type = "AUTO"
        self.rate = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_RATE
        self.time_base = self._stream.time_base or 1 / self.rate
        self.count = self._stream.frames or self._count_by_duration()
        sounds = self._container.streams.audio
        known = [sound for sound in sounds if sound.codec_context is not None]
        known.sort(key=lambda sound: sound.codec_context.name not in SOUND)
        self.sound = known[0] if known else None
        self.lost_sound = "its codec is unknown" if sounds and not known else ""
        self.damaged = 0
        self._size: Any = None  # (width, height) of the first frame, upright

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_) -> None:
        self._container.close()

    def _find_video(self) -> Any:
        """Return FFmpeg's choice among the video streams, cover images excluded, or None."""
        av_stream = import_optional("av.stream", extra="predict")
        cover = av_stream.Disposition.attached_pic | av_stream.Disposition.timed_thumbnails
        videos = [s for s in self._container.streams.video if not s.disposition & cover]
        best = self._container.streams.best("video")
        return best if best in videos else next(iter(videos), None)

    def _count_by_duration(self) -> int | None:
        if self._stream.duration:
            seconds = self._stream.duration * self.time_base
        elif self._container.duration:
            seconds = fractions.Fraction(self._container.duration, self._av.time_base)
        else:
            return None
        return max(round(seconds * self.rate), 1)

    def frames(self, writer: "VideoWriter | None" = None) -> Iterator[Frame]:
        """Yield the frames in display order; corrupt parts are skipped.

        Args:
          writer: writer that gets the sound, if it was opened with ``sound``.

        Raises:
          JaxposeError: no frame can be decoded, or reading stops before the end.
        """
        streams = [self._stream]
        if writer is not None and self.sound is not None:
            streams.append(self.sound)
        start = (self._stream.start_time or 0) * self.time_base
        timeline = _Timeline()
        number = 0
        with _as_ours(self._av, f"{self._path} cannot be read to its end"):
            for packet in self._container.demux(streams):
                if writer is not None and packet.stream is self.sound:
                    writer.add_sound(packet, start - timeline.shift_of_packet(packet, start))
                    continue
                for frame in self._decode(packet):
                    time = number / self.rate
                    if frame.pts is not None:
                        time = frame.pts * (frame.time_base or self.time_base) - start
                        time += timeline.shift("frames", time, 1 / self.rate)
                    yield Frame(self._upright(frame), fractions.Fraction(time))
                    number += 1
        if number == 0:
            raise JaxposeError(f"{self._path} has no frame that can be decoded")

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return packet.decode()
        except self._av.FFmpegError:  # which one depends on the codec
            self.damaged += 1
            return []

    def _upright(self, frame: Any) -> np.ndarray:
        width, height = self._square_size(frame.width, frame.height)
        if width * height > MAX_PIXELS:
            raise JaxposeError(
                f"{self._path} has frames of {width}x{height}, more than {MAX_PIXELS} pixels; "
                "resize it first"
            )
        image = _turned(frame.reformat(width, height, "rgb24").to_ndarray(), _matrix(frame))
        if self._size is None:
            self._size = image.shape[1::-1]
        if image.shape[1::-1] != self._size:
            image = self._fitted(image)
        return np.ascontiguousarray(image)

    def _square_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the display size of a frame, whose stored pixels may not be square."""
        ratio = float(self._stream.sample_aspect_ratio or 1)
        if (
            abs(ratio - 1) < SQUARE_PIXEL_TOLERANCE
            or not 1 / MAX_PIXEL_ASPECT <= ratio <= MAX_PIXEL_ASPECT
        ):
            return width, height
        return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """Fit a frame of another size into the size of the first frame, centered on black."""
        width, height = self._size
        scale = min(width / image.shape[1], height / image.shape[0])
        size = [max(round(scale * length), 1) for length in image.shape[1::-1]]
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        fitted = np.zeros((height, width, 3), np.uint8)
        fitted[top : top + size[1], left : left + size[0]] = frame.reformat(*size).to_ndarray()
        return fitted


class _Timeline:
    """Continuous times for streams whose timestamps restart, as in concatenated recordings.

    All streams restart at about the same place of the file, and must be shifted by the same time to
    stay in step.
    """

    def __init__(self):
        self._shifts = [fractions.Fraction(0)]  # of each part
        self._ends = [fractions.Fraction(0)]  # of each part, shifted
        self._streams: dict[str, tuple[int, fractions.Fraction]] = {}  # part and last time

    def shift(
        self, stream: str, time: fractions.Fraction, duration: fractions.Fraction
    ) -> fractions.Fraction:
        """Return the seconds to add to a time.

        Args:
          stream: name of the stream.
          time: seconds, later than the stream's previous time unless the timestamps restarted.
          duration: seconds until the next frame.
        """
        part, last = self._streams.get(stream, (0, time))
        if time < last - RESTART_SECONDS:
            part += 1
            if part == len(self._shifts):  # the first of the streams
                self._shifts.append(self._ends[-1] - time)
                self._ends.append(self._ends[-1])
        self._streams[stream] = part, time
        self._ends[part] = max(self._ends[part], time + self._shifts[part] + duration)
        return self._shifts[part]

    def shift_of_packet(self, packet: Any, start: fractions.Fraction) -> fractions.Fraction:
        """Return the seconds to add to the times of a packet of sound."""
        if packet.dts is None:  # the packet that ends a stream
            return self._shifts[-1]
        time = packet.dts * packet.time_base - start
        return self.shift("sound", time, (packet.duration or 0) * packet.time_base)


def _matrix(frame: Any) -> np.ndarray | None:
    """Return the linear part [2, 2] of a frame's display matrix: its x axis, then its y axis."""
    data = frame.side_data.get("DISPLAYMATRIX")  # works in PyAV 19 and before, unlike iteration
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]


def _turned(image: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Apply a display matrix to an image, rounded to the nearest multiple of 90 degrees.

    Args:
      image: [H, W, 3].
      matrix: [2, 2], directions (x, y) of the stored x axis and y axis on the screen; or None.
    """
    if matrix is None or not matrix.any():
        return image
    if abs(matrix[0, 0]) + abs(matrix[1, 1]) < abs(matrix[0, 1]) + abs(matrix[1, 0]):
        image, matrix = image.transpose(1, 0, 2), matrix[::-1]
    return image[:: -1 if matrix[1, 1] < 0 else 1, :: -1 if matrix[0, 0] < 0 else 1]


class VideoWriter:
    """Writer for an mp4 (H.264, yuv420p).

    The file is created when the context exits. After an error it is discarded; after Ctrl-C the
    frames so far are kept.

    Attributes:
      damaged: number of corrupt parts of the sound that were skipped so far.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        rate: fractions.Fraction,
        time_base: fractions.Fraction,
        sound: Any = None,
    ):
        """Open a file for writing.

        Args:
          path: path of the file, ending in .mp4.
          rate: average frame rate, in Hz.
          time_base: unit of the frames' times, in seconds.
          sound: ``VideoReader.sound``; copied if an mp4 supports its codec, otherwise re-encoded as
            AAC.
        """
        self._av = import_optional("av", extra="predict")
        self._path = pathlib.Path(path)
        self._part = temporary_path(self._path)
        self._rate, self._time_base = rate, time_base
        with _as_ours(self._av, f"{path} cannot be written"):
            # The index is at the start of the file, so that browsers play it while it loads.
            self._container = self._av.open(
                f"file:{self._part}", "w", format="mp4", options={"movflags": "faststart"}
            )
        self._sound = self._encoder = None
        if sound is not None and sound.codec_context.name in SOUND:
            self._sound = self._container.add_stream_from_template(sound)
        elif sound is not None:
            self._encoder = _SoundEncoder(self._av, self._container, sound.codec_context)
        self._stream: Any = None
        self.damaged = 0
        self._waiting: list[Any] = []  # sound received before the first frame
        self._last = -1
        self._last_sound = -math.inf  # in units of the sound's packets

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            kept = kind is None or issubclass(kind, KeyboardInterrupt)
            with _as_ours(self._av, f"{self._path} cannot be written"):
                if kept and self._stream is not None:
                    self._container.mux(self._stream.encode(None))
                    if self._encoder is not None:
                        self._container.mux(self._encoder.end())
                self._container.close()
                if kept and self._stream is not None:
                    os.replace(self._part, self._path)
        finally:
            with contextlib.suppress(OSError):
                self._part.unlink()

    def write(self, image: np.ndarray, time: fractions.Fraction) -> None:
        """Append a frame.

        Args:
          image: uint8 [H, W, 3], of the same size as all others. If the height or width is odd,
            the last row or column is repeated, because H.264 needs even sizes.
          time: seconds from the start; later than the previous frame.

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
        self._mux_sound(self._waiting)
        self._waiting.clear()

    def add_sound(self, packet: Any, start: fractions.Fraction) -> None:
        """Append an audio packet, with its time reduced by ``start`` seconds."""
        with _as_ours(self._av, f"{self._path} cannot be written"):
            if self._encoder is not None:
                packets = self._encoder.encode(packet, start)
                if packets is None:
                    self.damaged += 1
                    return
            elif self._sound is not None and packet.dts is not None:
                shift = round(start / packet.time_base)
                if packet.dts - shift <= self._last_sound:  # sound that overlaps, after a restart
                    return
                packet.dts -= shift
                self._last_sound = packet.dts
                if packet.pts is not None:
                    packet.pts -= shift
                packet.stream = self._sound
                packets = [packet]
            else:
                return
            if self._stream is None:
                self._waiting += packets
            else:
                self._mux_sound(packets)

    def _mux_sound(self, packets: list[Any]) -> None:
        """Write packets; corrupt ones are skipped."""
        for packet in packets:
            try:
                self._container.mux(packet)
            except self._av.error.InvalidDataError:  # the header of AAC in an MPEG-TS
                self.damaged += 1


class _SoundEncoder:
    """Re-encodes sound as mono or stereo AAC, for codecs that an mp4 does not support."""

    def __init__(self, av: Any, container: Any, context: Any):
        """Add an audio stream to the container; ``context`` is the codec of the input."""
        self._av = av
        rates = [rate for rate in SOUND_RATES if rate >= (context.sample_rate or SOUND_RATES[-1])]
        self._form = {
            "format": "fltp",
            "layout": "mono" if context.layout.nb_channels == 1 else "stereo",
            "rate": rates[0] if rates else SOUND_RATES[-1],
        }
        self._stream = container.add_stream(
            "aac", rate=self._form["rate"], layout=self._form["layout"]
        )
        self._stream.bit_rate = SOUND_BITS
        self._resampler: Any = None
        self._heard: Any = None
        self._end: fractions.Fraction | None = None  # of the sound so far, in seconds

    def encode(self, packet: Any, start: fractions.Fraction) -> list[Any] | None:
        """Convert a packet to AAC packets; returns None if it is corrupt."""
        try:
            frames = packet.decode()
        except self._av.FFmpegError:
            return None
        packets = []
        for frame in frames:
            if not self._place(frame, start):
                continue
            heard = frame.format.name, frame.layout.name, frame.sample_rate
            if heard != self._heard:  # may change within a stream
                self._resampler, self._heard = self._av.AudioResampler(**self._form), heard
            for resampled in self._resampler.resample(frame):
                packets += self._stream.encode(resampled)
        return packets

    def _place(self, frame: Any, start: fractions.Fraction) -> bool:
        """Set a frame's time in units of its samples; returns False if it overlaps others.

        Other units, such as AVI's, are too coarse for the encoder's frames.
        """
        length = fractions.Fraction(frame.samples, frame.sample_rate)
        if frame.pts is not None:
            time = frame.pts * frame.time_base - start
            if self._end is not None and time < self._end:
                if time < self._end - length:
                    return False
                time = self._end
            frame.time_base = fractions.Fraction(1, frame.sample_rate)
            frame.pts = round(time / frame.time_base)
            self._end = time + length
        return True

    def end(self) -> list[Any]:
        """Return the remaining packets."""
        return self._stream.encode(None)


@contextlib.contextmanager
def _as_ours(av: Any, what: str):
    """Raise errors of FFmpeg and of the system as JaxposeError."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise JaxposeError(f"{what} ({error.strerror or error})") from error
