"""Videos: as many frames as before, at the same times, upright, in H.264, closed."""

import fractions
import os
import tracemalloc

import av
import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.predict.video import VideoReader, VideoWriter

RATE = fractions.Fraction(30000, 1001)
RED, GREEN = (200, 40, 30), (30, 220, 60)


def picture(i, size=(96, 64)):
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
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = fractions.Fraction(1, 1000)
        tone = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
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
    return path


def copy(path, out, change=lambda image: image):
    with VideoReader(path) as reader:
        described = {"rate": reader.rate, "time_base": reader.time_base, "sound": reader.sound}
        with VideoWriter(out, **described) as writer:
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


def test_colours_stay(tmp_path):
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
    expected = np.rot90(picture(0), rotation // 90)
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


def damaged(path):
    """A video one frame of which does not decode."""
    make(path, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xd8", len(data) // 2)
    end = data.index(b"\xff\xd9", frame)
    data[frame:end] = bytes(end - frame)
    path.write_bytes(data)
    return path


def test_a_damaged_part_is_left_out_and_counted(tmp_path):
    path = damaged(tmp_path / "in.avi")
    with VideoReader(path) as reader:
        frames = list(reader.frames())
        assert (len(frames), reader.damaged) == (11, 1)


def test_a_title_in_another_encoding_does_no_harm(tmp_path):
    path = tmp_path / "in.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "A" * 12
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
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
        (text, "text.mp4 can be read neither as a picture nor as a video"),
        (cut, "cut.mp4 can be read neither"),
        (sound, "sound.mp4 has no picture in it"),
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
