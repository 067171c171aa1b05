"""What is kept of a picture byte for byte, what is encoded again, and what is refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from tfds_builders import pictures
from tfds_builders.sources import Folder, ReadError

ROWS, COLUMNS = np.mgrid[:40, :60]
PIXELS = np.stack([COLUMNS * 4, ROWS * 6, COLUMNS + ROWS], -1).astype(np.uint8)


def encoded(kind="JPEG", *, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    return encoded(exif=exif, quality=95, subsampling=0)


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_plain_picture_is_kept_byte_for_byte(kind):
    data = encoded(kind)
    assert pictures.prepare(data) == pictures.Picture(data, 60, 40, encoded_again=False)


# EXIF's numbers: what has to be done to the stored picture to see it upright.
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
def test_a_turned_picture_is_stored_upright(orientation):
    data = turned(orientation)
    picture = pictures.prepare(data)
    expected = UPRIGHT[orientation](PIXELS)
    assert picture.encoded_again
    assert (picture.height, picture.width) == expected.shape[:2]
    assert pictures.size(data) == (picture.width, picture.height)
    assert np.abs(decoded(picture.data) - expected).max() < 16
    assert not Image.open(io.BytesIO(picture.data)).getexif().get(pictures.ORIENTATION)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P")]
)
def test_other_channels_become_rgb(kind, mode):
    picture = pictures.prepare(encoded(kind, mode=mode))
    assert picture.encoded_again
    assert decoded(picture.data).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.97])
def test_a_picture_that_is_cut_off_is_refused(kind, share):
    data = encoded(kind)
    with pytest.raises(ReadError):
        pictures.prepare(data[: int(share * len(data))])


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff" + bytes(100)])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(ReadError, match=r"^[^\n]+$"):
        pictures.prepare(data)


def test_a_picture_that_claims_to_be_enormous_is_refused(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    with pytest.raises(ReadError, match="60 x 40 is more than 1,000 pixels"):
        pictures.prepare(encoded())


def test_changed_bytes_are_read_or_refused():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG"):
        whole = encoded(kind)
        for _ in range(150):
            data = bytearray(whole)
            data[rng.integers(len(data))] = rng.integers(256)
            try:
                picture = pictures.prepare(bytes(data))
            except ReadError as error:
                assert str(error) and "\n" not in str(error)
            else:
                assert picture.width > 0 and picture.height > 0


def test_all_files_come_back_under_their_name_whatever_happens_to_one(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02d}.jpg").write_bytes(b"" if number == 7 else encoded())
    files = Folder(tmp_path)
    requests = [(number, files, f"{number:02d}.jpg") for number in range(40)]
    (tmp_path / "09.jpg").unlink()  # after it was listed

    found = list(pictures.read_all(requests, lambda data, tag: (tag, pictures.prepare(data).width)))
    assert sorted(tag for tag, *_ in found) == list(range(40))
    for tag, name, result in found:
        assert name == f"{tag:02d}.jpg"
        assert isinstance(result, ReadError) if tag in (7, 9) else result == (tag, 60)
