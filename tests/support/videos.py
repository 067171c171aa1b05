"""Small videos for tests, with what phones and cameras put into them."""

import fractions
import math
import struct

import av
import numpy as np

RATE = fractions.Fraction(30000, 1001)
RED, GREEN = (200, 40, 30), (30, 220, 60)


def draw_image(i, size=(96, 64)):
    """Red, white on top, a green square that moves."""
    image = np.empty((size[1], size[0], 3), np.uint8)
    image[...] = RED
    image[:16] = 255
    image[24:48, 8 + i : 32 + i] = GREEN
    return image


def make(
    path, *, frames=12, codec="libx264", pixels="yuv420p", rotation=0, times=None, sound=False
):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        if times is not None:
            stream.codec_context.time_base = fractions.Fraction(1, 1000)
        tone = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(draw_image(i), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(1024 * 20) / 20)[None].astype(np.float32)
            for start in range(0, wave.shape[1], 1024):
                chunk = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 1024]), "fltp", "mono"
                )
                chunk.sample_rate, chunk.pts = 48000, start
                container.mux(tone.encode(chunk))
            container.mux(tone.encode(None))
    if rotation:
        turn(path, rotation)
    return path


def turn(path, degrees):
    """Write the matrix with which players turn an mp4's images, counterclockwise."""
    cos, sin = (round(f(math.radians(degrees))) << 16 for f in (math.cos, math.sin))
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # the header of the first track, ISO/IEC 14496-12
    data[start : start + 36] = struct.pack(">9i", cos, -sin, 0, sin, cos, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def damaged(path):
    """A video one frame of which does not decode."""
    make(path, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xd8", len(data) // 2)
    end = data.index(b"\xff\xd9", frame)
    data[frame:end] = bytes(end - frame)
    path.write_bytes(data)
    return path


def damaged_png(path):
    """A video of PNGs one frame of which does not decode."""
    make(path, codec="png", pixels="rgb24")
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT", len(data) // 2) + 100
    data[start : start + 60] = bytes(range(60))
    path.write_bytes(data)
    return path


def damaged_sound(path):
    """An MPEG-TS in which the header of one packet of AAC is corrupt."""
    make(path, sound=True)
    data = bytearray(path.read_bytes())
    header = data.index(b"\xff\xf1", len(data) // 2)  # ADTS
    data[header] = 0
    path.write_bytes(data)
    return path


def changing(path, sizes):
    """A WebM each half of which has another size, as calls are recorded: white, a red middle."""
    rate = fractions.Fraction(1, 5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=5)
        (stream.width, stream.height), stream.pix_fmt = sizes[0], "yuv420p"
        for k, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate = rate, 5
            image = np.full((height, width, 3), 255, np.uint8)
            image[height // 4 : -height // 4, width // 4 : -width // 4] = RED
            packets = []
            for i in range(4 * k, 4 * k + 4):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = i, rate
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.stream = stream
                container.mux(packet)
    return path


def with_sound(path, codec, *, layout="mono", rate=48000, seconds=1):
    """A black second with a tone of 440 Hz."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        experimental = {"strict": "-2"} if codec == "vorbis" else {}
        sound = container.add_stream(codec, rate=rate, layout=layout, options=experimental)
        for i in range(5 * seconds):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, fractions.Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        wave = np.sin(2 * np.pi * 440 * np.arange(seconds * rate) / rate)
        channels = av.AudioLayout(layout).nb_channels
        samples = np.tile((wave * 20000).astype(np.int16)[:, None], channels).reshape(1, -1)
        chunk = av.AudioFrame.from_ndarray(samples, "s16", layout)
        chunk.sample_rate, chunk.pts = rate, 0
        container.mux(sound.encode(chunk))
        container.mux(sound.encode(None))
    return path


def with_unknown_sound(path):
    """A video whose sound has a codec that nothing decodes."""
    with_sound(path, "pcm_s16le")
    data = bytearray(path.read_bytes())
    place = data.index(b"strf", data.index(b"auds")) + 8
    data[place : place + 2] = b"\xee\xee"  # no codec's number
    path.write_bytes(data)
    return path
