"""Damaged and senseless input of every kind: a right answer or one line, never a crash or a hang.

About 13,700 cases in one bounded run. Files are damaged byte by byte from good ones, by seeds;
what a person writes (fields of a config, boxes) is drawn by Hypothesis.
"""

import functools
import io
import json
import pathlib
import resource
import shutil
import tarfile
import zipfile

import cv2
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxpose import geometry
from jaxpose.checkpoints import packed, store
from jaxpose.cli.launch_flags import parse
from jaxpose.data import prepared
from jaxpose.data.batches import BatchMaker, readers_of
from jaxpose.data.images import decode
from jaxpose.data.sampling import train_plan
from jaxpose.evaluation import labeled_predictions, protocol_results, protocols
from jaxpose.predict import as_image
from jaxpose.predict.box_file import BoxFile
from jaxpose.predict.boxes import check_boxes
from jaxpose.training.config import RANGES, augmentation_of, check_config
from jaxpose.training.metric_log import read_records
from jaxpose.training.optimizer import initial_plateau
from jaxpose.training.run import open_run
from jaxpose.training.validation import make_validator
from jaxpose.training.workdir import prepare_workdir
from tests.checkpoints import test_store
from tests.support import small_estimator, tiny_run
from tests.support.damage import REFUSED, attempt, cases, damage
from tfds_builders import image_files, leeds, mat_file, report, sources
from tfds_builders.mpii import annotations

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # Pillow's remarks on corrupt images, and NumPy's on headers that it does not believe.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

BUILDERS = pathlib.Path(leeds.__file__).parent
MAX_MEMORY = 1.5 * 2**30  # bytes that a run of one kind may add


@pytest.fixture(autouse=True)
def memory_is_bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_MEMORY


# Images.


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def good_images() -> dict[str, bytes]:
    """One of every form that photos come in."""
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (6, 9, 3), np.uint8), (45, 30))
    rgb = Image.fromarray(pixels)
    sideways = Image.Exif()
    sideways[image_files.ORIENTATION] = 6
    return {
        "JPEG": encoded(rgb, "JPEG"),
        "progressive JPEG": encoded(rgb, "JPEG", progressive=True),
        "JPEG, chroma in full": encoded(rgb, "JPEG", subsampling=0),
        "JPEG on its side": encoded(rgb, "JPEG", exif=sideways),
        "gray JPEG": encoded(rgb.convert("L"), "JPEG"),
        "CMYK JPEG": encoded(rgb.convert("CMYK"), "JPEG"),
        "PNG": encoded(rgb, "PNG"),
        "16-bit PNG": encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        "palette PNG": encoded(rgb.quantize(17), "PNG"),
        "gray PNG": encoded(rgb.convert("L"), "PNG"),
        "alpha PNG": encoded(rgb.convert("RGBA"), "PNG"),
        "GIF": encoded(rgb, "GIF"),
        "1x1": encoded(rgb.resize((1, 1)), "PNG"),
        "30,000 wide": encoded(Image.new("RGB", (30_000, 2), "red"), "PNG"),
        "30,000 wide JPEG": encoded(Image.new("RGB", (30_000, 2), "red"), "JPEG"),
    }


IMAGES = good_images()


@pytest.mark.parametrize("form", IMAGES)
def test_images_of_every_form_are_read_right(form):
    """By the builders and by prediction: the same size and, where nothing is lost, the same."""
    prepared = image_files.prepare(IMAGES[form])
    ours, _ = decode(prepared.data)
    theirs = as_image(Image.open(io.BytesIO(IMAGES[form])))
    assert ours.shape == theirs.shape == (prepared.height, prepared.width, 3)
    assert image_files.size(IMAGES[form]) == (prepared.width, prepared.height)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() < (4 if "JPEG" in form else 1.5)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_image(data):
    assert attempt(image_files.prepare, data) is REFUSED
    assert attempt(image_files.size, data) is REFUSED
    assert decode(data) is None


def test_damaged_images():
    """What the builders take, training can read."""
    taken = 0
    for number, data in enumerate(cases("images", list(IMAGES.values()), 3000)):
        found = decode(data, reduction=2 ** (number % 4))
        if found is not None:
            image, reduced = found
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            assert reduced <= 2 ** (number % 4)
        attempt(image_files.size, data)
        prepared = attempt(image_files.prepare, data)
        if prepared is not REFUSED:
            taken += 1
            image, _ = decode(prepared.data)
            assert image.shape == (prepared.height, prepared.width, 3)
    assert 100 < taken < 2900  # both ways are tried


def test_damaged_photos(tmp_path):
    path = tmp_path / "photo"
    answered = 0
    for data in cases("photos", list(IMAGES.values()), 1500):
        path.write_bytes(data)
        found = attempt(as_image, path)
        if found is not REFUSED:
            answered += 1
            assert found.dtype == np.uint8 and found.shape[2:] == (3,)
    assert 50 < answered < 1450


# Annotation files and archives.


class OneFile:
    """A source of one file in memory."""

    path, names = pathlib.Path("release"), ("joints.mat",)

    def __init__(self, data):
        self.data = data

    def read(self, name):
        return self.data


def test_damaged_joints_of_the_leeds_sets():
    seeds = [(BUILDERS / name / "dummy_data/joints.mat").read_bytes() for name in ("lsp", "lspet")]
    for data in cases("leeds", seeds, 1000):
        found = attempt(leeds.read_joints, OneFile(data), "joints.mat")
        if found is not REFUSED:
            xy, flags = found
            assert np.isfinite(xy).all() and xy.shape == (*flags.shape, 2)


def test_damaged_annotations_of_mpii():
    file = BUILDERS / "mpii/dummy_data/mpii_human_pose_v1_u12_1.mat"

    def persons(data):
        release = mat_file.read(data, "RELEASE", "file")
        for person in annotations.persons(release, "file", report.Report()):
            assert np.isfinite(person.keypoints).all()
            assert (
                person.keypoints.shape == (16, 2) and not (person.visible & ~person.labeled).any()
            )

    # Compressed data are mostly refused whole: what is inside is damaged by itself.
    for data in cases("mpii", [file.read_bytes(), uncompressed(file.read_bytes())], 1000):
        attempt(persons, data)


def uncompressed(data: bytes) -> bytes:
    """A .mat file with its compressed variables unpacked."""
    kind, length = np.frombuffer(data[128:136], "<u4")
    assert kind == mat_file.COMPRESSED
    return data[:128] + mat_file._inflate(data[136 : 136 + length])


def archives() -> dict[str, bytes]:
    files = {"lsp/joints.mat": b"j" * 500, "lsp/images/im0001.jpg": IMAGES["JPEG"]}
    made = {}
    for suffix in ("zip", "tar", "tar.gz"):
        file = io.BytesIO()
        if suffix == "zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
        else:
            with tarfile.open(fileobj=file, mode=f"w:{suffix[4:]}") as archive:
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        made[suffix] = file.getvalue()
    return made


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_damaged_archives(tmp_path, suffix):
    path = tmp_path / f"lsp.{suffix}"

    def read_all():
        for files in sources.open_sources([str(path)], "lsp"):
            for name in files.names:
                attempt(files.read, name)

    for data in cases(suffix, [archives()[suffix]], 300):
        path.write_bytes(data)
        attempt(read_all)
    assert list(tmp_path.iterdir()) == [path]


# Checkpoints, predictions, what a workdir holds.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "latest"
    test_store.save(folder, 2, 3)
    return folder


def test_damaged_checkpoints(saved, tmp_path):
    """The one before, whole, and never anything that was not saved."""
    folder = pathlib.Path(shutil.copytree(saved, tmp_path / "latest"))
    files = [f for f in sorted((folder / "3").rglob("*")) if f.is_file()]
    steps = []
    rng = np.random.default_rng(3)
    for number in range(600):
        file = files[number % len(files)]
        before = file.read_bytes()
        if rng.random() < 0.1:
            file.unlink()
        else:
            file.write_bytes(damage(rng, before))
        found = attempt(store.restore_newest, folder, test_store.state())
        if found is not REFUSED:
            state, metadata = found
            steps.append(metadata.step)
            test_store.assert_same(state, test_store.state(metadata.step))
        attempt(store.load, folder / "3")
        file.write_bytes(before)
    assert set(steps) == {2, 3}


def test_damaged_packed_checkpoints(tmp_path):
    path = packed.pack(small_estimator.variables(), small_estimator.METADATA, tmp_path / "x.npz")
    whole = packed.unpack(path)[0]
    for data in cases("packed", [path.read_bytes()], 700):
        path.write_bytes(data)
        found = attempt(store.load, path)
        if found is not REFUSED:
            test_store.assert_same(found[0], whole)  # the zip has checksums of its own


def test_damaged_predictions(tmp_path):
    path = tmp_path / "predictions.npz"
    truth = np.random.default_rng(0).uniform(0, 100, (5, 14, 2))
    protocol = protocols.PROTOCOLS["lsp-pck"]
    arrays = {"prediction": truth, "ground_truth": truth, "description": "whole"}
    np.savez(path, **arrays)
    stored = path.read_bytes()
    np.savez_compressed(path, **arrays)

    def score():
        found = labeled_predictions.read_predictions(path, default_joints=protocol.joints)
        protocol_results.result(protocol, protocol_results.count(protocol, found))

    for data in cases("predictions", [stored, path.read_bytes()], 700):
        path.write_bytes(data)
        attempt(score)


def test_damaged_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"kind": "train", "step": i, "loss": 1 / (i + 1)}) for i in range(20)]
    for data in cases("metrics", [("\n".join(lines) + "\n").encode()], 600):
        path.write_bytes(data)
        found = attempt(read_records, path)
        if found is not REFUSED:
            assert all(isinstance(record["step"], int) for record in found)


def test_damaged_configs_of_a_workdir(tmp_path):
    config = tiny_run.config(tmp_path, tmp_path).to_dict()
    with prepare_workdir(tmp_path, config):
        pass
    (tmp_path / "checkpoints" / "latest" / "6").mkdir(parents=True)  # else it is not compared
    whole = (tmp_path / "config.json").read_bytes()

    def enter():
        with prepare_workdir(tmp_path, config):
            pass

    for data in cases("config", [whole], 500):
        (tmp_path / "config.json").write_bytes(data)
        attempt(enter)


# What a person writes.

BOUNDED = dict(
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def field_names() -> list[str]:
    config = tiny_run.config("run", "data")
    return sorted(
        f"{key}.{inner}" if isinstance(value, dict) else key
        for key, value in config.to_dict().items()
        for inner in (value if isinstance(value, dict) else ("",))
    )


VALUES = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(["", "()", "None", "True", "[]", "{}", "(1,", "'x'", "1e400", "((('a',),),)"]),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20),
    st.lists(st.one_of(st.integers(-2, 2), st.text("ab'", max_size=2)), max_size=3).map(
        lambda x: repr(tuple(x))
    ),
)


FIELD = st.deferred(lambda: st.sampled_from(field_names())) | st.text("ab._", max_size=5)
NUMBER = st.sampled_from(["0", "1", "2", "8", "32", "0.5", "-1", "1e-9", "1e9", f"{2**32}"])
# Most random values are refused; of these, many are accepted.
OVERRIDE = st.tuples(st.sampled_from(sorted(RANGES)), NUMBER) | st.tuples(FIELD, VALUES)


@pytest.fixture
def opened_once(monkeypatch):
    """Opening a prepared data set takes longer than everything else."""
    monkeypatch.setattr(prepared, "open_split", functools.cache(prepared.open_split))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.usefixtures("opened_once")
@settings(max_examples=800, **BOUNDED | {"deadline": None})
@given(st.lists(OVERRIDE, max_size=3))
@example([("seed", "100000000000000000000")])
@example([("workers", "-1")])
@example([("num_epochs", "1000000000000")])
@example([("optimizer.warmup_epochs", "1e300")])
@example([("plateau.patience", "1000000000000")])
@example([("augmentation.shift", "1e308")])
@example([("augmentation.scale", "(1e-300, 1e300)")])
@example([("joints", "(1, 2)")])
def test_overrides_of_a_config(people, overrides):
    """What is accepted can be used: the data, a batch, the schedule, the plateau, the metric."""
    argv = tiny_run.command("run", people) + [f"--config.{name}={text}" for name, text in overrides]

    def use():
        config = parse(argv).config
        check_config(config)
        run = open_run(config)
        make_validator(run, trained=run.joints)
        plan = train_plan(run.training, batch_size=config.batch_size, seed=config.seed)
        readers = readers_of(run.training, run.rules, run.joints)
        batch = BatchMaker(plan, readers, 32, len(run.joints), augmentation_of(config))(0)
        assert np.isfinite(batch.crop_to_image).all() and batch.known.any()
        assert all(np.isfinite(run.schedule(step)) for step in (0, run.num_steps))
        state = run.plateau_update(initial_plateau(), 1.0)
        assert 0 < run.plateau_update(state, 0.0).scale <= 1
        jax.eval_shape(run.optimizer.init, {"kernel": np.zeros((2, 2), np.float32)})

    attempt(use)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**6), 10**6)


@settings(max_examples=1500, **BOUNDED)
@given(
    st.lists(st.lists(NUMBERS, min_size=0, max_size=5), max_size=3),
    st.tuples(st.integers(1, 100), st.integers(1, 100)),
)
@example([[0.0, 0.0, 1.7e308, 1.7e308]], (10, 10))
@example([[-1e300, 3.0, 2e300, 1.0]], (10, 10))
def test_boxes_anywhere(boxes, size):
    """A box is refused, or cut: black but for what it shows of the image."""
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    checked = attempt(check_boxes, boxes, size)
    for box in checked if checked is not REFUSED else ():
        example = {"box": box, "stored_size": size}
        crop = attempt(geometry.example_crop, example, geometry.CropRule("box", 1.25))
        if crop is not REFUSED:
            shown = geometry.crop_image(image, crop, 32)
            assert shown.shape == (32, 32, 3) and shown.max() <= 200


def test_damaged_files_of_boxes(tmp_path):
    path = tmp_path / "boxes"
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg", "frame": 3}],
        "annotations": [{"image_id": i, "bbox": [1, 2, 30.5, 40]} for i in (1, 2, 2)],
    }
    plain = {"a.jpg": [[1, 2, 3, 4]], "b.jpg": []}
    lines = "file,x,y,w,h\na.jpg,1,2,3,4\nb.jpg,5.5,6,7,8\n"
    results = [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 30.5, 40], "score": 0.5}]
    seeds = [json.dumps(coco), json.dumps(plain), json.dumps(results), lines]
    for data in cases("boxes", [seed.encode() for seed in seeds], 900):
        path.write_bytes(data)
        attempt(lambda: BoxFile(path).of("a.jpg"))
