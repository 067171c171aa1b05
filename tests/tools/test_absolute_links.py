"""Relative links become addresses; everything else stays."""

import pytest

from tools import absolute_links

URL = "https://example.org/jaxpose"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[page](docs/faq.md#a)", f"[page]({URL}/blob/main/docs/faq.md#a)"),
        ("![image](docs/a.webp)", f"![image]({URL}/raw/main/docs/a.webp)"),
        ("[paper](https://arxiv.org/abs/1)", "[paper](https://arxiv.org/abs/1)"),
        ("[here](#results)", "[here](#results)"),
    ],
)
def test_links(before, after):
    assert absolute_links.absolute(before, URL) == after


def test_without_an_address_nothing_is_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](b.md)")
    with pytest.raises(SystemExit, match="set it first"):
        absolute_links.main([str(page)])
    assert page.read_text() == "[a](b.md)"
