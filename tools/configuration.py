"""Writes docs/configuration.md; run `python -m tools.configuration` after a change of a config.

Names, defaults and the values of presets come from the files in configs/. The meanings of the
fields come from field_meanings.json; a test fails if one is missing there.
"""

import importlib
import json
import pathlib
import re
import textwrap
from typing import Any

import ml_collections

import tools
from configs import common
from jaxpose import skeleton
from jaxpose.errors import UsageError
from jaxpose.training.workdir import FREE_FIELDS

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs"
PAGE = FOLDER.parent / "docs" / "configuration.md"

HEAD = """\
# Configuration

For people who train networks: every config field and its default, and the commands and presets of
each config file. This page is generated from the files in `configs/` by
`python -m tools.configuration`; a test fails if it is out of date.

A config is a Python file with a function `get_config(preset)` that returns a `ConfigDict`:
`--config=configs/lsp_lspet.py:small` loads the file and passes the text after the colon as the
preset. On the command line, `--config.FIELD=VALUE` overrides a field and
`--config.SECTION.FIELD=VALUE` a field of a section. Lists are written in Python's syntax and in
quotes: `--config.joints='("nose", "tail")'`, `--config.data='(("lspet", 1.0),)'`. Unknown fields
and values of a wrong type or out of range are rejected with an error (an integer is accepted for a
float). In Python and in notebooks, call `get_config` directly:

```python
from configs import lsp_lspet

config = lsp_lspet.get_config("small")
config.batch_size = 32
print(config.network.width, config.image_size, config.batch_size)
```

The workdir of a run records its config, and re-running the command resumes the run. After the first
checkpoint, only these fields may change:
{free}.
With another `num_epochs`, a cosine schedule continues at a different learning rate. The joints of
the data sets and the number of people in each training set must stay the same, too; `data.json` in
the workdir records the numbers.

## Fields

Every config has these fields. The defaults are those of `configs/common.py`: the paper's values
(section 4.1) where the paper states one.

| field | default | meaning |
|---|---|---|
"""

# Listed first: other configs start from the networks of these.
STARTED_FROM = ("lsp_lspet", "mpii")

MEANINGS = json.loads(pathlib.Path(__file__).with_name("field_meanings.json").read_text("utf-8"))


def flat(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Every field of a config under its dotted name."""
    found = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            found |= {f"{name}.{field}": inner for field, inner in flat(value).items()}
        else:
            found[name] = value
    return found


def fields() -> dict[str, Any]:
    """The fields that every config has, with their defaults, in the file's order."""
    defaults = flat(common.get_config())
    source = (FOLDER / "common.py").read_text(encoding="utf-8")
    first = {name: source.index(f"config.{name.split('.')[0]} =") for name in defaults}
    section = {name: list(flat_order(source, name)) for name in defaults}
    order = sorted(defaults, key=lambda name: (first[name], section[name]))
    return {name: defaults[name] for name in order}


def flat_order(source: str, name: str) -> list[int]:
    """The position of a section's field within the section; empty for other fields."""
    head, _, field = name.partition(".")
    return [source.index(f"{field}=", source.index(f"config.{head} ="))] if field else []


def presets(module: Any) -> list[str]:
    """The presets that a config file's error message lists, its default first."""
    try:
        module.get_config("?")
    except UsageError as error:
        named = re.split(r", | or ", str(error).rpartition("choose ")[2])
        (default,) = module.get_config.__defaults__
        return sorted(named, key=lambda preset: preset != default)
    raise AssertionError(f"{module.__name__} takes any preset")


def written(value: Any) -> str:
    """A value as the page shows it."""
    for joint_set, text in ((skeleton.MPII, "MPII's 16"), (skeleton.COCO, "COCO's 17")):
        if value == joint_set.joints:
            return text
    return f"`{value!r}`".replace("'", '"')


def markdown(docstring: str) -> str:
    """A docstring as Markdown: indented paragraphs are commands, lines indented by two a list."""
    parts = []
    for paragraph in docstring.strip().split("\n\n"):
        if paragraph.startswith("    "):
            parts.append(f"```sh\n{textwrap.dedent(paragraph)}\n```")
        else:
            parts.append(
                re.sub(r"(?m)^  (\w+):", r"- `\1`:", paragraph.replace(":\n  ", ":\n\n  ", 1))
            )
    return "\n\n".join(parts)


def part_on(path: pathlib.Path) -> str:
    """The page's section on one config file: its docstring, and what each preset changes."""
    module = importlib.import_module(f"configs.{path.stem}")
    lines = [f"## `configs/{path.name}`", "", markdown(module.__doc__), ""]
    names = presets(module)
    changed = {name: flat(module.get_config(name)) for name in names}
    default = fields()
    differing = [
        field for field in default if any(changed[name][field] != default[field] for name in names)
    ]
    columns = [f"`:{name}`" + (" (default)" if name == names[0] else "") for name in names]
    lines += [f"| field | {' | '.join(columns)} |", "|---" * (1 + len(names)) + "|"]
    for field in differing:
        row = " | ".join(written(changed[name][field]) for name in names)
        lines.append(f"| `{field}` | {row} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole of configuration.md."""
    rows = [
        f"| `{name}` | {written(default)} | {MEANINGS.get(name, '')} |\n"
        for name, default in fields().items()
    ]
    files = [path for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "common")]
    files.sort(key=lambda path: (path.stem not in STARTED_FROM, path.stem))
    free = textwrap.fill(", ".join(f"`{name}`" for name in FREE_FIELDS), 100)
    head = HEAD.replace("{free}", free)
    return head + "".join(rows) + "\n" + "\n".join(part_on(path) for path in files)


def main(arguments: list[str] | None = None) -> None:
    """Write the page."""
    tools.parser("configuration", __doc__).parse_args(arguments)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
