"""Decoding: reduced JPEGs keep the geometry, whatever is not an intact image is refused."""

import cv2
import numpy as np
import pytest

from jaxpose.data.images import decode, read_header
from jaxpose.geometry import (
    Crop,
    apply_affine,
    crop_image,
    crop_to_image,
    invert_affine,
    reduce_by_area,
)

DOT = (71.3, 62.6)


def dot_image(height, width):
    """A Gaussian blob around DOT, sampled at the pixels' centers."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    squared = (x[None] - DOT[0]) ** 2 + (y[:, None] - DOT[1]) ** 2
    blob = np.exp(-squared / (2 * 9.0**2))
    return np.repeat(np.rint(250 * blob)[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("factor", [1, 4, 16, 64, 257])  # 8, 10, 12, 14 and 16 bits in 16
@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_becomes_8_by_its_range(factor, channels):
    gray = np.tile(np.arange(256), (8, 1))
    levels = (gray * factor).astype(np.uint16)
    levels = np.repeat(levels[..., None], channels, axis=-1)
    image, reduced = decode(cv2.imencode(".png", levels)[1].tobytes(), reduction=4)
    assert image.dtype == np.uint8 and reduced == 1
    np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, axis=-1))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("shape", [(131, 149), (128, 160), (135, 141)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_reduced_jpeg_shows_the_dot_in_its_place(factor, shape, progressive):
    pixels = dot_image(*shape)
    data = cv2.imencode(
        ".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    )[1].tobytes()
    image, reduced = decode(data, reduction=factor)
    assert reduced == factor
    crop = Crop((70.0, 65.0), 110.0, rotation=20.0, flip=True)
    size = 110 // factor
    expected = apply_affine(invert_affine(crop_to_image(crop)), np.array([DOT]))[0] * size
    shown = crop_image(image, crop, size, reduced=reduced)
    mass = shown[..., 0] / shown[..., 0].sum(dtype=float)
    index = np.arange(size) + 0.5
    found = [(mass.sum(axis=0) * index).sum(), (mass.sum(axis=1) * index).sum()]
    np.testing.assert_allclose(found, expected, atol=0.06)


def test_reduced_jpeg_is_the_area_mean_of_the_full_one():
    pixels = cv2.GaussianBlur(
        np.random.default_rng(3).integers(0, 256, (101, 87, 3), np.uint8), (0, 0), 4
    )
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    full, _ = decode(data)
    for factor in (2, 4, 8):
        image, reduced = decode(data, reduction=factor)
        difference = image.astype(int) - reduce_by_area(full, factor)
        assert reduced == factor
        assert np.abs(difference).mean() < 1.5


@pytest.mark.parametrize("sampling", [0x411111, 0x211111, 0x121111])
def test_jpeg_with_lopsided_chroma_is_decoded_in_full(sampling):
    pixels = dot_image(90, 90)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1]
    image, reduced = decode(data.tobytes(), reduction=4)
    assert reduced == 1 and image.shape == pixels.shape


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_header_gives_the_size(suffix):
    data = cv2.imencode(suffix, np.zeros((37, 91, 3), np.uint8))[1].tobytes()
    assert read_header(data)[:2] == (91, 37)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"hello, no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xc0\x00\x04ab"],
)
def test_broken_bytes_are_no_image(data):
    assert read_header(data) is None and decode(data) is None


def test_truncated_images_are_no_images():
    noise = np.random.default_rng(4).integers(0, 256, (60, 80, 3), np.uint8)
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    for suffix, options in [(".jpg", []), (".jpg", progressive), (".png", [])]:
        data = cv2.imencode(suffix, noise, options)[1].tobytes()
        for share in (0.1, 0.5, 0.95):
            assert decode(data[: int(len(data) * share)]) is None


def test_oversized_header_is_refused_before_decoding():
    data = bytearray(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    assert decode(bytes(data)) is None


def test_a_png_chunk_that_claims_gigabytes_is_refused_before_anything_is_allocated():
    _, png = cv2.imencode(".png", np.zeros((9, 7, 3), np.uint8))
    data = png.tobytes()
    assert decode(data) is not None
    place = data.index(b"IDAT") - 4
    for length in (0xFFFFFFF0, len(data)):
        broken = data[:place] + length.to_bytes(4, "big") + data[place + 4 :]
        assert read_header(broken) is None
        assert decode(broken) is None
