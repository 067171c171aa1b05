"""Nothing that is loaded can run code, write elsewhere, or grow without bounds."""

import os
import re
import tarfile
import zipfile

import numpy as np
import pytest

from jaxpose.checkpoints import packed, store
from jaxpose.errors import JaxposeError
from jaxpose.evaluation import labeled_predictions
from jaxpose.network import PoseNet
from jaxpose.predict import PoseEstimator
from jaxpose.skeleton import MPII
from tests.support import tiny_run
from tests.support.damage import REFUSED, attempt
from tfds_builders import sources

SIZE = 2**30 + 2**28  # bytes, more than any reader takes


class Payload:
    """Whoever unpickles this makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def read(path):
    return attempt(labeled_predictions.read_predictions, path, default_joints=("left_wrist",))


@pytest.mark.parametrize("name", ["metadata", "params/stem", "prediction", "joint_names"])
def test_an_array_of_objects_is_not_loaded(tmp_path, name):
    objects = np.array([Payload(tmp_path / "made")], dtype=object)
    arrays = {"prediction": np.zeros((1, 14, 2)), "ground_truth": np.zeros((1, 14, 2))}
    np.savez(tmp_path / "x.npz", **{**arrays, name: objects}, allow_pickle=True)
    assert attempt(store.load, tmp_path / "x.npz") is REFUSED
    if name in ("prediction", "joint_names"):
        assert read(tmp_path / "x.npz") is REFUSED
    assert not (tmp_path / "made").exists()


def test_archives_write_nothing_outside_and_follow_no_links(tmp_path):
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "lsp.zip", "w") as archive:
        archive.writestr("../../outside.jpg", "x")
        archive.writestr("/outside.jpg", "x")
    with tarfile.open(inside / "lsp.tar", "w") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("../../outside.jpg"))
    before = sorted(tmp_path.rglob("*"))
    opened = sources.open_sources([str(inside)], "lsp")
    read = [files.read(name) for files in opened[1:] for name in files.names]
    assert all(b"secret" not in data for data in read)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("width", value) for value in ("288", 288.0, 18 * 10**6)],
        *[("temperature", value) for value in ("1", None)],
        ("alpha", "x"),
        *[("kernel_size", value) for value in (None, 999_999)],
        ("num_blocks", 10**6),
        ("dtype", "float64"),
    ],
)
def test_a_network_of_another_kind_or_size_is_refused_before_it_is_built(
    tmp_path, monkeypatch, name, value
):
    variables, metadata = packed.unpack(packed.path("small"))
    record = {**metadata.to_json(), "network": {**metadata.network, name: value}}
    file = packed.pack_record(variables, record, tmp_path / "small.npz")
    monkeypatch.setattr(PoseNet, "__call__", None)
    assert attempt(store.load_network, file) is REFUSED


@pytest.mark.parametrize("joints", [MPII.joints[:-1], (*MPII.joints, "tail")])
def test_names_of_another_number_of_joints_are_refused(tmp_path, joints):
    """With one name less, joints would be called by the names of others."""
    variables, metadata = packed.unpack(packed.path("small"))
    changes = {"joints": joints, "trained_joints": joints, "flip_pairs": [], "calibration": None}
    file = packed.pack_record(variables, {**metadata.to_json(), **changes}, tmp_path / "small.npz")
    with pytest.raises(JaxposeError, match=f"names {len(joints)} joints, but its network has 16"):
        PoseEstimator.from_checkpoint(file)


@pytest.mark.slow
def test_a_file_that_unpacks_to_much_is_refused_before_it_does(tmp_path):
    """A thousandth of its size on the disk."""
    for name in ("prediction", "params/stem"):
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(
                    member, {"descr": "|u1", "fortran_order": False, "shape": (SIZE,)}
                )
                for _ in range(SIZE // 2**24):
                    member.write(bytes(2**24))
        assert attempt(store.load, tmp_path / "bomb.npz") is REFUSED
        assert read(tmp_path / "bomb.npz") is REFUSED


def test_no_source_unpickles_or_evaluates():
    """Everything that turns bytes into code, by the names under which Python has it."""
    forbidden = re.compile(
        r"\b(pickle|cPickle|dill|cloudpickle|joblib|marshal|shelve)\b|allow_pickle=True|"
        r"torch\.load|yaml\.load|(?<![\w.])(eval|exec)\(|extractall|(?<!_tar)\.extract\("
    )
    folders = ["jaxpose", "tfds_builders", "configs", "benchmarks", "docs"]
    files = [tiny_run.ROOT / "launch.py"]
    found = [f for name in folders for f in (tiny_run.ROOT / name).rglob("*.py")]
    files += [file for file in found if not file.name.endswith("_test.py")]
    found = {
        f"{file.relative_to(tiny_run.ROOT)}: {match[0]}"
        for file in files
        for match in forbidden.finditer(file.read_text(encoding="utf-8"))
    }
    assert not found
    loads = re.compile(r"np\.load\((?!.*allow_pickle=False)")
    assert not [str(file) for file in files if loads.search(file.read_text(encoding="utf-8"))]
