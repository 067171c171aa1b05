"""Panels of a person: they show the maps as the network itself decodes them."""

from types import SimpleNamespace

import numpy as np

from jaxpose.geometry import Crop
from jaxpose.network import PoseNet
from jaxpose.predict import panels
from jaxpose.predict.estimator import Maps

JOINTS = ("left_knee", "head_top")


def test_softmaxed_panels_have_the_networks_temperature():
    rng = np.random.default_rng(0)
    heatmaps = 8 * rng.normal(size=(8, 8, 4)).astype(np.float32)
    keypoints = rng.random((2, 2))
    confidence = np.ones(2, np.float32)
    crop = np.full((panels.SIZE, panels.SIZE, 3), 60, np.uint8)

    def panels_of(temperature, heatmaps):
        net = PoseNet(num_joints=2, num_context_maps=1, temperature=temperature)
        estimator = SimpleNamespace(net=net, joints=JOINTS, limbs=(), channels=np.arange(2))
        maps = Maps(Crop((32.0, 32.0), 64.0), heatmaps, keypoints, confidence)
        person = panels.Person(crop, maps)
        after = [image for *_, image in panels.maps_before_and_after(estimator, person, size=64)]
        moved = dict(panels.moved_by_context(estimator, person))
        return [
            panels.all_part_maps(estimator, person),
            panels.part_maps_on_crop(estimator, person),
            *after,
            *(images[0][1] for images in moved.values()),
        ]

    found = panels_of(4.0, heatmaps)
    assert len(found) == 6
    for image, same, other in zip(
        found, panels_of(1.0, heatmaps / 4), panels_of(1.0, heatmaps), strict=True
    ):
        np.testing.assert_array_equal(image, same)
        assert (image != other).any()
