"""Annotations of persons of whom a test gives only what it needs."""

import numpy as np

from jaxpose.data.prepared import Annotations


def annotations_of(keypoints, labeled, **fields) -> Annotations:
    """Of N persons with J joints; the fields that are not given are as where nothing is known."""
    count = len(labeled)
    unknown = dict(
        visible=np.zeros_like(labeled),
        box=np.zeros((count, 4)),
        center=np.zeros((count, 2)),
        scale=np.zeros(count),
        head_size=np.zeros(count),
        separated=np.ones(count, bool),
        image_name=np.full(count, ""),
        person=np.zeros(count, int),
        stored_size=np.zeros((count, 2), int),
    )
    return Annotations(keypoints=keypoints, labeled=labeled, **unknown | fields)
