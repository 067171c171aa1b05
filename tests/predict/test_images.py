"""Photos as arrays: orientation, depth, formats, and what Pillow warns of."""

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jaxpose.data.images import MAX_PIXELS
from jaxpose.errors import JaxposeError
from jaxpose.predict import as_image, images
from jaxpose.predict.images import is_heic_data, save_image
from tfds_builders import image_files

UPRIGHT = np.zeros((60, 40, 3), np.uint8)
UPRIGHT[:30] = 200
SIDEWAYS = 6  # the stored image has to be turned clockwise


def photo(*entries):
    """A JPEG with an EXIF block of these entries (tag, type, count, value)."""
    file = io.BytesIO()
    Image.fromarray(np.rot90(UPRIGHT)).save(file, "JPEG", quality=95)
    data = file.getvalue()
    entries = [(0x0112, 3, 1, struct.pack("<HH", SIDEWAYS, 0)), *entries]
    block = struct.pack("<H", len(entries))
    block += b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries) + bytes(4)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


BLOCKS = {
    "plain": (),
    "a resolution as text": ((0x011A, 2, 3, b"72\0\0"),),
    "a unit of 32 bits": ((0x0128, 4, 1, struct.pack("<I", 70000)),),
    "a negative unit": ((0x0128, 8, 1, struct.pack("<hH", -2, 0)),),
    "a value beyond the end": ((0x010F, 2, 99, struct.pack("<I", 60000)),),
    "an unknown type": ((0x010F, 77, 1, bytes(4)),),
}


@pytest.mark.parametrize("entries", BLOCKS.values(), ids=BLOCKS)
def test_the_orientation_counts_whatever_else_the_exif_block_holds(entries, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo(*entries))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_image(tmp_path / "photo.jpg")
    np.testing.assert_allclose(found, UPRIGHT, atol=4)


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0no"]
)
def test_an_exif_block_that_cannot_be_read_turns_nothing(block, tmp_path):
    data = photo()
    start, length = 2, int.from_bytes(photo()[4:6], "big") + 2
    marker = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    (tmp_path / "photo.jpg").write_bytes(data[:start] + marker + data[start + length :])
    np.testing.assert_allclose(as_image(tmp_path / "photo.jpg"), np.rot90(UPRIGHT), atol=4)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_the_orientation_counts_in_other_formats(suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    path = tmp_path / f"photo{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(np.rot90(UPRIGHT)).save(path, exif=exif, **options)
    np.testing.assert_array_equal(as_image(path), UPRIGHT)


@pytest.mark.parametrize("orientation", [3, SIDEWAYS, 8])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
def test_the_orientation_counts_in_an_uncompressed_tiff_of_every_mode(mode, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {3: 2, SIDEWAYS: 3, 8: 1}[orientation]  # counterclockwise, for a viewer
    pixels = np.arange(24 * 40).reshape(24, 40) % 250
    if mode == "I;16":
        stored, expected = Image.fromarray((pixels * 257).astype(np.uint16)), pixels
    else:
        stored = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
        expected = np.asarray(stored.convert("L"))
    stored.save(tmp_path / "photo.tif", exif=exif)
    expected = np.repeat(np.rot90(expected, turns)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(as_image(tmp_path / "photo.tif"), expected)


GRAY = np.tile(np.linspace(0, 255, 64), (48, 1))
DEPTHS = {
    "8 bits.png": GRAY.astype(np.uint8),
    "16 bits.png": (GRAY.astype(np.uint8) * 257.0).astype(np.uint16),
    "14 bits in 16.png": (GRAY * 64).astype(np.uint16),
    "12 bits in 16.png": (GRAY * 16).astype(np.uint16),
    "12 bits in 16.tif": (GRAY * 16).astype(np.uint16),
    "10 bits in 16.png": (GRAY * 4).astype(np.uint16),
    "8 bits in 16.png": GRAY.astype(np.uint16),
    "8 bits in 32.tif": GRAY.astype(np.int32),
    "16 bits in 32.tif": (GRAY * 257).astype(np.int32),
    "fractions.tif": (GRAY / 255).astype(np.float32),
    "fractions after a filter.tif": (GRAY / 255 * 1.02).astype(np.float32),
    "8 bits as floats.tif": GRAY.astype(np.float32),
    "16 bits as floats.tif": (GRAY * 257).astype(np.float32),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_gray_levels_of_every_depth_become_the_same_image(name, tmp_path):
    Image.fromarray(DEPTHS[name]).save(tmp_path / name)
    found = as_image(tmp_path / name)
    assert found.shape == (48, 64, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(
        found, np.repeat(GRAY[..., None], 3, -1), atol=1 if "filter" not in name else 6
    )
    assert found.min() == 0 and found.max() == 255


BEYOND = {
    "negative": GRAY.astype(np.int32) - 5,
    "more than 16 bits": GRAY.astype(np.int32) * 1000,
    "from -1 to 1": (GRAY / 127.5 - 1).astype(np.float32),
    "radiance": (GRAY / 20).astype(np.float32),
    "nan": np.where(GRAY > 9, np.nan, GRAY).astype(np.float32),
    "infinite": np.where(GRAY > 9, np.inf, GRAY).astype(np.float32),
}


@pytest.mark.parametrize("name", BEYOND)
def test_values_that_no_photo_has_are_refused_in_one_line(name, tmp_path):
    path = tmp_path / "photo.tif"
    Image.fromarray(BEYOND[name]).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(JaxposeError, match=r"^.*photo.tif has values from [^\n]*$"):
            as_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colors_of_16_bits_are_read_or_refused(suffix, tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / f"photo{suffix}")
    colors = np.stack([GRAY, GRAY[:, ::-1], GRAY / 2], -1)
    plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    cv2.imwrite(path, (colors[..., ::-1] * 257).astype(np.uint16), plain)
    np.testing.assert_allclose(as_image(path), colors, atol=1)
    cv2.imwrite(path, (colors[..., ::-1] * 16).astype(np.uint16), plain)
    with pytest.raises(
        JaxposeError, match="photo.* has 16-bit colors of which only the lower bits"
    ):
        as_image(path)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "IMG_1.jpg", "IMG_1"])
def test_heic_is_named_by_its_content(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(JaxposeError, match=f"{name} is a HEIC image.*JPEG or PNG.*pillow-heif"):
        as_image(tmp_path / name)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, monkeypatch):
    """What registers the format is called before Pillow opens the file."""

    class PillowHeif:
        def register_heif_opener(self):
            (tmp_path / "IMG_1.HEIC").write_bytes(photo())

    monkeypatch.setitem(sys.modules, "pillow_heif", PillowHeif())
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    assert as_image(tmp_path / "IMG_1.HEIC").shape == UPRIGHT.shape


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEIC, True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", False),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", False),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", False),
        (b"\xff\xd8\xff\xe1", False),
        (b"", False),
    ],
)
def test_heic_is_told_from_its_relatives(data, expected):
    assert is_heic_data(data) == expected


def test_warnings_of_pillow_are_ignored_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow warns from there on
    path = tmp_path / "photo.png"
    Image.fromarray(UPRIGHT).save(path)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        as_image(path)
        warnings.warn("ours", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["ours"]


def test_threads_ignore_warnings_together_and_restore_the_filters(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo(*BLOCKS["a value beyond the end"]))
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        before = list(warnings.filters)
        read = list(pool.map(as_image, [tmp_path / "photo.jpg"] * 200))
        assert warnings.filters == before
    assert {image.shape for image in read} == {UPRIGHT.shape}


@pytest.mark.parametrize("size", [(16_000, 10_001), (20_000, 10_000)])
def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, size):
    """Below Pillow's own limit and above it; the file has the pixels of a small one."""
    Image.fromarray(UPRIGHT).save(tmp_path / "photo.png")
    data = bytearray((tmp_path / "photo.png").read_bytes())
    data[16:24] = struct.pack(">II", *size)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "photo.png").write_bytes(data)
    with pytest.raises(JaxposeError, match=r"photo\.png has .*more than 160,000,000.*; resize it"):
        as_image(tmp_path / "photo.png")


def test_builders_and_training_have_the_limit_of_predict():
    assert image_files.MAX_PIXELS == MAX_PIXELS == images.MAX_PIXELS < 2 * Image.MAX_IMAGE_PIXELS


def test_an_address_is_no_file():
    with pytest.raises(JaxposeError, match="https://example.org/a.jpg is a URL"):
        as_image("https://example.org/a.jpg")


def test_an_image_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    path = tmp_path / ("n" * 250 + ".jpg")  # as long as names may be
    save_image(np.full((4, 4, 3), 7, np.uint8), path)
    with pytest.raises(JaxposeError, match="jpg cannot be written"):
        save_image(np.zeros((4, 70_000, 3), np.uint8), path)  # JPEG has up to 65,535 columns
    with pytest.raises(JaxposeError, match="cannot be written .No such file or directory"):
        save_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "none" / "a.png")
    assert as_image(path).shape == (4, 4, 3) and list(tmp_path.iterdir()) == [path]
