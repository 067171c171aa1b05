"""Prepared data sets: opened with their metadata, their annotations, what happens without them."""

import os
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from examples.five_joints import five_joints_dataset_builder as five_joints
from jaxpose.data.batches import evaluation_batches
from jaxpose.data.prepared import annotations, open_split
from jaxpose.errors import JaxposeError
from jaxpose.geometry import IMAGE_RULE, LSP_RULE, crop_to_image, example_crop
from jaxpose.skeleton import LSP, MPII
from tests.support.drawn_people import PEOPLE, training
from tfds_builders import schema

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_annotations_stack_everything_but_images():
    stacked = annotations(PEOPLE)
    assert stacked.keypoints.shape == (11, 4, 2) and stacked.scale.dtype == np.float32
    assert stacked.image_name[10] == "im0010.png"
    assert stacked.person.tolist() == [i % 3 for i in range(11)]
    np.testing.assert_array_equal(stacked.stored_size, stacked.box[:, 2:])
    assert stacked.zoom is None and stacked.image_id is None


def test_annotations_of_some_persons_are_theirs():
    stacked = annotations(PEOPLE)._replace(area=np.arange(11.0))
    some = stacked.select([4, 2])
    assert some.area.tolist() == [4, 2] and some.image_name.tolist() == ["im0004.png", "im0002.png"]
    assert some.zoom is None
    example = stacked.example(4)
    assert example["area"] == 4 and "zoom" not in example
    np.testing.assert_array_equal(example["keypoints"], some.keypoints[0])


class _OldSpelling:
    """Examples whose labels have the name that they had before 0.1.0."""

    def __len__(self):
        return len(PEOPLE.source)

    def __getitem__(self, index):
        example = dict(PEOPLE.source[index])
        flags = example.pop("labeled")
        return example | {"labelled": flags}  # old spelling


def test_data_sets_with_the_labels_under_their_old_name_are_read():
    old, new = annotations(PEOPLE._replace(source=_OldSpelling())), annotations(PEOPLE)
    for ours, theirs in zip(old, new, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class _Gone:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise OSError("file gone\nmore of it")


def test_files_deleted_during_training_end_in_one_line():
    batches = training([(PEOPLE._replace(source=_Gone()), 1.0)])
    with pytest.raises(JaxposeError, match=r"cannot be read \(file gone\); check") as caught:
        next(batches)
    batches.close()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lsp/person_centric", "five_joints", "synthetic_people_of_mine"])
def test_a_data_set_that_is_not_prepared_is_told_alike_whoever_wrote_its_builder(tmp_path, name):
    with pytest.raises(JaxposeError) as caught:
        open_split(name, "train", data_dir=str(tmp_path))
    assert str(caught.value) == (
        f"data set {name!r} is not prepared in {tmp_path}; prepare it with its builder (`python -m "
        "tfds_builders` for the data sets supported by jaxpose; see docs/own_data.md for your own "
        "data)"
    )


@pytest.mark.parametrize("named", [None, "elsewhere"])
def test_the_default_folder_is_that_of_the_builders(tmp_path, monkeypatch, named):
    """In a fresh process, since TFDS reads the environment when it is imported."""
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("TFDS_DATA_DIR", None)
    expected = tmp_path / "tensorflow_datasets"
    if named:
        expected = tmp_path / named
        environment["TFDS_DATA_DIR"] = str(expected)
    code = (
        "from tfds_builders.lsp.lsp_dataset_builder import Builder\n"
        "from jaxpose.data.prepared import default_data_dir\n"
        "print(Builder().data_dir_root)\nprint(default_data_dir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [str(expected)] * 2, done.stderr


def test_a_data_set_that_is_in_no_default_folder_names_the_option(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(JaxposeError) as caught:
        open_split("lspet", "train", data_dir="")
    assert str(caught.value) == (
        f"data set 'lspet' is not prepared in {tmp_path}; set --config.data_dir to the folder that "
        "contains it, or prepare it with its builder (`python -m tfds_builders` for the data sets "
        "supported by jaxpose; see docs/own_data.md for your own data)"
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """LSP's dummy data, prepared as a person would."""
    from tfds_builders.__main__ import main

    folder = tmp_path_factory.mktemp("data")
    source = pathlib.Path(__file__).parents[2] / "tfds_builders" / "lsp" / "dummy_data"
    assert main(["lsp", "--source", str(source), "--data_dir", str(folder)]) == 0
    return folder


def test_prepared_split_opens_with_its_metadata(data_dir):
    split = open_split("lsp/person_centric", "train", data_dir=str(data_dir))
    assert len(split.source) == 2 and split.joints == LSP.joints
    assert split.flip_pairs == LSP.flip_pairs and split.annotated == (True,) * 14
    stacked = annotations(split)
    assert sorted(stacked.image_name) == ["im0001.jpg", "im0002.jpg"]
    assert stacked.labeled.sum(axis=1).tolist() == [14, 14]
    np.testing.assert_array_equal(stacked.stored_size, stacked.box[:, 2:])


def test_prepared_split_gives_the_crops_of_its_annotations(data_dir):
    split = open_split("lsp/person_centric", "test", data_dir=str(data_dir))
    for rule in (LSP_RULE, IMAGE_RULE):
        (batch,) = evaluation_batches(
            split, joints=MPII.joints, image_size=64, batch_size=1, rule=rule
        )
        example = annotations(split).example(0)
        expected = crop_to_image(example_crop(example, rule))
        np.testing.assert_allclose(batch.crop_to_image[0], expected)


def test_unknown_split_is_named(data_dir):
    with pytest.raises(JaxposeError, match="no split 'trian'; it has: test, train, validation"):
        open_split("lsp/person_centric", "trian", data_dir=str(data_dir))


@pytest.mark.parametrize("keep", [0.0, 0.6, None])
def test_data_files_that_vanish_or_shrink_end_in_one_line(data_dir, tmp_path, keep):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    (file,) = copy.glob("lsp/person_centric/*/*train.array_record*")
    split = open_split("lsp/person_centric", "train", data_dir=str(copy))
    if keep is None:
        file.unlink()
    else:
        os.truncate(file, int(keep * file.stat().st_size))
    batches = training([(split, 1.0)], batch_size=2)
    with pytest.raises(JaxposeError, match="lsp/person_centric train cannot be read"):
        next(batches)
    batches.close()


def test_missing_configuration_is_named(tmp_path):
    folder = tmp_path / "lsp" / "person_centric" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(JaxposeError, match="choose one of lsp/person_centric"):
        open_split("lsp", "train", data_dir=str(tmp_path))
    with pytest.raises(JaxposeError, match="is not an intact prepared data set"):
        open_split("lsp/person_centric", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[1]", "{'a': 1}", "\0" * 9, '{"strange": 1}'])
def test_damaged_information_is_one_line(data_dir, tmp_path, text):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    (file,) = copy.glob("lsp/person_centric/*/dataset_info.json")
    file.write_text(text)
    with pytest.raises(JaxposeError, match="is not an intact prepared data set") as caught:
        open_split("lsp/person_centric", "train", data_dir=str(copy))
    assert "\n" not in str(caught.value)


@pytest.fixture
def own_builder(tmp_path, monkeypatch):
    """Prepare a data set of a builder whose schema is ``own``'s."""
    monkeypatch.setattr(five_joints, "schema", own := types.SimpleNamespace())
    own.features, own.metadata = schema.features, schema.metadata

    def prepare():
        builder = five_joints.Builder(persons={"train": 2}, data_dir=tmp_path)
        builder.download_and_prepare(file_format="array_record")
        return open_split("five_joints", "train", data_dir=str(tmp_path))

    own.prepare = prepare
    return own


def test_features_that_a_builder_forgot_are_named(own_builder, monkeypatch):
    forgotten = ("head_size", "separated")

    def some(values):
        return {name: value for name, value in values.items() if name not in forgotten}

    own_builder.features = lambda count: tfds.features.FeaturesDict(some(schema.features(count)))
    figure = five_joints.figure
    monkeypatch.setattr(five_joints, "figure", lambda rng: some(figure(rng)))
    with pytest.raises(JaxposeError, match="lacks the features head_size, separated; add them"):
        own_builder.prepare()


def test_only_names_pairs_and_limbs_are_needed_as_metadata(own_builder):
    names = list(five_joints.SKELETON.joints)
    own_builder.metadata = lambda *_, **__: tfds.core.MetadataDict(
        joint_names=names, flip_pairs=[], limbs=[]
    )
    split = own_builder.prepare()
    assert split.joints == tuple(names) and split.annotated == () and split.has_people
    batches = training([(split, 1.0)], joints=names, batch_size=2)
    assert next(batches).known.all()
    batches.close()
