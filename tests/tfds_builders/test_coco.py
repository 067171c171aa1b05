"""The coco and backgrounds builders: counts, coordinates, splits, and one line for a bad file."""

import contextlib
import io
import json
import os
import pathlib

import numpy as np
import pycocotools.coco
import pytest
from PIL import Image

from jaxpose import coco
from jaxpose.data.prepared import open_split
from jaxpose.evaluation import evaluate, oks
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.inference import Predictions
from jaxpose.skeleton import COCO, flip_permutation
from tfds_builders import draw_dummy_data, joints
from tfds_builders.__main__ import main
from tfds_builders.coco.coco_dataset_builder import held_out_sources, split_of
from tfds_builders.image_files import TRANSPOSE

DUMMY_DATA = pathlib.Path(draw_dummy_data.__file__).parent / "coco" / "dummy_data"
CATEGORY = {
    "id": 1,
    "name": "dog",
    "keypoints": ["nose", "left_ear", "right_ear"],
    "skeleton": [[1, 2], [1, 3]],
}


def write_images(folder, names, size=(40, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        image = np.full((size[1], size[0], 3), number, np.uint8)
        Image.fromarray(image).save(folder / name)
    return folder


def annotation(number, image_id, **changes):
    keypoints = [9, 19, 2, 0, 0, 0, 30, 11, 1]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints,
        "bbox": [4, 6, 30, 20],
        "area": 300,
        "iscrowd": 0,
        **changes,
    }


def write_annotations(folder, annotations, names, **image_fields):
    images = [
        {"id": i + 1, "file_name": name, **{k: v[i] for k, v in image_fields.items()}}
        for i, name in enumerate(names)
    ]
    content = {"images": images, "annotations": annotations, "categories": [CATEGORY]}
    path = folder / "dogs.json"
    path.write_text(json.dumps(content))
    return path


def line_with(text, lines):
    (line,) = [line for line in lines.splitlines() if text in line]
    return line.strip()


def prepare(tmp_path, annotations, names, *arguments, **image_fields):
    images = write_images(tmp_path / "images", names)
    path = write_annotations(tmp_path, annotations, names, **image_fields)
    where = ["--images", str(images), "--data_dir", str(tmp_path / "data")]
    return main(["coco", "--source", str(path), *where, *arguments])


def error_line(capsys):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def test_an_example_has_the_center_of_the_pixel_that_the_file_names(tmp_path):
    assert prepare(tmp_path, [annotation(5, 1)], ["a.png"]) == 0
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    (example,) = split.source
    assert split.joints == ("nose", "left_ear", "right_ear")
    assert split.flip_pairs == (("right_ear", "left_ear"),)
    assert split.limbs == (("nose", "left_ear"), ("nose", "right_ear"))
    np.testing.assert_array_equal(example["keypoints"], [[9.5, 19.5], [0, 0], [30.5, 11.5]])
    np.testing.assert_array_equal(example["labeled"], [True, False, True])
    np.testing.assert_array_equal(example["visible"], [True, False, False])
    np.testing.assert_array_equal(example["center"], [19, 16])
    assert (example["scale"], example["area"]) == (30, 300)
    names = [example[name] for name in ("image_name", "annotation_id", "image_id")]
    assert [n.decode() if isinstance(n, bytes) else n for n in names] == ["a.png", "5", "1"]


def test_what_makes_no_example_is_counted(tmp_path, capsys):
    annotations = [
        annotation(1, 1),
        annotation(2, 1, iscrowd=1),
        annotation(3, 1, ignore=1),
        annotation(4, 1, keypoints=[0] * 9),
        annotation(5, 1, keypoints=[]),
        annotation(6, 77),
        annotation(7, 1, bbox=[0, 0, 5, 5]),
        annotation(8, 1, category_id=9),
        annotation(9, 2),
    ]
    options = ["--min_joints", "2", "--min_side", "10"]
    images = write_images(tmp_path / "images", ["a.png"])
    path = write_annotations(tmp_path, annotations, ["a.png", "gone.png"])
    where = ["--images", str(images), "--data_dir", str(tmp_path / "data")]
    assert main(["coco", "--source", str(path), *where, *options]) == 0
    out = capsys.readouterr().out
    assert "train: 1 persons" in out
    for reason, entry in (
        ("marked iscrowd", 1),
        ("marked ignore", 2),
        ("fewer than 2 labeled joints", 3),
        ("no labeled keypoints", 4),
        ("box smaller than 10 pixels", 6),
    ):
        (line,) = [x for x in out.splitlines() if f"skipped ({reason}): " in x]
        assert f"annotations[{entry}]" in line and "1 person" in line
    for entry in (5, 7):  # an image and a category that the file does not have
        assert f"annotations[{entry}]" in out
    assert "1 file missing: gone.png (missing)" in out
    assert "flip pairs: right_ear - left_ear" in out


def test_splits_categories_and_flip_pairs_by_option(tmp_path):
    images = write_images(tmp_path / "images", ["a.png", "b.png"])
    cat = {"id": 2, "name": "cat", "keypoints": ["top", "bottom"], "skeleton": [[1, 2]]}
    paths = []
    for split, name in (("train", "a.png"), ("test", "b.png")):
        content = {
            "images": [{"id": "x", "file_name": name}],
            "annotations": [
                {"id": 1, "image_id": "x", "category_id": 2, "keypoints": [1, 2, 2, 9, 9, 1]},
                annotation(2, "x"),
            ],
            "categories": [CATEGORY, cat],
        }
        path = tmp_path / f"{split}.json"
        path.write_text(json.dumps(content))
        paths.append(f"{split}={path}")
    options = ["--name", "cats", "--category", "cat", "--flip_pair", "top", "bottom"]
    data = str(tmp_path / "data")
    where = ["--images", str(images), "--data_dir", data]
    assert main(["coco", "--split", *paths, *options, *where]) == 0
    for split, name in (("train", "a.png"), ("test", "b.png")):
        opened = open_split("coco/cats", split, data_dir=data)
        assert opened.joints == ("top", "bottom") and opened.flip_pairs == (("top", "bottom"),)
        (example,) = opened.source
        assert example["image_name"] in (name, name.encode())
        np.testing.assert_array_equal(example["keypoints"], [[1.5, 2.5], [9.5, 9.5]])


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("nose", "left_eye", "right_eye"), [("right_eye", "left_eye")]),
        (("ear-left", "ear-right", "left"), [("ear-right", "ear-left")]),
        (("LeftPaw", "RightPaw", "tail"), [("RightPaw", "LeftPaw")]),
        (("l_eye", "r_eye", "rear"), [("r_eye", "l_eye")]),
        (("hoof 1 right", "hoof 2 right", "hoof 2 left"), [("hoof 2 right", "hoof 2 left")]),
        (("Neck", "RShoulder", "LShoulder"), [("RShoulder", "LShoulder")]),  # OpenPose
        (
            ("REye", "REar", "LEye", "LEar", "RBigToe", "LBigToe"),
            [("REye", "LEye"), ("REar", "LEar"), ("RBigToe", "LBigToe")],
        ),
        (
            ("LFrontPaw", "RFrontPaw", "LHip", "RHip"),
            [("RFrontPaw", "LFrontPaw"), ("RHip", "LHip")],
        ),
        (("Lumbar", "RUMP", "Rib", "LHip", "LUMBAR_R"), []),
        (("RLeg", "LLeg", "Leg"), [("RLeg", "LLeg")]),
        (("upperRLeg", "upperLLeg"), [("upperRLeg", "upperLLeg")]),
        (("kneeR", "kneeL", "R_Hip", "L_Hip"), [("kneeR", "kneeL"), ("R_Hip", "L_Hip")]),
        (("rKnee", "lKnee", "R.Eye", "L.Eye"), [("rKnee", "lKnee"), ("R.Eye", "L.Eye")]),
        (
            ("KneeRight", "KneeLeft", "Eye (R)", "Eye (L)"),
            [("KneeRight", "KneeLeft"), ("Eye (R)", "Eye (L)")],
        ),
        (("LEFT_EYE", "RIGHT_EYE", "eyeL", "eyeR"), [("RIGHT_EYE", "LEFT_EYE"), ("eyeR", "eyeL")]),
        (("RIGHTknee", "LEFTknee"), [("RIGHTknee", "LEFTknee")]),
        (("LEFTKnee", "RIGHTKnee"), [("RIGHTKnee", "LEFTKnee")]),
        (("leftear", "rightear", "right"), [("rightear", "leftear")]),
        (("eyeleft", "eyeright", "bright"), [("eyeright", "eyeleft")]),
        (("bright_left", "bright_right", "bright"), [("bright_right", "bright_left")]),
        (
            ("l_eye_left", "l_eye_right", "r_eye_left", "r_eye_right", "left_right", "right_right"),
            [("r_eye_left", "l_eye_right"), ("r_eye_right", "l_eye_left")],
        ),
    ],
)
def test_flip_pairs_follow_from_the_names(names, pairs):
    assert list(joints.flip_pairs(names)) == pairs
    assert flip_permutation(names, pairs)[flip_permutation(names, pairs)].tolist() == [
        *range(len(names))
    ]


@pytest.mark.parametrize(
    ("names", "unpaired"),
    [
        (("nose", "left_eye", "right_eye"), []),
        (("left_eye", "rigth_eye", "tail"), ["left_eye"]),
        (("LKNEE", "RKNEE", "RHip", "LHip"), ["LKNEE", "RKNEE"]),
        (("lf_paw", "rf_paw", "Reye", "Leye"), ["lf_paw", "rf_paw", "Reye", "Leye"]),
        (("upperL", "kneeR", "leftpaw"), ["upperL", "kneeR", "leftpaw"]),
        (("Lumbar", "RUMP", "collar", "bright", "rear"), []),
    ],
)
def test_names_with_a_side_but_without_a_flip_pair_are_found(names, unpaired):
    assert joints.unpaired_sides(names, joints.flip_pairs(names)) == unpaired


@pytest.mark.parametrize(
    ("names", "options", "pairs", "warning"),
    [
        (["Neck", "RHip", "LHip"], [], "flip pairs: RHip - LHip", ""),
        (
            ["head", "gauche", "droite"],
            [],
            "flip pairs: none; if there are left and right joints, rebuild with --overwrite and "
            "--flip_pair RIGHT LEFT for each pair",
            "",
        ),
        (["head", "LKNE", "RKNE"], [], "flip pairs: none", "no flip pair contains LKNE, RKNE; if"),
        (
            ["head", "left_eye", "right_eye"],
            ["--flip_pair", "head", "left_eye"],
            "flip pairs: head - left_eye",
            "no flip pair contains right_eye; if",
        ),
    ],
)
def test_the_report_warns_of_sides_without_a_flip_pair(
    tmp_path, capsys, monkeypatch, names, options, pairs, warning
):
    monkeypatch.setitem(CATEGORY, "keypoints", names)
    assert prepare(tmp_path, [annotation(1, 1)], ["a.png"], *options) == 0
    out = capsys.readouterr().out
    assert line_with("flip pairs: ", out) == pairs
    if warning:
        line = line_with("warning: ", out)
        assert warning in line and "rebuild with --overwrite and --flip_pair RIGHT LEFT" in line
    else:
        assert "warning" not in out


def test_joints_of_openpose_change_sides_in_mirrored_crops(tmp_path, monkeypatch):
    monkeypatch.setitem(CATEGORY, "keypoints", ["Nose", "LEar", "REar"])
    assert prepare(tmp_path, [annotation(1, 1)], ["a.png"]) == 0
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    assert flip_permutation(split.joints, split.flip_pairs).tolist() == [0, 2, 1]


def test_changed_labels_are_counted_and_listed(tmp_path, capsys):
    nowhere = [None, None, 2, 20, 20, 2, 30, 11, 2]
    persons = [
        annotation(1, 1),
        annotation(2, 1, keypoints=nowhere),
        annotation(3, 1, bbox=[0, 0, 0, 0]),
        annotation(4, 1, keypoints=[9, 19, 0, 0, 30, 11]),
        annotation(5, 1, bbox=None),
        annotation(6, 1, bbox=None, iscrowd=1),
        annotation(7, 1, keypoints=nowhere, category_id=2),
    ]
    assert prepare(tmp_path, persons, ["a.png"]) == 0
    out = capsys.readouterr().out
    assert "train: 5 persons in 1 images, 10 of 15 joints" in out
    report = next(tmp_path.rglob("build_report.txt")).read_text()
    for lines in (out, report):
        assert [line.strip() for line in lines.splitlines() if " changed, " in line] == [
            "1 label changed, keypoint without a position (not labeled): "
            "annotations[1].keypoints[0]",
            "2 labels changed, no usable box (the box of the keypoints is used): "
            "annotations[2], annotations[4]",
            "1 label changed, keypoints without v (labeled unless at (0, 0)): annotations[3]",
        ]
    path = write_annotations(tmp_path, persons[:6], ["a.png"])  # without the unknown category
    where = ["--images", str(tmp_path / "images"), "--data_dir", str(tmp_path / "data")]
    assert main(["coco", "--source", str(path), *where, "--strict", "--overwrite"]) == 0


@pytest.mark.parametrize("bbox", [None, [20, 5, 0, 20]])
def test_an_upright_pole_has_a_box(tmp_path, bbox):
    """Its joints are exactly on a vertical line, and Label Studio writes a box without a width."""
    pole = annotation(1, 1, keypoints=[20, 5, 2, 0, 0, 0, 20, 25, 2], bbox=bbox)
    assert prepare(tmp_path, [pole], ["a.png"]) == 0
    (example,) = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data")).source
    np.testing.assert_array_equal(example["box"], [20, 5.5, 1, 20])
    np.testing.assert_array_equal(example["center"], [20.5, 15.5])
    assert example["scale"] == 20


def with_a_second_category(path, **category):
    content = json.loads(path.read_text())
    content["categories"].append({"id": 2, "name": "cat", **category})
    path.write_text(json.dumps(content))


INTACT = {
    "of another category": annotation(2, 1, category_id=2),
    "marked iscrowd": annotation(2, 1, iscrowd=1),
    "marked ignore": annotation(2, 1, ignore=1),
    "no labeled keypoints": annotation(2, 1, keypoints=[]),
    "nothing labeled and no box": annotation(2, 1, keypoints=[0] * 9, bbox=[0, 0, 0, 0]),
    "box and unlabeled joints": annotation(2, 1, keypoints=[0] * 9),
}
DAMAGED = {
    "no usable box": annotation(2, 1, keypoints=[9, 19, 2] + [0] * 6, bbox=None),
    "2 keypoint values, not 3 x 3": annotation(2, 1, keypoints=[9, 19]),
    "image_id that is not in images": annotation(2, 77),
}


@pytest.mark.parametrize(
    ("second", "refused"),
    [(x, "") for x in INTACT.values()] + [(x, says) for says, x in DAMAGED.items()],
    ids=[*INTACT, *DAMAGED],
)
def test_strict_refuses_damaged_annotations_only(tmp_path, capsys, second, refused):
    images = write_images(tmp_path / "images", ["a.png"])
    path = write_annotations(tmp_path, [annotation(1, 1), second], ["a.png"])
    with_a_second_category(path)
    where = ["--images", str(images), "--data_dir", str(tmp_path / "data")]
    assert main(["coco", "--source", str(path), *where, "--strict"]) == bool(refused)
    if refused:
        line = error_line(capsys)
        assert "annotations[1]" in line and refused in line
    else:
        assert "1 person skipped" in capsys.readouterr().out


def test_several_categories_with_keypoints_are_told_about_the_option(tmp_path, capsys):
    persons = [annotation(1, 1), annotation(2, 1, category_id=2)]
    path = write_annotations(tmp_path, persons, ["a.png"])
    with_a_second_category(path, keypoints=["top", "middle", "bottom"])
    images = write_images(tmp_path / "images", ["a.png"])
    command = ["coco", "--source", str(path), "--images", str(images)]
    command += ["--data_dir", str(tmp_path / "data")]
    assert main(command) == 1
    line = error_line(capsys)
    assert line.endswith("or keep only one, or choose one with --category NAME")
    assert main([*command, "--category", "bird"]) == 1  # the option was given
    assert "choose one with" not in error_line(capsys)
    path.write_text("nonsense")
    assert main(command) == 1
    assert "--category" not in error_line(capsys)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--flip_pair", "nose", "tail"], "no joint is called 'tail'"),
        (
            ["--flip_pair", "nose", "left_ear", "--flip_pair", "nose", "right_ear"],
            "--flip_pair: flip pair (nose, right_ear) contains 'nose', which is in another",
        ),
        (["--limb", "nose", "tail"], "--limb: no joint is called 'tail'"),
        (["--name", "a/b"], "--name 'a/b' is invalid"),
        (["--holdout", "1"], "--holdout 1.0 is invalid"),
        (["--category", "cat"], "has no category 'cat'"),
        (["--split", "validation"], "--split 'validation' is invalid"),
        (["--sigmas", "0.1", "0.2"], "one for each of the 3 joints: nose, left_ear, right_ear"),
        (["--sigmas", "0"], "--sigmas 0.0 is invalid"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, capsys, options, says):
    assert prepare(tmp_path, [annotation(1, 1)], ["a.png"], *options) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert says in line


@pytest.mark.parametrize("folder", ["deep", "linked", "relative"])
def test_images_are_found_wherever_they_are_below_the_folder(tmp_path, folder):
    name = "2026/11/29/camera/1/a.png" if folder == "deep" else "train/a.png"
    place = tmp_path / "elsewhere" / name if folder == "linked" else tmp_path / "images" / name
    place.parent.mkdir(parents=True)
    write_images(place.parent, [place.name])
    (tmp_path / "images").mkdir(exist_ok=True)
    if folder == "linked":
        (tmp_path / "images" / "train").symlink_to(place.parent)
        (place.parent / "loop").symlink_to(tmp_path / "images")
    path = write_annotations(tmp_path, [annotation(1, 1)], [name])
    images = tmp_path / "images"
    if folder == "relative":
        images = tmp_path / "images" / ".." / "images"
    data = str(tmp_path / "data")
    assert main(["coco", "--source", str(path), "--images", str(images), "--data_dir", data]) == 0
    (example,) = open_split("coco/dogs", "train", data_dir=data).source
    assert example["image_name"] in (name, name.encode())


def test_images_of_one_source_are_in_one_split(tmp_path):
    names = [f"{n}.png" for n in range(60)]
    sources = [f"source {n // 2}" for n in range(60)]
    annotations = [annotation(n, n + 1) for n in range(60)]
    options = ["--holdout", "0.3", "--name", "many"]
    assert prepare(tmp_path, annotations, names, *options, source_picture=sources) == 0
    data = str(tmp_path / "data")
    train, validation = (open_split("coco/many", s, data_dir=data) for s in ("train", "validation"))
    found = [
        {sources[int(example["image_id"]) - 1] for example in split.source}
        for split in (train, validation)
    ]
    assert not found[0] & found[1]
    assert len(train.source) + len(validation.source) == 60
    assert 6 <= len(validation.source) <= 30


def listed_images(names):
    return [coco.Image(number, name, None, 0, {}) for number, name in enumerate(names)]


@pytest.mark.parametrize("count", [2, 3, 5, 12])
@pytest.mark.parametrize("holdout", [0.0001, 0.2, 0.5, 0.999])
def test_both_splits_have_images(count, holdout):
    for first in range(100):
        images = listed_images(f"{n}.jpg" for n in range(first, first + count))
        held_out = held_out_sources(images, holdout)
        assert 0 < len(held_out) < count
        assert held_out == held_out_sources(images[::-1], holdout)
        drawn = {i.file_name for i in images if split_of(i, holdout) == "validation"}
        if 0 < len(drawn) < count:
            assert held_out == drawn  # whatever the other images are


def test_five_images_have_a_validation_split(tmp_path):
    names = [f"dog_{n}.png" for n in range(5)]
    assert not any(split_of(image, 0.2) == "validation" for image in listed_images(names))
    annotations = [annotation(n, n + 1) for n in range(5)]
    assert prepare(tmp_path, annotations, names, "--holdout", "0.2") == 0
    data = str(tmp_path / "data")
    train, validation = (open_split("coco/dogs", s, data_dir=data) for s in ("train", "validation"))
    assert (len(train.source), len(validation.source)) == (4, 1)


def test_images_of_a_single_source_are_not_held_out(tmp_path, capsys):
    names, sources = ["a.png", "b.png"], ["scene", "scene"]
    annotations = [annotation(1, 1), annotation(2, 2)]
    assert prepare(tmp_path, annotations, names, "--holdout", "0.5", source_picture=sources) == 1
    assert "all usable images are from one source, scene, so --holdout" in error_line(capsys)


def test_joints_that_the_training_data_never_label_are_not_annotated(tmp_path):
    """The left ear is labeled in the validation file alone, and in a person that is too small."""
    unlabeled = [9, 19, 2, 0, 0, 0, 0, 0, 0]
    files = {
        "train": [
            annotation(1, 1, keypoints=unlabeled),
            annotation(2, 1, keypoints=[9, 19, 2, 5, 5, 2, 30, 11, 2], bbox=[0, 0, 5, 5]),
        ],
        "validation": [annotation(3, 1, keypoints=[9, 19, 2, 5, 5, 2, 0, 0, 0])],
    }
    images, options = write_images(tmp_path / "images", ["a.png"]), []
    for split, annotations in files.items():
        (tmp_path / split).mkdir()
        path = write_annotations(tmp_path / split, annotations, ["a.png"])
        options.append(f"{split}={path}")

    def annotated(name, *splits):
        where = ["--images", str(images), "--data_dir", str(tmp_path / "data"), "--name", name]
        assert main(["coco", "--split", *splits, *where, "--min_side", "10"]) == 0
        split = splits[0].partition("=")[0]
        return open_split(f"coco/{name}", split, data_dir=str(tmp_path / "data")).annotated

    assert annotated("both", *options) == (True, False, False)
    assert annotated("alone", options[1]) == (True, True, False)


def test_sigmas_are_cocos_or_given(tmp_path):
    def sigmas(name, *options):
        folder = tmp_path / name
        folder.mkdir()
        assert prepare(folder, [annotation(1, 1)], ["a.png"], *options) == 0
        return open_split("coco/dogs", "train", data_dir=str(folder / "data")).sigmas

    assert sigmas("coco") == (0.026, 0.035, 0.035)
    assert sigmas("one", "--sigmas", "0.1") == (0.1, 0.1, 0.1)
    assert sigmas("each", "--sigmas", "0.1", "0.2", "0.3") == (0.1, 0.2, 0.3)


def test_persons_that_are_no_examples_are_kept_for_scores(tmp_path):
    """Of images that have examples: a crowd, one without keypoints, one that is filtered."""
    annotations = [
        annotation(1, 1),
        annotation(2, 1, iscrowd=1, area=77),
        annotation(3, 1, keypoints=[]),
        annotation(4, 1, bbox=[0, 0, 5, 5]),
        annotation(5, 2, ignore=1),  # the image has no example
    ]
    assert prepare(tmp_path, annotations, ["a.png", "b.png"], "--min_side", "10") == 0
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    assert split.category == (1, "dog")
    assert [entry["image_id"] for entry in split.ignored] == ["1"] * 3
    crowd, without, small = split.ignored
    assert crowd["keypoints"] == [9, 19, 2, 0, 0, 0, 30, 11, 1] and crowd["area"] == 77
    assert without["keypoints"] == [] and without["box"] == [4, 6, 30, 20]
    assert small["box"] == [0, 0, 5, 5]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "is not valid JSON"),
        ("[]", "defines no joints"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}', "no joints"),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path, capsys, content, says):
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert main(["coco", "--source", str(path), "--data_dir", str(tmp_path / "data")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line


def test_only_annotations_are_counted_as_persons(tmp_path, capsys):
    images = write_images(tmp_path / "images", ["a.png"])
    path = write_annotations(tmp_path, [annotation(1, 1), annotation(2, 9)], ["a.png"])
    content = json.loads(path.read_text())
    content["images"] += content["images"][:1]
    path.write_text(json.dumps(content))
    where = ["--images", str(images), "--data_dir", str(tmp_path / "data")]
    assert main(["coco", "--source", str(path), *where]) == 0
    out = capsys.readouterr().out
    assert "1 item skipped (duplicate image): images[1]" in out
    assert "1 person skipped (image_id that is not in images): annotations[1]" in out


def test_cocos_own_layout_is_read_as_downloaded(tmp_path, capsys):
    """On dummy data that `python -m tfds_builders.draw_dummy_data` drew: dots at every joint."""
    parts = [
        f"{split}={DUMMY_DATA}/annotations/person_keypoints_{part}.json"
        for split, part in (("train", "train2017"), ("validation", "val2017"))
    ]
    where = ["--images", str(DUMMY_DATA), "--name", "person", "--data_dir", str(tmp_path)]
    assert main(["coco", "--split", *parts, *where]) == 0
    assert "1 person skipped (marked iscrowd): annotations[3]" in capsys.readouterr().out
    train, validation = (
        open_split("coco/person", split, data_dir=str(tmp_path))
        for split in ("train", "validation")
    )
    assert (train.joints, len(train.limbs)) == (COCO.joints, 19)
    assert {frozenset(pair) for pair in train.flip_pairs} == set(map(frozenset, COCO.flip_pairs))
    assert len(train.sigmas) == 17 and len(train.ignored) == 1 and not validation.ignored
    assert (len(train.source), len(validation.source)) == (3, 1)
    for example in [*train.source, *validation.source]:
        image = np.asarray(Image.open(io.BytesIO(example["image"])))
        for joint in np.flatnonzero(example["labeled"]):
            assert draw_dummy_data.shows(image, joint, 17, example["keypoints"][joint]), joint
    hidden = train.source[2]
    assert not hidden["labeled"][0] and hidden["labeled"][1] and not hidden["visible"][1]


def test_labels_of_an_image_that_exif_rotates_lie_in_the_upright_image(tmp_path):
    points = np.array([[9, 19], [20, 7], [30, 11]])
    upright = Image.fromarray(draw_dummy_data.draw_image(40, 30, [points]))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise
    (tmp_path / "images").mkdir()
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "images" / "a.jpg", exif=exif, quality=95, subsampling=0)
    keypoints = np.column_stack([points, [2, 2, 2]]).ravel().tolist()
    path = write_annotations(tmp_path, [annotation(1, 1, keypoints=keypoints)], ["a.jpg"])
    where = ["--images", str(tmp_path / "images"), "--data_dir", str(tmp_path / "data")]
    assert main(["coco", "--source", str(path), *where]) == 0
    (example,) = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data")).source
    image = np.asarray(Image.open(io.BytesIO(example["image"])))
    assert image.shape == (30, 40, 3)
    for joint in range(3):
        assert draw_dummy_data.shows(image, joint, 3, example["keypoints"][joint]), joint


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_of_the_stored_frame_move_to_the_upright_image(tmp_path, orientation):
    """The stored frame is the one that has the size in the annotation file."""
    points = np.array([[9, 19], [20, 7], [30, 11]])  # in the stored frame
    stored = Image.fromarray(draw_dummy_data.draw_image(40, 30, [points]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images" / "a.jpg", exif=exif, quality=95, subsampling=0)
    keypoints = np.column_stack([points, [2, 2, 2]]).ravel().tolist()
    persons = [
        annotation(1, 1, keypoints=keypoints, bbox=[4, 6, 30, 20]),
        annotation(2, 1, keypoints=keypoints, bbox=[4, 6, 30, 20], iscrowd=1),
    ]
    path = write_annotations(tmp_path, persons, ["a.jpg"], width=[40], height=[30])
    where = ["--images", str(tmp_path / "images"), "--data_dir", str(tmp_path / "data")]
    assert main(["coco", "--source", str(path), *where, "--strict"]) == 0
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    (example,), (crowd,) = split.source, split.ignored
    image = np.asarray(Image.open(io.BytesIO(example["image"])))
    assert image.shape == (40, 30, 3)
    for joint in range(3):
        assert draw_dummy_data.shows(image, joint, 3, example["keypoints"][joint]), joint
    np.testing.assert_array_equal(
        np.reshape(crowd["keypoints"], (3, 3))[:, :2] + 0.5, example["keypoints"]
    )
    # The box, as a filled rectangle, turned by Pillow.
    mask = np.zeros((30, 40), bool)
    mask[6:26, 4:34] = True
    rows, columns = np.nonzero(np.asarray(Image.fromarray(mask).transpose(TRANSPOSE[orientation])))
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    np.testing.assert_array_equal(example["box"], box)
    np.testing.assert_array_equal(crowd["box"], box)


def test_labels_for_another_image_size_are_left_out(tmp_path, capsys):
    """Neither the size of the image nor that of its stored frame."""
    names = ["a.png", "b.png"]
    persons = [annotation(1, 1), annotation(2, 2), annotation(3, 2, iscrowd=1)]
    sizes = {"width": [40, 400], "height": [30, 300]}
    assert prepare(tmp_path, persons, names, **sizes) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "size of the image differs" in line]
    assert "1 person skipped" in line and "annotations[1]" in line
    assert "b.png has 40x30 pixels, in the file 400x300" in line
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    assert [example["image_name"] for example in split.source] == [b"a.png"]
    assert not split.ignored
    assert prepare(tmp_path, persons[:2], names, "--strict", "--overwrite", **sizes) == 1
    line = error_line(capsys)
    assert "annotations[1]: b.png has 40x30 pixels, in the file 400x300; fix it, or" in line


def test_a_size_that_no_image_has_is_an_error(tmp_path, capsys):
    sizes = {"width": [30], "height": [40]}  # exchanged, but the image is stored upright
    assert prepare(tmp_path, [annotation(1, 1)], ["a.png"], **sizes) == 1
    line = error_line(capsys)
    assert "a.png has 40x30 pixels, in the file 30x40" in line and "--images" in line


def predicted_truth(data_dir):
    """The prepared split, its truth, and predictions equal to the labels."""
    split = open_split("coco/dogs", "train", data_dir=str(data_dir))
    truth = evaluation_set_of(split, split.joints)
    persons = len(truth.truth.labeled)
    predictions = Predictions(
        keypoints=truth.truth.keypoints[None].astype(np.float64),
        presence=np.full((1, persons, 3), 0.9, np.float32),
        in_crop=truth.truth.labeled,
        readable=np.ones(persons, bool),
    )
    return split, truth, predictions


def test_pycocotools_reads_the_results_for_ids_of_any_kind(tmp_path):
    """Words that look like numbers stay words."""
    ids = [7, "7a", "0012", "12"]
    names = [f"{number}.png" for number in range(4)]
    persons = [annotation(n, image_id) for n, image_id in enumerate(ids, 1)]
    persons.append(annotation(5, "0012", iscrowd=1))
    assert prepare(tmp_path, persons, names, id=ids) == 0
    split, truth, predictions = predicted_truth(tmp_path / "data")
    results = evaluate.coco_results(predictions, truth, category_id=1)
    assert [entry["image_id"] for entry in results] == ids
    with contextlib.redirect_stdout(io.StringIO()):
        pycocotools.coco.COCO(str(tmp_path / "dogs.json")).loadRes(results)
    entries = oks.coco_entries(predictions.keypoints[0], predictions.presence[0], truth)
    assert len(entries.data_set["images"]) == 4 and len(entries.data_set["annotations"]) == 5


def test_a_presence_that_is_not_finite_counts_as_0_in_the_score(tmp_path):
    assert prepare(tmp_path, [annotation(1, 1)], ["a.png"]) == 0
    _, truth, predictions = predicted_truth(tmp_path / "data")
    predictions.keypoints[0, 0, 0] = np.nan
    predictions.presence[0, 0, 1] = np.nan
    (entry,) = evaluate.coco_results(predictions, truth, category_id=1)
    assert entry["keypoints"][:6] == [0] * 6 and entry["keypoints"][8] == 2
    assert entry["score"] == pytest.approx(0.6)
    entries = oks.coco_entries(predictions.keypoints[0], predictions.presence[0], truth)
    assert entries.results[0]["score"] == pytest.approx(0.6)


def test_result_files_are_replaced_as_a_whole(tmp_path):
    assert prepare(tmp_path, [annotation(1, 1)], ["a.png"]) == 0
    split, truth, predictions = predicted_truth(tmp_path / "data")
    path = tmp_path / "predictions" / "coco-dogs-train-box.json"
    path.parent.mkdir()
    path.write_text("old")
    with path.open() as reader:
        row = evaluate._evaluate_row(
            predictions,
            truth,
            split=split,
            crop="box",
            description="",
            folder=path.parent,
        )
        assert reader.read() == "old"  # a reader sees the old file or the new one, no part of it
    assert path in row.files and json.loads(path.read_text())[0]["image_id"] == 1


def exported_by_cvat(folder):
    """A task's archive in the format COCO Keypoints 1.0, unpacked, of one skeleton and a box.

    https://docs.cvat.ai/docs/dataset_management/formats/format-coco-keypoints: images/SUBSET/ and
    annotations/person_keypoints_SUBSET.json.
    """
    write_images(folder / "images" / "default", ["walk 1.png", "Übung.png"])
    (folder / "annotations").mkdir()
    attributes = {"occluded": False, "rotation": 0.0, "track_id": 0, "keyframe": True}
    common = {"segmentation": [], "attributes": attributes, "num_keypoints": 2}
    crowd = {"segmentation": {"counts": [0, 1200], "size": [30, 40]}, "area": 1200.0}
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": dict.fromkeys(["contributor", "date_created", "description", "url", "year"], ""),
        "categories": [
            {"supercategory": "", **CATEGORY},
            {"id": 2, "name": "ball", "supercategory": "", "keypoints": [], "skeleton": []},
        ],
        "images": [
            {"id": number, "width": 40, "height": 30, "file_name": name, "license": 0}
            | {"flickr_url": "", "coco_url": "", "date_captured": 0}
            for number, name in enumerate(["walk 1.png", "Übung.png"], 1)
        ],
        "annotations": [
            annotation(1, 1) | common,
            annotation(2, 2, keypoints=[9.25, 19.5, 2, 0.0, 0.0, 0, 30.0, 11.0, 2]) | common,
            annotation(3, 2, keypoints=[0] * 9, iscrowd=1) | crowd,
            {"id": 4, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        ],
    }
    path = folder / "annotations" / "person_keypoints_default.json"
    path.write_text(json.dumps(content))
    return path


def exported_by_label_studio(folder):
    """A project's archive in the format COCO, unpacked: points are one category named default.

    Ids count from 0, the box is that of the points, there is no skeleton and no area, and images
    have a random prefix and an uploader's path.
    """
    names = ["5f3a9c1b-walk_1.png", "77e0b2d4-walk%202.png"]
    write_images(folder / "images", ["5f3a9c1b-walk_1.png", "77e0b2d4-walk 2.png"])
    content = {
        "images": [
            {"width": 40, "height": 30, "id": number, "file_name": f"../../data/upload/4/{name}"}
            for number, name in enumerate(names)
        ],
        "categories": [
            {"id": 0, "name": "toy"},
            {"id": 1, "name": "default", "supercategory": "default"}
            | {"keypoints": CATEGORY["keypoints"], "skeleton": []},
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "segmentation": [], "bbox": [1, 2, 30, 20]}
            | {"ignore": 0, "iscrowd": 0, "area": 600},
            {"id": 1, "image_id": 0, "category_id": 1, "keypoints": [9, 19, 2, 0, 0, 0, 30, 11, 2]}
            | {"num_keypoints": 2, "bbox": [9, 11, 21, 8], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "keypoints": [9, 19, 2, 3, 4, 2, 30, 11, 2]}
            | {"num_keypoints": 3, "bbox": [3, 4, 27, 15], "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 1, "keypoints": [0] * 9}
            | {"num_keypoints": 0, "bbox": [0, 0, 0, 0], "iscrowd": 0},
        ],
        "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio"},
    }
    path = folder / "result.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("export", "options", "category", "left_out"),
    [
        (exported_by_cvat, [], (1, "dog"), {"marked iscrowd": 2, "of another category": 3}),
        (
            exported_by_label_studio,
            ["--limb", "nose", "left_ear", "--limb", "nose", "right_ear"],
            (1, "default"),
            {"no labeled keypoints": 3, "of another category": 0},
        ),
    ],
)
def test_exports_of_labeling_tools_are_read_as_they_are(
    tmp_path, capsys, export, options, category, left_out
):
    path = export(tmp_path)
    where = ["--images", str(tmp_path), "--data_dir", str(tmp_path / "data"), "--name", "dogs"]
    assert main(["coco", "--source", str(path), *where, *options]) == 0
    out = capsys.readouterr().out
    assert "missing" not in out
    for reason, entry in left_out.items():
        (line,) = [line for line in out.splitlines() if f"skipped ({reason}): " in line]
        assert f"1 person skipped ({reason}): annotations[{entry}]" in line
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    assert split.joints == ("nose", "left_ear", "right_ear") and split.category == category
    assert split.limbs == (("nose", "left_ear"), ("nose", "right_ear"))
    assert split.flip_pairs == (("right_ear", "left_ear"),)
    first, second = split.source
    np.testing.assert_array_equal(first["keypoints"], [[9.5, 19.5], [0, 0], [30.5, 11.5]])
    assert second["keypoints"][0, 0] in (9.75, 9.5) and second["labeled"][2]
    assert (first["area"], second["area"]) in ((300, 300), (168, 405))


@pytest.mark.slow
def test_shared_persons_are_2368_and_202(shared, tmp_path, capsys):
    for name, options, count in (
        ("coco_persons", ["--holdout", "0.1"], 2368),
        ("parse_persons", [], 202),
    ):
        folder = shared / "data" / name
        source = [str(folder / "person_keypoints.json"), "--images", str(folder / "images")]
        where = ["--name", name, "--data_dir", str(tmp_path)]
        assert main(["coco", "--source", *source, *options, *where]) == 0
        splits = ("train", "validation") if options else ("train",)
        opened = [open_split(f"coco/{name}", s, data_dir=str(tmp_path)) for s in splits]
        assert sum(len(split.source) for split in opened) == count
        if options:  # the held-out persons of docs/results.md, which must not become others
            assert len(opened[1].source) == 256


NAME = os.fsdecode(b"J\xfcrgen.png")  # bytes that are not UTF-8


def test_any_file_name_is_prepared(tmp_path):
    assert prepare(tmp_path, [annotation(1, 1), annotation(2, 2)], ["a.png", NAME]) == 0
    split = open_split("coco/dogs", "train", data_dir=str(tmp_path / "data"))
    names = sorted(example["image_name"] for example in split.source)
    assert names == [b"J\\udcfcrgen.png", b"a.png"]
    assert held_out_sources(listed_images([NAME, "a.png"]), 0.5) < {NAME, "a.png"}
    images, data = str(tmp_path / "images"), str(tmp_path / "data")
    assert main(["backgrounds", "--source", images, "--data_dir", data]) == 0
    assert len(open_split("backgrounds", "train", data_dir=data).source) == 2


def test_a_tilde_is_the_home_folder_in_every_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_images(tmp_path / "images", ["a.png"])
    write_annotations(tmp_path, [annotation(1, 1)], ["a.png"])
    options = ["--source=~/dogs.json", "--images=~/images", "--data_dir=~/data"]
    assert main(["coco", *options]) == 0
    assert (tmp_path / "data" / "coco").is_dir() and not (tmp_path / "~").exists()


def test_backgrounds_have_no_labeled_joint(tmp_path):
    images = write_images(tmp_path / "images", ["a.png", "b.jpg"])
    data = str(tmp_path / "data")
    assert main(["backgrounds", "--source", str(images), "--data_dir", data]) == 0
    split = open_split("backgrounds", "train", data_dir=data)
    assert len(split.source) == 2 and all(split.annotated) and not split.has_people
    assert not any(np.any(example["labeled"]) for example in split.source)
    sizes = {Image.open(io.BytesIO(example["image"])).size for example in split.source}
    assert sizes == {(40, 30)}


def test_backgrounds_and_people_prepared_by_earlier_versions_are_told_apart(tmp_path):
    """Their metadata have no key for it."""
    images = write_images(tmp_path / "images", ["a.png"])
    write_annotations(tmp_path, [annotation(1, 1)], ["a.png"])
    data = tmp_path / "data"
    assert main(["backgrounds", "--source", str(images), "--data_dir", str(data)]) == 0
    options = ["--images", str(images), "--data_dir", str(data)]
    assert main(["coco", "--source", str(tmp_path / "dogs.json"), *options]) == 0
    found = {}
    for file in data.rglob("metadata.json"):
        metadata = json.loads(file.read_text())
        found[metadata["release"]] = metadata.pop("people", None)
        file.write_text(json.dumps(metadata))
    assert sorted(found.values(), key=str) == [False, None]
    assert not open_split("backgrounds", "train", data_dir=str(data)).has_people
    assert open_split("coco/dogs", "train", data_dir=str(data)).has_people
