"""Images come out whole, RGB and upright, as their own bytes where they are that already."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tfds_builders import image_files
from tfds_builders.sources import ReadError

WIDTH, HEIGHT = 48, 32
RGB = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
RGB[:, : WIDTH // 2] = (200, 40, 40)
RGB[: HEIGHT // 2, WIDTH // 2 :] = (40, 200, 40)
RGB[HEIGHT // 2 :, WIDTH // 2 :] = (40, 40, 200)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data):
    """RGB as TFDS decodes it without TensorFlow: OpenCV, unchanged."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return image[..., ::-1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_rgb_keeps_its_bytes(kind):
    data = encoded(Image.fromarray(RGB), kind)
    assert image_files.prepare(data) == (data, WIDTH, HEIGHT, False)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_jpegs_become_rgb(mode):
    data = encoded(Image.fromarray(RGB).convert(mode))
    image = image_files.prepare(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert image.encoded_again
    assert np.abs(decoded(image.data) - expected).mean() < 3


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "LA", "1", "I;16"])
def test_other_pngs_become_rgb(mode):
    image = Image.fromarray(RGB)
    if mode == "I;16":
        image = Image.fromarray(RGB[..., 0].astype(np.uint16) * 256)
    data = encoded(image if mode == "I;16" else image.convert(mode), "PNG")
    pixels = image_files.prepare(data)
    assert pixels.encoded_again and decoded(pixels.data).shape == RGB.shape


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP"])
def test_other_formats_become_png(kind):
    image = image_files.prepare(encoded(Image.fromarray(RGB), kind))
    assert image.data[:4] == b"\x89PNG"
    assert np.abs(decoded(image.data).astype(int) - RGB).mean() < 10


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied_and_gone(orientation):
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    turns |= {8: Image.Transpose.ROTATE_270, 2: Image.Transpose.FLIP_LEFT_RIGHT}
    turns |= {4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE}
    turns |= {7: Image.Transpose.TRANSVERSE}
    data = encoded(Image.fromarray(RGB).transpose(turns[orientation]), exif=exif)
    image = image_files.prepare(data)
    assert (image.width, image.height) == image_files.size(data) == (WIDTH, HEIGHT)
    assert np.abs(decoded(image.data).astype(int) - RGB).mean() < 5
    assert not Image.open(io.BytesIO(image.data)).getexif()


def test_upright_by_its_exif_keeps_its_bytes():
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = 1
    data = encoded(Image.fromarray(RGB), exif=exif)
    assert image_files.prepare(data).data == data


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_truncated_jpegs_are_refused(progressive, keep):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    data = encoded(Image.fromarray(noise), progressive=progressive)
    with pytest.raises(ReadError):
        image_files.prepare(data[: int(len(data) * keep)])


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated_pngs_are_refused(keep):
    data = encoded(Image.fromarray(RGB), "PNG")
    with pytest.raises(ReadError):
        image_files.prepare(data[: int(len(data) * keep)])


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xd8\xff", bytes(1000)])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ReadError, match="not an image"):
        image_files.prepare(data)
    with pytest.raises(ReadError, match="not an image"):
        image_files.size(data)


def test_images_of_too_many_pixels_are_refused(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 100)
    with pytest.raises(ReadError, match="more than 100 pixels"):
        image_files.prepare(encoded(Image.fromarray(RGB)))


def test_damaged_images_raise_nothing_else():
    rng = np.random.default_rng(0)
    whole = [encoded(Image.fromarray(RGB), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP")]
    for seed in range(400):
        data = bytearray(whole[seed % len(whole)])
        for place in rng.integers(0, len(data), rng.integers(1, 8)):
            data[place] = rng.integers(256)
        try:
            image_files.prepare(bytes(data))
        except ReadError:
            pass


class Memory:
    """Files in memory that remembers the order of reading."""

    path = None

    def __init__(self, names):
        self.names = names
        self.read_names = []

    def read(self, name):
        self.read_names.append(name)
        if name == "broken":
            raise ReadError("broken")
        return name.encode()


def test_files_are_read_in_their_own_order_and_results_keep_their_tags():
    files = Memory([f"{number:03d}" for number in range(100)])
    requests = [(int(name), files, name) for name in reversed(files.names)]
    found = list(image_files.read_all(requests, lambda data, tag: (int(data), tag)))
    assert files.read_names == files.names
    assert [(tag, name, *result) for tag, name, result in found] == [
        (number, f"{number:03d}", number, number) for number in range(100)
    ]


def test_a_file_that_cannot_be_read_takes_no_other_with_it():
    files = Memory(["a", "broken", "c"])
    requests = [(None, files, name) for name in files.names]
    results = [result for *_, result in image_files.read_all(requests, lambda data, _: data)]
    assert results[0] == b"a" and results[2] == b"c"
    assert isinstance(results[1], ReadError)


def test_prefetching_is_bounded():
    files = Memory([str(number) for number in range(1000)])
    reading = image_files.read_all([(None, files, n) for n in files.names], lambda data, _: data)
    next(reading)
    assert len(files.read_names) < 100
    reading.close()


def test_heic_is_recognized_by_the_brands_that_predict_knows():
    from jaxpose.predict import images

    assert image_files.HEIC_BRANDS == images.HEIC_BRANDS


@pytest.mark.parametrize("form", ["TIFF", "PPM", "ICO"])
def test_other_formats_are_refused_and_tiff_is_named(form):
    says = "a TIFF image; convert it to JPEG or PNG first" if form == "TIFF" else "not an image"
    with pytest.raises(ReadError, match=says):
        image_files.prepare(encoded(Image.fromarray(RGB), form))
