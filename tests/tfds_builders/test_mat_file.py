"""The reader of .mat files, against SciPy's on whole files; on damaged ones it may only refuse."""

import io

import numpy as np
import pytest
import scipy.io

from tfds_builders import mat_file
from tfds_builders.draw_dummy_data import cells, mat, structs
from tfds_builders.errors import BuildError

VALUES = {
    "double": np.arange(24.0).reshape(2, 3, 4),
    "whole doubles": np.array([[1.0, 2.0, 300.0]]),
    "single": np.float32([[0.5, -1.5]]),
    "int8": np.int8([[-1], [2]]),
    "uint16": np.uint16([[65535, 0]]),
    "int64": np.int64([[-(2**40)]]),
    "logical": np.array([[True, False]]),
    "scalar": np.uint8(7),
    "empty": np.zeros((0, 0)),
    "empty row": np.zeros((1, 0)),
}


def read(value, **options):
    return mat_file.read(mat({"v": value}, **options), "v", "a file")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_numbers_are_scipys(name, compressed):
    data = mat({"v": VALUES[name]}, compressed=compressed)
    expected = scipy.io.loadmat(io.BytesIO(data))["v"]
    found = mat_file.read(data, "v", "a file").numbers()
    assert found.shape == expected.shape and np.array_equal(found, expected)


@pytest.mark.parametrize("text", ["", "a", "000001.jpg", "Grüße"])
def test_texts(text):
    array = read(text)
    assert (array.kind, array.values) == ("text", text)


def test_several_lines_are_no_text():
    assert read(np.array(["ab", "cd"])).kind == "other"


def test_complex_numbers_are_no_numbers():
    with pytest.raises(mat_file.Malformed):
        read(np.array([[1 + 2j]])).numbers()


def test_struct_arrays_by_element_and_field():
    array = read(structs([{"x": 1, "y": "one"}, {"x": 2}]))
    assert (array.kind, array.shape, array.fields) == ("struct", (1, 2), ("x", "y"))
    assert array.field(1, "x").numbers() == 2
    assert array.field(0, "y").values == "one"
    assert array.field(1, "y").size == 0
    assert array.field(0, "z") is None


def test_cells_by_element():
    array = read(cells([1, "two", structs([{"three": 3}])]))
    assert array.cell(1).values == "two"
    assert array.cell(2).field(0, "three").numbers() == 3


@pytest.mark.parametrize("index", [-1, 2])
def test_elements_that_are_not_there(index):
    for array, look in ((read(structs([{"x": 1}] * 2)), "field"), (read(cells([1, 2])), "cell")):
        with pytest.raises(mat_file.Malformed):
            getattr(array, look)(index, *(["x"] if look == "field" else []))


def test_a_field_named_twice_is_refused():
    data = mat({"v": structs([{"id": 1, "QQid": 2}])}, compressed=False)
    data = data.replace(b"QQid\0\0", b"id\0\0\0\0")
    with pytest.raises(mat_file.Malformed, match="duplicate field id"):
        mat_file.read(data, "v", "a file").field(0, "id")


def test_big_endian_files():
    little = mat({"v": np.array([[1.5]])}, compressed=False)
    words = np.frombuffer(little[128:], "<u4")
    big = little[:124] + b"\x01\x00MI" + words.byteswap().tobytes()
    big = big[:-8] + np.array([1.5], ">f8").tobytes()
    big = big.replace(np.array([1 << 16 | 1], ">u4").tobytes() + b"\0\0\0v", b"\0\x01\0\x01v\0\0\0")
    assert mat_file.read(big, "v", "a file").numbers() == 1.5


def test_version_7_3_is_named():
    with pytest.raises(BuildError, match="-v7"):
        mat_file.read(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600), "v", "a file")


@pytest.mark.parametrize("data", [b"", b"no such file", bytes(200), mat({"v": 1})[:150]])
def test_what_is_no_mat_file(data):
    with pytest.raises(BuildError, match="a file is not an intact .mat file"):
        mat_file.read(data, "v", "a file")


def test_a_variable_that_is_not_there():
    with pytest.raises(BuildError, match="no variable 'w'"):
        mat_file.read(mat({"v": 1}), "w", "a file")


def test_a_shape_larger_than_the_file_costs_nothing():
    data = mat({"v": cells([1, 2])}, compressed=False)
    huge = data.replace(
        np.array([2, 1], "<i4").tobytes(), np.array([2**30, 2**30], "<i4").tobytes()
    )
    assert huge != data
    with pytest.raises(BuildError, match="elements in"):
        mat_file.read(huge, "v", "a file")


def test_a_compression_bomb_is_bounded(monkeypatch):
    monkeypatch.setattr(mat_file, "MAX_BYTES", 10_000)
    with pytest.raises(BuildError, match="more than 10,000 bytes"):
        mat_file.read(mat({"v": np.zeros(100_000)}), "v", "a file")
