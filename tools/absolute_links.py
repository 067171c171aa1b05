"""Rewrite a page's relative links to URLs in the repository, for a package index.

    python -m tools.absolute_links README.md

PyPI shows README.md without the repository's other files. Images link to their raw content.
"""

import pathlib
import re
import tomllib

import tools

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|mailto:|#)([^)\s]+)\)")


def absolute(text: str, url: str) -> str:
    """Make relative links of a Markdown text point to the repository at url, branch ``main``."""

    def link(found):
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({url.rstrip('/')}/{kind}/main/{found[3]})"

    return LINK.sub(link, text)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = tools.parser("absolute_links", __doc__)
    parser.add_argument(
        "page", metavar="PAGE.md", type=pathlib.Path, help="Markdown page, which is overwritten"
    )
    page = parser.parse_args(arguments).page
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    url = project.get("urls", {}).get("Source")
    if url is None:
        raise SystemExit("error: pyproject.toml has no Source in [project.urls]; set it first")
    page.write_text(absolute(page.read_text(), url))
    print(f"{page}: relative links now point to {url}")


if __name__ == "__main__":
    main()
