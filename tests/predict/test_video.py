"""Videos: as many frames as before, at the same times, upright, in H.264, closed."""

import fractions
import io
import os
import struct
import tracemalloc

import av
import numpy as np
import pytest
from PIL import Image

from jaxpose.errors import JaxposeError
from jaxpose.predict.video import VideoReader, VideoWriter
from tests.support.videos import (
    GREEN,
    RATE,
    RED,
    changing,
    damaged,
    damaged_png,
    damaged_sound,
    draw_image,
    make,
    with_sound,
    with_unknown_sound,
)


def copy(path, out, change=lambda image: image):
    with VideoReader(path) as reader:
        stream_options = {"rate": reader.rate, "time_base": reader.time_base, "sound": reader.sound}
        with VideoWriter(out, **stream_options) as writer:
            for frame in reader.frames(writer):
                writer.write(change(frame.image), frame.time)
    return out


def read(path):
    with VideoReader(path) as reader:
        return list(reader.frames())


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv444p"),
        (".avi", "mpeg4", "yuv420p"),
        (".mov", "mjpeg", "yuvj420p"),
        (".webm", "libvpx", "yuv420p"),
        (".ts", "mpeg2video", "yuv420p"),
    ],
)
def test_any_video_becomes_an_mp4_of_the_same_frames(suffix, codec, pixels, tmp_path):
    path = make(tmp_path / f"in{suffix}", codec=codec, pixels=pixels)
    before, after = read(path), read(copy(path, tmp_path / "out.mp4"))
    assert len(before) == len(after) == 12
    for old, new in zip(before, after, strict=True):
        assert float(new.time) == pytest.approx(float(old.time), abs=1e-3)
        assert np.abs(new.image.astype(int) - old.image).mean() < 4
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert float(reader.rate) == pytest.approx(float(RATE), rel=0.01)
        assert reader.count == 12


def test_what_is_written_plays_in_a_browser(tmp_path):
    copy(make(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # it plays while it loads


def test_colors_stay(tmp_path):
    frame = read(copy(make(tmp_path / "in.mp4"), tmp_path / "out.mp4"))[0].image
    np.testing.assert_allclose(frame[56, 80], RED, atol=8)
    np.testing.assert_allclose(frame[36, 20], GREEN, atol=8)


def test_uneven_times_stay(tmp_path):
    times = [0, 40, 55, 200, 210, 260, 300, 500, 540, 541, 700, 900]
    path = make(tmp_path / "in.mkv", times=times)
    after = read(copy(path, tmp_path / "out.mp4"))
    assert [round(1000 * frame.time) for frame in after] == times


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_come_upright(rotation, tmp_path):
    path = make(tmp_path / "in.mp4", rotation=rotation)
    expected = np.rot90(draw_image(0), rotation // 90)
    (first, *_), again = read(path), read(copy(path, tmp_path / "out.mp4"))[0]
    for frame in (first, again):
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 12


def test_odd_sizes_are_filled_up(tmp_path):
    path = make(tmp_path / "in.mp4")
    out = copy(path, tmp_path / "out.mp4", lambda image: image[:-1, :-3])
    assert read(out)[0].image.shape == (64, 94, 3)


def test_the_sound_is_copied(tmp_path):
    path = make(tmp_path / "in.mp4", sound=True)
    copy(path, tmp_path / "out.mp4")
    packets = []
    for name in ("in.mp4", "out.mp4"):
        with av.open(str(tmp_path / name)) as container:
            found = [bytes(p) for p in container.demux(audio=0) if p.dts is not None]
            packets.append(found)
    assert len(packets[0]) > 10 and packets[0] == packets[1]


def test_an_error_leaves_no_file(tmp_path):
    def fail(image):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        copy(make(tmp_path / "in.mp4"), tmp_path / "out.mp4", fail)
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_ctrl_c_leaves_what_was_written(tmp_path):
    calls = []

    def interrupted(image):
        calls.append(image)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return image

    with pytest.raises(KeyboardInterrupt):
        copy(make(tmp_path / "in.mp4"), tmp_path / "out.mp4", interrupted)
    assert len(read(tmp_path / "out.mp4")) == 4
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(("make_damaged", "name"), [(damaged, "in.avi"), (damaged_png, "in.mov")])
def test_a_damaged_part_is_left_out_and_counted(make_damaged, name, tmp_path):
    path = make_damaged(tmp_path / name)
    with VideoReader(path) as reader:
        frames = list(reader.frames())
        assert (len(frames), reader.damaged) == (11, 1)


def test_a_damaged_part_of_the_sound_is_left_out_and_counted(tmp_path):
    path = damaged_sound(tmp_path / "in.ts")
    with VideoReader(path) as reader:
        options = {"rate": reader.rate, "time_base": reader.time_base, "sound": reader.sound}
        with VideoWriter(tmp_path / "out.mp4", **options) as writer:
            for frame in reader.frames(writer):
                writer.write(frame.image, frame.time)
    assert writer.damaged == 1
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = [p for p in container.demux(audio=0) if p.dts is not None]
    assert len(sound) > 10 and len(read(tmp_path / "out.mp4")) == 12


def test_a_title_in_another_encoding_does_no_harm(tmp_path):
    path = tmp_path / "in.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "A" * 12
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_image(0), format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"A" * 12, b"caf\xe9 \xff\xfe\xc3(ab"))
    assert len(read(path)) == 1


def test_bad_videos_are_named(tmp_path):
    text, cut, sound = tmp_path / "text.mp4", tmp_path / "cut.mp4", tmp_path / "sound.mp4"
    text.write_text("no video\n" * 100)
    cut.write_bytes(make(tmp_path / "in.mp4").read_bytes()[:600])
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for path, says in [
        (text, "text.mp4 can be read neither as an image nor as a video"),
        (cut, "cut.mp4 can be read neither"),
        (sound, "sound.mp4 contains no video stream"),
        (tmp_path / "absent.mp4", "no file .*absent.mp4"),
    ]:
        with pytest.raises(JaxposeError, match=says):
            read(path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JaxposeError, match="out.mp4 cannot be written"):
        copy(make(tmp_path / "in.mp4"), tmp_path / "no" / "out.mp4")


def test_memory_does_not_grow_with_the_video(tmp_path):
    peaks = []
    for frames in (30, 120):
        path = make(tmp_path / f"{frames}.mp4", frames=frames)
        tracemalloc.start()
        with (
            VideoReader(path) as reader,
            VideoWriter(
                tmp_path / "out.mp4", rate=reader.rate, time_base=reader.time_base
            ) as writer,
        ):
            for frame in reader.frames():
                writer.write(frame.image, frame.time)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000  # 90 frames more are 1.6 MB


# As a player shows it


def encode(path, images, *, codec="libx264", aspect=None, matrix=None):
    """Write images losslessly or nearly so, one after the other, 5 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5, options={"qp": "1"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = i, fractions.Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if matrix is not None:  # of the track, in fixed point
        data = bytearray(path.read_bytes())
        a, b, c, d = (value << 16 for value in matrix)
        place = data.find(b"tkhd") + 44
        data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(data)
    return path


# A step along x of the stored frame becomes (a, b), one along y (c, d): ISO 14496-12, 6.2.2.
MATRICES = [
    (a, b, c, d)
    for a, b, c, d in np.ndindex(3, 3, 3, 3)
    if (a, b, c, d).count(1) == 2 and (a == 1) == (d == 1)
]
MATRICES = [tuple(value - 1 for value in matrix) for matrix in MATRICES]


@pytest.mark.parametrize("matrix", MATRICES)
def test_turned_and_mirrored_frames_are_shown_as_the_display_matrix_says(matrix, tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    stored = stored.repeat(16, 0).repeat(16, 1)
    a, b, c, d = matrix
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    expected = np.zeros((shown_y.max() + 1, shown_x.max() + 1, 3), np.uint8)
    expected[shown_y, shown_x] = stored
    path = encode(tmp_path / "in.mp4", [stored], matrix=matrix)
    for frame in (read(path)[0], read(copy(path, tmp_path / "out.mp4"))[0]):
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 20


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [("4/3", (48, 85)), ("8/9", (54, 64)), ("1001/1000", (48, 64)), ("99", None)],
)
def test_pixels_become_square(aspect, shape, tmp_path):
    stored = np.full((48, 64, 3), 60, np.uint8)
    stored[:, 32:] = 180
    path = encode(tmp_path / "in.mp4", [stored], aspect=aspect)
    frame = read(path)[0].image
    assert frame.shape[:2] == (shape or (48, 64))
    middle = frame.shape[1] // 2
    assert np.abs(frame[:, : middle - 2].astype(int) - 60).max() < 4
    assert np.abs(frame[:, middle + 3 :].astype(int) - 180).max() < 4
    with av.open(str(copy(path, tmp_path / "out.mp4"))) as container:
        stream = container.streams.video[0]
        assert (stream.sample_aspect_ratio or 1) == 1
        assert abs(stream.width - frame.shape[1]) < 2  # H.264 wants even sizes


def test_the_pixels_of_a_turned_frame_become_square(tmp_path):
    stored = np.zeros((48, 64, 3), np.uint8)
    path = encode(tmp_path / "in.mp4", [stored], aspect="3/2", matrix=(0, 1, -1, 0))
    assert read(path)[0].image.shape == (96, 48, 3)


def with_cover(path, *, first):
    """An mp4 with a red cover, before the video or behind it."""
    encode(path, [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(10)])
    data = path.read_bytes()
    start = data.rfind(b"moov") - 4

    def atom(kind, body):
        return struct.pack(">I", len(body) + 8) + kind + body

    cover = io.BytesIO()
    Image.new("RGB", (100, 100), "red").save(cover, "JPEG")
    image = atom(b"covr", atom(b"data", struct.pack(">II", 13, 0) + cover.getvalue()))
    handler = atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    tags = atom(b"udta", atom(b"meta", bytes(4) + handler + atom(b"ilst", image)))
    parts, place = [], start + 8
    while place < len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        parts.append(data[place : place + length])
        place += length
    parts = [part for part in parts if part[4:8] != b"udta"]
    parts.insert(1 if first else len(parts), tags)
    path.write_bytes(data[:start] + atom(b"moov", b"".join(parts)))
    return path


@pytest.mark.parametrize("first", [True, False])
def test_a_cover_is_not_taken_for_the_video(first, tmp_path):
    path = with_cover(tmp_path / "in.mp4", first=first)
    with av.open(str(path)) as container:
        codecs = [stream.codec_context.name for stream in container.streams.video]
    assert codecs == (["mjpeg", "h264"] if first else ["h264", "mjpeg"])
    assert [frame.image.shape for frame in read(path)] == 10 * [(48, 64, 3)]


def test_sound_with_a_cover_is_no_video(tmp_path):
    path = tmp_path / "song.flac"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("flac", rate=48000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        container.mux(cover.encode(av.VideoFrame(64, 48, "rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(JaxposeError, match="song.flac contains no video stream"):
        read(path)


def test_frames_of_another_size_are_brought_to_that_of_the_first(tmp_path):
    path = changing(tmp_path / "in.webm", [(160, 96), (80, 48), (320, 192)])
    for frames in (read(path), read(copy(path, tmp_path / "out.mp4"))):
        assert [frame.image.shape for frame in frames] == 12 * [(96, 160, 3)]
        for frame in frames[4:]:
            assert np.abs(frame.image.astype(int) - frames[0].image).mean() < 8


def test_frames_of_another_shape_keep_it_on_black(tmp_path):
    frames = read(changing(tmp_path / "in.webm", [(160, 96), (48, 80)]))
    last = frames[-1].image.astype(int)
    assert last.shape == (96, 160, 3)  # 96 high, thus 58 wide
    assert last[:, :50].max() < 8 and last[:, -50:].max() < 8
    assert last[4:-4, 54:62].min() > 240
    np.testing.assert_allclose(last[48, 80], RED, atol=12)


# Sound that an mp4 does not take as it is


@pytest.mark.parametrize(
    ("name", "codec", "layout", "rate"),
    [
        ("in.mov", "pcm_s16le", "mono", 48000),
        ("in.mov", "pcm_s16le", "stereo", 44100),
        ("in.mov", "pcm_s16le", "5.1", 48000),
        ("in.mov", "pcm_s16le", "mono", 96000),
        ("in.mkv", "pcm_s16le", "stereo", 8000),
        ("in.webm", "vorbis", "stereo", 44100),
        ("in.mkv", "mp2", "mono", 22050),
        ("in.avi", "adpcm_ima_wav", "mono", 22050),
        ("in.avi", "libmp3lame", "stereo", 44100),
        ("in.avi", "libmp3lame", "mono", 32000),
        ("in.mp4", "libmp3lame", "stereo", 48000),
    ],
)
def test_other_sound_becomes_aac_with_the_same_tone(name, codec, layout, rate, tmp_path):
    path = copy(with_sound(tmp_path / name, codec, layout=layout, rate=rate), tmp_path / "out.mp4")
    with av.open(str(path)) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.name == "aac"
        assert sound.codec_context.layout.nb_channels == (1 if layout == "mono" else 2)
        rate = sound.codec_context.sample_rate
        frames = list(container.decode(sound))
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    begin = round(frames[0].time * rate)
    samples = samples[max(-begin, 0) :]
    assert len(samples) / rate == pytest.approx(1, abs=0.1)
    middle = samples[: rate // 2 * 2][rate // 4 : 3 * rate // 4]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(440, abs=4)


def test_sound_stays_in_step_with_a_video_that_starts_late(tmp_path):
    """Times count from the first frame, of the sound too."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 10 + i, fractions.Fraction(1, 5)  # from second 2 on
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        wave = np.zeros((1, 16000), np.int16)
        wave[:, 4000:] = 9000 * np.sign(np.sin(np.arange(12000)))  # heard from second 2.5 on
        chunk = av.AudioFrame.from_ndarray(wave, "s16", "mono")
        chunk.sample_rate, chunk.pts = 8000, 16000
        chunk.time_base = fractions.Fraction(1, 8000)
        container.mux(sound.encode(chunk))
        container.mux(sound.encode(None))
    with av.open(str(copy(path, tmp_path / "out.mp4"))) as container:
        frames = list(container.decode(audio=0))
    heard = [frame.time for frame in frames if np.abs(frame.to_ndarray()).max() > 0.1]
    assert heard[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("codec", ["aac", "mp2"])  # copied, and encoded
def test_timestamps_that_restart_go_on(codec, tmp_path):
    """Two recordings of a camera, concatenated byte by byte."""
    part = with_sound(tmp_path / "part.ts", codec, rate=48000, seconds=3)
    both = tmp_path / "both.ts"
    both.write_bytes(part.read_bytes() * 2)
    out = copy(both, tmp_path / "out.mp4")
    times = [float(frame.time) for frame in read(out)]
    assert len(times) == 30
    np.testing.assert_allclose(np.diff(times)[np.r_[:14, 15:29]], 1 / 5, atol=1e-3)
    assert times[15] - times[14] == pytest.approx(1 / 5, abs=0.1)
    with av.open(str(out)) as container:
        sound = [frame.time for frame in container.decode(audio=0)]
    assert sound[-1] == pytest.approx(6, abs=0.2) and (np.diff(sound) > 0).all()
    assert max(np.diff(sound)) < 0.1  # no gap


def test_a_video_with_the_longest_name_is_written(tmp_path):
    path = make(tmp_path / f"{'é' * 125}.mp4")  # 254 bytes
    (tmp_path / "out").mkdir()
    assert len(read(copy(path, tmp_path / "out" / path.name))) == 12


def test_sound_without_a_decoder_is_reported(tmp_path):
    with VideoReader(with_unknown_sound(tmp_path / "in.avi")) as reader:
        assert reader.sound is None
        assert reader.lost_sound == "its codec is unknown"
