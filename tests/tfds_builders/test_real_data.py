"""The builders on the releases themselves, where they lie beside the checkout."""

import collections

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders.lsp import lsp_dataset_builder
from tfds_builders.lspet import lspet_dataset_builder
from tfds_builders.mpii import mpii_dataset_builder

ENCODED = {"image": tfds.decode.SkipDecoding()}
LEGS, ARMS = [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]


def build(builder_class, data_dir, *sources, config=None):
    builder = builder_class(config=config, data_dir=data_dir, sources=sources)
    builder.download_and_prepare(file_format="array_record")
    splits = {s: list(builder.as_data_source(s, decoders=ENCODED)) for s in builder.info.splits}
    return splits, builder.report


@pytest.fixture(scope="module")
def lsp(shared, tmp_path_factory):
    return {
        config: build(
            lsp_dataset_builder.Builder,
            tmp_path_factory.mktemp(config),
            shared / "data",
            config=config,
        )[0]
        for config in ("person_centric", "observer_centric")
    }


@pytest.mark.parametrize("config", ["person_centric", "observer_centric"])
def test_lsp_has_2000_persons(lsp, config):
    counts = {split: len(examples) for split, examples in lsp[config].items()}
    assert counts == {"train": 950, "validation": 50, "test": 1000}


def test_lsp_occluded_joints_are_those_of_its_file(lsp):
    hidden = {
        s: sum((~e["visible"]).sum() for e in found) for s, found in lsp["person_centric"].items()
    }
    assert hidden["train"] + hidden["validation"] == 990 and hidden["test"] == 1054


def test_lsp_observer_centric_exchanges_what_its_file_says(lsp):
    exchanged = collections.Counter()
    for person, observer in zip(*(lsp[config]["test"] for config in lsp), strict=True):
        moved = (person["keypoints"] != observer["keypoints"]).any(axis=1)
        assert not moved[12:].any()
        exchanged[bool(moved[LEGS].any()), bool(moved[ARMS].any())] += 1
    assert exchanged == {
        (False, False): 620,
        (True, True): 286,
        (True, False): 40,
        (False, True): 54,
    }


@pytest.mark.slow
def test_lspet_has_10000_persons_and_123213_joints(shared, tmp_path):
    splits, report = build(lspet_dataset_builder.Builder, tmp_path, shared / "data")
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 9500,
        "validation": 500,
    }
    assert sum(report.labeled.values()) == 123_213
    assert not report.missing and not report.unreadable
    for example in splits["train"] + splits["validation"]:
        assert not example["keypoints"][~example["labeled"]].any()


@pytest.fixture(scope="module")
def mpii(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mpii")
    return build(mpii_dataset_builder.Builder, folder, shared / "data/mpii")


def test_mpii_counts(mpii):
    splits, report = mpii
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 120,
        "validation": 112,
        "test": 11,
    }
    assert sorted(report.missing) == ["037454012.jpg (test)", "052475643.jpg (validation)"]
    reason = "not in the validation split, but another person of the image is"
    assert len(report.left_out["person", reason]) == 123


def test_mpii_has_no_image_in_two_splits(mpii):
    names = [{e["image_name"] for e in found} for found in mpii[0].values()]
    assert len(set.union(*names)) == sum(map(len, names))


def test_mpii_validation_persons_are_those_of_the_split(mpii, shared):
    truth = np.load(shared / "data/mpii/valid_split.npz")
    rows = {key: row for row, key in enumerate(zip(truth["image"], truth["person"], strict=True))}
    for example in mpii[0]["validation"]:
        row = rows[example["image_name"].decode(), int(example["person"])]
        labeled = truth["labelled"][row]  # old spelling
        assert np.array_equal(example["labeled"], labeled)
        one_based = example["keypoints"][labeled] + 0.5
        assert np.array_equal(np.trunc(one_based), truth["joints"][row][labeled])
        assert np.array_equal(example["visible"], truth["visible"][row].astype(bool) & labeled)
        assert np.allclose(example["center"] + 0.5, truth["objpos"][row])
        assert example["scale"] == pytest.approx(200 * truth["scale"][row])
        assert example["head_size"] == pytest.approx(truth["normalize"][row], rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mpii_from_two_sources_in_both_configs(shared, tmp_path):
    found = {}
    for config in ("full", "crops"):
        sources = shared / "data/mpii", shared / "data/mpii_more"
        found[config], _ = build(mpii_dataset_builder.Builder, tmp_path, *sources, config=config)
    counts = {split: len(examples) for split, examples in found["full"].items()}
    assert counts == {"train": 1906, "validation": 112, "test": 11}
    for full, crop in zip(found["full"]["train"], found["crops"]["train"], strict=True):
        assert full["image_name"] == crop["image_name"] and full["person"] == crop["person"]
        labeled = full["labeled"]
        release = crop["origin"] + crop["keypoints"][labeled] / crop["zoom"]
        assert np.abs(release - full["keypoints"][labeled]).max() < 0.02
