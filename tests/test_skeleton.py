"""Joint sets: the orders that the data sets document, and mapping by name."""

import numpy as np
import pytest

from jaxpose.errors import JaxposeError
from jaxpose.skeleton import AUTHORS, COCO, LSP, MPII, flip_permutation, joint_index, skeleton_of

SKELETONS = {"MPII": MPII, "LSP": LSP, "COCO": COCO, "AUTHORS": AUTHORS}


@pytest.fixture(params=SKELETONS.values(), ids=SKELETONS)
def skeleton(request):
    return request.param


def test_pairs_and_limbs_name_joints_of_the_set(skeleton):
    named = {name for pair in skeleton.flip_pairs + skeleton.limbs for name in pair}
    assert named <= set(skeleton.joints)
    assert len(set(skeleton.joints)) == len(skeleton.joints)


def test_limbs_connect_every_joint_to_every_other(skeleton):
    reached = {skeleton.joints[0]}
    for _ in skeleton.joints:
        reached |= {name for limb in skeleton.limbs if reached & set(limb) for name in limb}
    assert reached == set(skeleton.joints)


def test_a_mirrored_drawing_has_the_same_limbs(skeleton):
    other = dict(skeleton.flip_pairs) | {b: a for a, b in skeleton.flip_pairs}
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset(other.get(name, name) for name in limb) for limb in limbs} == limbs


def test_flip_pairs_are_all_the_sides(skeleton):
    sided = {name for name in skeleton.joints if name.startswith(("left_", "right_"))}
    assert {name for pair in skeleton.flip_pairs for name in pair} == sided
    assert all(a == b.replace("left", "right") for a, b in skeleton.flip_pairs)


def test_flipping_twice_changes_nothing(skeleton):
    permutation = flip_permutation(skeleton.joints)
    np.testing.assert_array_equal(permutation[permutation], np.arange(len(skeleton.joints)))
    assert flip_permutation(skeleton.joints, skeleton.flip_pairs).tolist() == permutation.tolist()


def test_flip_of_the_authors_order_is_the_documented_one():
    assert flip_permutation(AUTHORS.joints).tolist() == [
        0, 1, 2, 3, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14,
    ]  # fmt: skip


def test_the_authors_order_maps_to_mpii_and_back_as_documented():
    from_mpii = [6, 7, 8, 9, 12, 13, 11, 14, 10, 15, 2, 3, 1, 4, 0, 5]
    to_mpii = [14, 12, 10, 11, 13, 15, 0, 1, 2, 3, 8, 6, 4, 5, 7, 9]
    assert joint_index(MPII.joints, AUTHORS.joints).tolist() == from_mpii
    assert joint_index(AUTHORS.joints, MPII.joints).tolist() == to_mpii


def test_lsp_has_no_pelvis_and_no_thorax_and_its_neck_is_the_upper_neck():
    index = dict(zip(MPII.joints, joint_index(LSP.joints, MPII.joints), strict=True))
    assert index["pelvis"] == index["thorax"] == -1
    assert LSP.joints[index["upper_neck"]] == "neck"
    assert MPII.joints[joint_index(MPII.joints, ["neck"])[0]] == "upper_neck"


def test_a_set_with_both_names_of_the_neck_keeps_them_apart():
    assert joint_index(("neck", "upper_neck"), ("upper_neck", "neck")).tolist() == [1, 0]


def test_without_pelvis_and_thorax_the_trunk_is_drawn_along_its_outline():
    joints = tuple(name for name in MPII.joints if name not in ("pelvis", "thorax"))
    limbs = {frozenset(limb) for limb in skeleton_of(joints).limbs}
    lsp = {frozenset(name.replace("upper_neck", "neck") for name in limb) for limb in limbs}
    assert lsp == {frozenset(limb) for limb in LSP.limbs}


def test_doubled_names_and_missing_sides_are_refused():
    with pytest.raises(JaxposeError, match="duplicate joint names: neck;"):
        joint_index(("neck", "neck"), ("neck",))
    with pytest.raises(JaxposeError, match="contains 'right_knee', which is not one"):
        flip_permutation(("left_knee", "head_top"))


@pytest.mark.parametrize("pairs", [["ab", "ac"], ["ab", "ca"], ["ab", "bc"], ["ab", "cb"]])
def test_a_joint_in_two_flip_pairs_is_refused(pairs):
    with pytest.raises(JaxposeError, match="'[ab]', which is in another flip pair"):
        flip_permutation("abc", pairs)
    assert flip_permutation("abc", ["ab", "ba", "cc"]).tolist() == [1, 0, 2]
