"""What is kept of an image byte for byte, what is encoded again, and what is refused by name."""

import io
import struct
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from tfds_builders import image_files
from tfds_builders.sources import Folder, ReadError

ROWS, COLUMNS = np.mgrid[:40, :60]
PIXELS = np.stack([COLUMNS * 4, ROWS * 6, COLUMNS + ROWS], -1).astype(np.uint8)


def encoded(kind="JPEG", *, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    return encoded(exif=exif, quality=95, subsampling=0)


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_plain_image_is_kept_byte_for_byte(kind):
    data = encoded(kind)
    assert image_files.prepare(data) == image_files.EncodedImage(data, 60, 40, encoded_again=False)


# EXIF's numbers: what has to be done to the stored image to see it upright.
UPRIGHT = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_image_is_stored_upright(orientation):
    data = turned(orientation)
    image = image_files.prepare(data)
    expected = UPRIGHT[orientation](PIXELS)
    assert image.encoded_again
    assert (image.height, image.width) == expected.shape[:2]
    assert image_files.size(data) == (image.width, image.height)
    assert np.abs(decoded(image.data) - expected).max() < 16
    assert not Image.open(io.BytesIO(image.data)).getexif().get(image_files.ORIENTATION)


@pytest.mark.parametrize(
    "entry",
    [
        (0x011A, 2, 3, b"72\0\0"),  # a resolution as text
        (0x0128, 4, 1, struct.pack("<I", 70000)),  # a unit of 32 bits
        (0x0128, 8, 1, struct.pack("<hH", -2, 0)),
        (0x010F, 2, 99, struct.pack("<I", 60000)),  # a value beyond the end
    ],
)
def test_a_turned_image_is_stored_upright_whatever_else_its_exif_holds(entry):
    data = encoded(quality=95, subsampling=0)
    entries = [(image_files.ORIENTATION, 3, 1, struct.pack("<HH", 6, 0)), entry]
    block = b"".join(struct.pack("<HHI", *fields[:3]) + fields[3] for fields in entries)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + block + bytes(4)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = image_files.prepare(data)
        assert image_files.size(data) == (40, 60)
    assert np.abs(decoded(image.data) - np.rot90(PIXELS, -1)).max() < 16
    assert not Image.open(io.BytesIO(image.data)).getexif()


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0no"])
def test_an_exif_block_that_cannot_be_read_turns_nothing(block):
    data = encoded(quality=95, subsampling=0)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = image_files.prepare(data)
        assert (image.width, image.height) == image_files.size(data) == (60, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a block without orientation is kept
        assert np.abs(decoded(image.data) - PIXELS).max() < 16


GRAY = np.tile(np.linspace(0, 255, 64), (48, 1))


@pytest.mark.parametrize("factor", [1, 4, 16, 64, 257])
@pytest.mark.parametrize("orientation", [1, 6])
def test_gray_levels_in_16_bits_become_8_by_their_range(factor, orientation):
    levels = (GRAY.astype(np.uint16) * factor).astype(np.uint16)
    file, exif = io.BytesIO(), Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    Image.fromarray(levels).save(file, "PNG", exif=exif)
    pixels = decoded(image_files.prepare(file.getvalue()).data)
    expected = np.repeat(GRAY.astype(int)[..., None], 3, -1)
    np.testing.assert_array_equal(
        pixels, UPRIGHT[orientation](expected) if orientation > 1 else expected
    )


def test_colors_in_16_bits_are_read_or_refused():
    colors = np.repeat(GRAY[..., None], 3, -1)
    full, low = (
        cv2.imencode(".png", (colors * factor).astype(np.uint16))[1].tobytes()
        for factor in (257, 16)
    )
    np.testing.assert_allclose(decoded(image_files.prepare(full).data), colors, atol=1)
    with pytest.raises(ReadError, match="its 16-bit colors use only the lower bits"):
        image_files.prepare(low)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P")]
)
def test_other_channels_become_rgb(kind, mode):
    image = image_files.prepare(encoded(kind, mode=mode))
    assert image.encoded_again
    assert decoded(image.data).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.97])
def test_an_image_that_is_cut_off_is_refused(kind, share):
    data = encoded(kind)
    with pytest.raises(ReadError):
        image_files.prepare(data[: int(share * len(data))])


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff" + bytes(100)])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ReadError, match=r"^[^\n]+$"):
        image_files.prepare(data)


def test_heic_is_named():
    with pytest.raises(ReadError, match="a HEIC image; convert it to JPEG or PNG first"):
        image_files.prepare(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


def test_an_image_that_claims_to_be_enormous_is_refused(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    with pytest.raises(ReadError, match="60 x 40 is more than 1,000 pixels"):
        image_files.prepare(encoded())


def test_changed_bytes_are_read_or_refused():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG"):
        whole = encoded(kind)
        for _ in range(150):
            data = bytearray(whole)
            data[rng.integers(len(data))] = rng.integers(256)
            try:
                image = image_files.prepare(bytes(data))
            except ReadError as error:
                assert str(error) and "\n" not in str(error)
            else:
                assert image.width > 0 and image.height > 0


def test_all_files_come_back_under_their_name_whatever_happens_to_one(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02d}.jpg").write_bytes(b"" if number == 7 else encoded())
    files = Folder(tmp_path)
    requests = [(number, files, f"{number:02d}.jpg") for number in range(40)]
    (tmp_path / "09.jpg").unlink()  # after it was listed

    found = list(
        image_files.read_all(requests, lambda data, tag: (tag, image_files.prepare(data).width))
    )
    assert sorted(tag for tag, *_ in found) == list(range(40))
    for tag, name, result in found:
        assert name == f"{tag:02d}.jpg"
        assert isinstance(result, ReadError) if tag in (7, 9) else result == (tag, 60)
