"""The builders on the real releases that lie beside the checkout: counts, splits, crops."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxpose.data.augment import Augmentation
from jaxpose.data.batches import train_batches
from jaxpose.data.prepared import annotations, open_split
from jaxpose.geometry import LSP_RULE, MPII_RULE
from tfds_builders.__main__ import main
from tfds_builders.lsp import lsp_dataset_builder
from tfds_builders.mpii import mpii_dataset_builder

INPUT = 256  # pixels of the network's input


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def mpii(shared, data_dir):
    """MPII's subset in both configs; the builder of the whole images."""
    source = shared / "data" / "mpii"
    builders = [
        mpii_dataset_builder.Builder(config=config, data_dir=data_dir, sources=[source])
        for config in ("crops", "full")
    ]
    for builder in builders:
        builder.download_and_prepare(file_format="array_record")
    return builders[-1]


def sizes(builder):
    return {name: split.num_examples for name, split in builder.info.splits.items()}


def images_of(data_dir, split):
    return set(annotations(open_split("mpii/full", split, data_dir=data_dir)).image_name)


@pytest.mark.parametrize("config", ["person_centric", "observer_centric"])
def test_lsp_has_2000_persons(shared, data_dir, config):
    builder = lsp_dataset_builder.Builder(
        config=config, data_dir=data_dir, sources=[shared / "data"]
    )
    builder.download_and_prepare(file_format="array_record")
    assert sizes(builder) == {"train": 950, "validation": 50, "test": 1000}
    assert not builder.report.missing and not builder.report.unreadable


@pytest.mark.slow
def test_lspet_has_10000_persons(shared, data_dir, capsys):
    source = str(shared / "data" / "lspet_dataset.zip")
    assert main(["lspet", "--source", source, "--data_dir", str(data_dir)]) == 0
    builder = tfds.builder("lspet", data_dir=data_dir)
    assert sizes(builder) == {"train": 9500, "validation": 500}
    assert "skipped" not in capsys.readouterr().out


def test_mpiis_subset_has_its_persons_in_the_splits_of_the_literature(mpii, data_dir):
    found = sizes(mpii)
    assert (found["train"], found["validation"]) == (120, 112)
    assert not images_of(data_dir, "train") & images_of(data_dir, "validation")
    reason = "not in the validation split, but another person of the image is"
    unnamed = mpii.report.left_out["person", reason]
    assert len(unnamed) == 123
    assert len([name for name in mpii.report.missing if "(validation)" in name]) == 1


@pytest.mark.slow
def test_a_second_source_adds_its_persons(shared, tmp_path):
    sources = [shared / "data" / name for name in ("mpii", "mpii_more")]
    builder = mpii_dataset_builder.Builder(config="full", data_dir=tmp_path, sources=sources)
    builder.download_and_prepare(file_format="array_record")
    assert (sizes(builder)["train"], sizes(builder)["validation"]) == (1906, 112)


def augmented(split, rule):
    """Every training person once, under the paper's augmentation: keypoints [N, J, 2], labels."""
    persons = len(split.source)
    batches = train_batches(
        [(split, 1.0)],
        joints=split.joints,
        image_size=INPUT,
        batch_size=persons,
        rule=rule,
        augmentation=Augmentation(rotation=40.0, scale=(0.7, 1.3), flip=True, color=0.0),
        seed=0,
    )
    batch = next(batches)
    batches.close()
    assert sorted(batch.index) == list(range(persons))
    return batch


@pytest.mark.parametrize("rule", [MPII_RULE, LSP_RULE], ids=["scale", "joints"])
def test_crops_and_whole_images_give_the_same_network_input(mpii, data_dir, rule):
    full, crops = (
        augmented(open_split(name, "train", data_dir=data_dir), rule)
        for name in ("mpii/full", "mpii/crops")
    )
    np.testing.assert_array_equal(full.index, crops.index)
    seen = full.labeled & crops.labeled
    assert seen.mean() > 0.8
    moved = INPUT * np.linalg.norm(full.keypoints - crops.keypoints, axis=-1)
    assert moved[seen].max() < 0.5
    # The images too: twice encoded, and black where the square around the person ends.
    apart = np.abs(full.image.astype(int) - crops.image.astype(int)).mean(axis=(1, 2, 3))
    assert np.median(apart) < 4
