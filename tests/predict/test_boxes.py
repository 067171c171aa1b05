"""Boxes of persons: what is refused, and the box around joints."""

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.predict.boxes import box_around, check_boxes


def test_boxes_become_an_array_of_four_columns():
    found = check_boxes([[1, 2, 3, 4], (5, 6, 7.5, 8)])
    assert found.dtype == np.float64 and found.tolist() == [[1, 2, 3, 4], [5, 6, 7.5, 8]]
    for nothing in ([], np.zeros((0, 4)), np.zeros((0,))):
        assert check_boxes(nothing).shape == (0, 4)


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([1, 2, 3, 4], r"shape \(4,\)"),
        ([[1, 2, 3]], r"shape \(1, 3\)"),
        ("box", "one x, y, width, height for each person"),
        ([[1, 2, 3, 4], [1, 2, 0, 4]], "box 1,2,0,4 has no area"),
        ([[1, 2, 3, -4]], "box 1,2,3,-4 has no area"),
        ([[float("inf"), 2, 3, 4]], "box inf,2,3,4 has no area"),
        ([[10**400, 2, 3, 4]], "a number that is too large"),
        ([[1, 2, 3, 4], [40, 2, 3, 4]], "box 40,2,3,4 lies outside the image, which is 40x30"),
        ([[-9, 2, 9, 4]], "box -9,2,9,4 lies outside"),
    ],
)
def test_the_first_bad_box_is_named(boxes, says):
    with pytest.raises(JaxposeError, match=says):
        check_boxes(boxes, (40, 30))


def test_a_box_may_reach_out_of_the_image():
    assert check_boxes([[-5, -5, 6, 6], [39, 29, 9, 9]], (40, 30)).shape == (2, 4)


POINTS = np.array([[10.0, 20.0], [30.0, 25.0], [20.0, 60.0], [15.0, 40.0], [90.0, 90.0]])


def test_the_box_is_that_of_the_confident_joints():
    confidence = np.array([0.3, 0.9, 0.9, 0.9, 0.29])
    assert box_around(POINTS, confidence, (100, 100)).tolist() == [10, 20, 20, 40]


def test_with_few_confident_joints_all_count():
    confidence = np.array([0.9, 0.9, 0.9, 0.1, 0.1])
    assert box_around(POINTS, confidence, (100, 100)).tolist() == [10, 20, 80, 70]


def test_the_box_ends_at_the_edges_of_the_image():
    assert box_around(POINTS, np.ones(5), (50, 70)).tolist() == [10, 20, 40, 50]


def test_joints_without_extent_have_no_box():
    assert box_around(np.tile([[5.0, 6.0]], (5, 1)), np.ones(5), (100, 100)) is None
    line = POINTS * (0, 1)
    assert box_around(line, np.ones(5), (100, 100)) is None
