"""TFDS's own test of a builder."""

import importlib.util
import unittest

import tensorflow_datasets as tfds

NEEDED = ("tensorflow", "dill")


def tfds_test_case(builder: type, splits: dict[str, int]) -> type[unittest.TestCase]:
    """`DatasetBuilderTestCase` of a builder; a skipped test where its libraries are missing.

    Args:
      builder: the class.
      splits: number of examples of its dummy data by split.
    """
    if all(map(importlib.util.find_spec, NEEDED)):
        fields = {"DATASET_CLASS": builder, "SPLITS": splits}
        return type("TestTfds", (tfds.testing.DatasetBuilderTestCase,), fields)

    @unittest.skip("TFDS's own DatasetBuilderTestCase needs TensorFlow and dill")
    class TestTfds(unittest.TestCase):
        def test_tfds(self):
            pass

    return TestTfds
