"""The documentation: its code runs and prints what it says, its links lead somewhere, its generated
parts are those that the code generates."""

import contextlib
import importlib
import importlib.util
import io
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from examples.five_joints import config as five_joints
from examples.five_joints.five_joints_dataset_builder import SIZE, SKELETON, Builder, figure
from jaxpose import PoseNet, cli
from jaxpose.data import prepared
from jaxpose.data.prepared import read_example
from jaxpose.training import loop
from tools import configuration, network_figure, scaling, soft_argmax_figures

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
PAGES = [ROOT / "README.md", *DOCS]
FENCE = re.compile(r"^```(\w*) ?(.*)$")
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


class Block(NamedTuple):
    """A fenced block: its language, what stands behind it, its text, and the block right after."""

    line: int
    language: str
    remark: str
    text: str
    printed: str | None


def blocks(page: pathlib.Path) -> list[Block]:
    """The fenced blocks of a page; a ``text`` block right after one is what it prints."""
    found, start, between = [], None, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if fence and start is None:
            start, head, body = number, fence, []
        elif fence:
            text = "\n".join(body) + "\n"
            if head[1] == "text" and found and not "".join(between).strip():
                found[-1] = found[-1]._replace(printed=text)
            else:
                found.append(Block(start, head[1], head[2], text, None))
            start, between = None, []
        elif start is None:
            between.append(line)
        else:
            body.append(line)
    assert start is None, f"{page}:{start}: a fence is never closed"
    return found


def python_blocks(page: pathlib.Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def missing(remark: str) -> list[str]:
    """The libraries that ``needs: a, b`` names and that are not installed."""
    names = remark.removeprefix("needs:").split(",") if remark.startswith("needs:") else []
    return [name for name in map(str.strip, names) if importlib.util.find_spec(name) is None]


def printed_by(function, *arguments) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        function(*arguments)
    return output.getvalue()


# Code


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_run_and_print_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in python_blocks(page):
        if block.remark.startswith("no-run") or missing(block.remark):
            continue
        code = compile("\n" * block.line + block.text, str(page), "exec")
        printed = printed_by(exec, code, namespace)
        if block.printed is not None:
            assert printed == block.printed, f"{page}:{block.line}"


def test_no_block_is_left_out_without_a_reason():
    wrong = [
        f"{page}:{block.line}"
        for page in PAGES
        for block in python_blocks(page)
        if not re.fullmatch(r"|needs: \w+(, \w+)*|no-run: .{10,}", block.remark)
    ]
    assert not wrong


def tool_commands(page: pathlib.Path) -> list[tuple[Block, str, list[str]]]:
    """The commands of the tools whose output a page shows: block, module and arguments."""
    found = [
        (block, re.fullmatch(r"python -m (tools\.\w+)(.*)\n", block.text))
        for block in blocks(page)
        if block.language == "sh" and block.printed is not None
    ]
    return [(block, command[1], command[2].split()) for block, command in found if command]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_of_the_documentation_print_what_the_pages_say(page):
    for block, module, arguments in tool_commands(page):
        main = importlib.import_module(module).main
        assert printed_by(main, arguments) == block.printed, f"{page}:{block.line}"


def shell_text() -> str:
    scripts = sorted((ROOT / "examples").rglob("*.sh"))
    manifests = sorted((ROOT / "examples").rglob("*.yaml"))
    inline = [block.text for page in PAGES for block in blocks(page) if block.language == "sh"]
    return "\n".join([*inline, *(path.read_text() for path in [*scripts, *manifests])])


def test_commands_that_are_shown_exist():
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as output:
        cli.main(["--help"])
    used = set(re.findall(r"^(?:\$ )?jaxpose (\w\S*)", shell_text(), re.MULTILINE))
    assert {"predict", "export"} <= used
    for name in used:
        assert re.search(rf"^    {name}\b", output.getvalue(), re.MULTILINE), name


def test_flags_and_fields_that_are_shown_exist():
    launch = (ROOT / "jaxpose" / "cli" / "launch_flags.py").read_text()
    used = re.findall(r"launch\.py((?:[^\n]*\\\n|\n {22}--)*[^\n]*)", shell_text())
    flags = set(re.findall(r"--([a-z][\w.]*)", "\n".join(used)))
    assert {"config", "coordinator", "config.batch_size"} <= flags
    fields = {flag.removeprefix("config.") for flag in flags if flag.startswith("config.")}
    assert fields <= set(configuration.fields())
    for flag in flags - {f"config.{field}" for field in fields}:
        assert f'"{flag}"' in launch, flag


# Links


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def inner_links(page: pathlib.Path) -> list[str]:
    """The targets of a page's links that are in the repository."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t for t in targets if not t.startswith(("https://", "http://", "mailto:"))]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in inner_links(page):
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page}: {target}"


def named_files(page: pathlib.Path) -> list[str]:
    """The files and folders of the repository that a page names."""
    folders = "jaxpose|docs|examples|tools|configs|tfds_builders|benchmarks|tests"
    return re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text())


@pytest.mark.parametrize("page", DOCS, ids=NAMES[1:])
def test_files_and_modules_that_are_named_exist(page):
    for name in named_files(page):
        assert (ROOT / name).exists(), f"{page}: {name}"


@pytest.mark.parametrize("of_page", [python_blocks, tool_commands, inner_links, named_files])
def test_the_pages_have_what_is_checked_page_by_page(of_page):
    """A page without any passes the tests above, so some page must have some."""
    assert any(of_page(page) for page in PAGES)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    assert not [page.name for page in DOCS if page.name != "index.md" and page.name not in index]


# Generated parts


def test_the_configuration_page_is_up_to_date():
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration.page(), (
        "run: python -m tools.configuration"
    )


def test_every_field_is_explained():
    assert set(configuration.fields()) == set(configuration.MEANINGS)


def test_the_image_of_the_network_is_up_to_date():
    assert (ROOT / "docs" / "network.svg").read_text() == network_figure.svg(), (
        "run: python -m tools.network_figure"
    )


@pytest.mark.slow
def test_the_figures_of_the_soft_argmax_are_up_to_date():
    drawn = {f"{name}.svg": draw().svg() for name, draw in soft_argmax_figures.FIGURES.items()}
    stored = {path.name: path.read_text() for path in soft_argmax_figures.FOLDER.iterdir()}
    assert stored == drawn, "run: python -m tools.soft_argmax_figures"


@pytest.mark.parametrize("draw", [network_figure.svg, lambda: soft_argmax_figures.grids().svg()])
def test_the_image_is_a_drawing_that_fetches_nothing(draw):
    drawing = draw()
    ElementTree.fromstring(drawing)
    assert not re.search(r"href|url\(http|<script|<image|@import", drawing)


def test_scaling_counts_the_published_operations():
    network = scaling.measure(PoseNet())
    assert round(network.multiply_adds / 1e9, 2) == 9.83  # reference: 7.88 + 1.65 + 0.29
    assert network.parameters == 14_669_952


def test_more_devices_never_make_a_step_faster():
    network = scaling.measure(PoseNet(num_blocks=1))
    for hardware in scaling.HARDWARE.values():
        times = [scaling.predict(network, hardware, 2**n, 8).total for n in range(10)]
        assert times == sorted(times)


# The worked example


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_figure_has_its_right_wrist_at_a_red_pixel(seed):
    example = figure(np.random.default_rng(seed))
    image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
    x, y = np.floor(example["keypoints"][SKELETON.joints.index("right_wrist")]).astype(int)
    assert 0 < x < SIZE and 0 < y < SIZE, "choose a seed whose right wrist is in the image"
    assert image[y, x].tolist() == [220, 40, 40]


@pytest.fixture(scope="module")
def five_joints_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    builder = Builder(persons={"train": 8, "validation": 4, "test": 5}, data_dir=str(folder))
    builder.download_and_prepare(file_format="array_record", download_dir=str(folder / "downloads"))
    return str(folder)


@pytest.mark.slow  # TFDS takes its time
def test_the_worked_example_is_prepared(five_joints_folder):
    split = prepared.open_split("five_joints", "test", data_dir=five_joints_folder)
    assert split.joints == five_joints.get_config().joints == SKELETON.joints
    assert (len(split.source), split.flip_pairs) == (5, SKELETON.flip_pairs)
    assert read_example(split, 0)["stored_size"] == (SIZE, SIZE)


@pytest.mark.slow
def test_the_worked_example_trains(five_joints_folder, tmp_path):
    config = five_joints.get_config()
    config.data_dir = five_joints_folder
    config.network.width = 18
    config.image_size = 32
    config.batch_size = 4
    config.num_epochs = 1
    config.eval.batch_size = 4
    result = loop.train(config, tmp_path)
    assert (result.step, result.num_steps) == (2, 2)
    assert 0 <= result.metric <= 100
