"""The check of terms that the project does not use: what it finds, what it leaves alone."""

import subprocess

import pytest

from tools.check_words import check, check_files, tracked


def terms(text, path="a.py"):
    return [place.text for place in check(path, text)]


@pytest.mark.parametrize(
    "text",
    ["grey", "Grey", "is_grey", "GREY_LEVELS", "GreyImage", "aGreyImage", "`grey`", "normalised",
     "_normaliser", "unlabelled", "centred", "Behaviour", "licences", "test_a_picture_is_read"],
)  # fmt: skip
def test_a_term_is_found_in_prose_and_in_names(text):
    assert len(terms(f"x = 1\n# {text} = 2\n")) == 1


@pytest.mark.parametrize(
    "text",
    ["gray", "greyhound", "license", "normal is early", "promise", "exercise", "a minister",
     "four hours", "noise", "analyses", "wise", "raise", "parallelism", "accentred", "Picard"],
)  # fmt: skip
def test_other_words_are_left_alone(text):
    assert not terms(text)


def test_a_place_is_named_with_what_to_write():
    (place,) = check("docs/a.md", "one\ntwo colours\n")
    assert place == ("docs/a.md", 2, "colours", "color")


def test_a_term_may_stand_where_it_is_allowed_and_on_exempt_lines():
    assert terms("picture", "jaxpose/a.py") and not terms("picture", "tfds_builders/coco/a.py")
    assert not terms('OLD = "labelled"  # old spelling, in files before 0.1.0\n')


def test_a_file_name_counts_too():
    assert terms("", "docs/licences.md") == ["licences"]


def test_data_and_texts_of_others_are_left_out(tmp_path):
    (tmp_path / "LICENSE").write_text("licence")
    (tmp_path / "a.dat").write_bytes(b"\xff\xfe grey")
    (tmp_path / "a.py").write_text("grey")
    found = check_files(["LICENSE", "a.dat", "a.py", "gone.py"], tmp_path)
    assert [place.path for place in found] == ["a.py"]


@pytest.mark.slow
def test_this_project_has_none():
    try:
        paths = tracked()
    except subprocess.CalledProcessError:
        pytest.skip("not a git clone")
    assert not check_files(paths)
