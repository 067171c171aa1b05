"""The documented commands run as printed, in a fresh clone and with an empty home folder.

These are the shell blocks of README.md and docs/*.md, the training commands in the tables of
README.md and docs/reproduce.md, and the Python blocks that need a photo, which tests/test_docs.py
leaves out.

What stands for something of the reader's own (PATH), and what would take hours, is replaced by the
table REPLACED; the rest of a command runs as it is printed. EXCLUDED names what does not run.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from jaxpose.skeleton import LSP
from tests.support.launches import free_port
from tests.test_docs import PAGES, ROOT, blocks, python_blocks

# Commands that do not run here, and why.
EXCLUDED = {
    "jaxpose calibrate small calibrated.npz --data mpii/crops:validation": "needs MPII images",
    "python -m benchmarks.people --mpii PATH --no_person DIR": "needs MPII images",
    "make demo": "minutes of training; its two commands are those of docs/configuration.md",
    "jaxpose predict photos --detector detectors:people": "downloads the weights of a detector",
    "python launch.py --config=configs/mpii.py --workdir=gs://BUCKET/runs/mpii "
    "--config.data_dir=gs://BUCKET/data --config.init_from=gs://BUCKET/runs/lsp": (
        "needs a bucket; tests/training/test_object_storage.py has one"
    ),
    "python -m tfds_builders lspet/corrected --source PATH": "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base192 "
    "--config.init_from=runs/base128 --config.network.num_blocks=3 --config.image_size=192 "
    "--config.num_epochs=4 --config.optimizer.learning_rate=5e-4 --config.heatmap_weight=0.1 "
    '--config.data=\'(("lsp/person_centric",3.0),("lsp/person_centric",3.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",3.0),("coco/parse",4.0),'
    '("lspet/corrected",1.0),("backgrounds",5.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base192k4 "
    "--config.init_from=runs/base192 --config.network.num_blocks=4 --config.image_size=192 "
    "--config.num_epochs=8 --config.optimizer.learning_rate=4e-4 --config.heatmap_weight=0.1 "
    '--config.data=\'(("lsp/person_centric",3.0),("lsp/person_centric",3.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",3.0),("coco/parse",4.0),'
    '("lspet/corrected",1.0),("backgrounds",5.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base256 "
    "--config.init_from=runs/base192k4 --config.network.num_blocks=3 --config.image_size=256 "
    "--config.num_epochs=3 --config.optimizer.name=muon --config.optimizer.learning_rate=6e-4 "
    "--config.heatmap_weight=0.1 "
    '--config.data=\'(("lsp/person_centric",3.0),("lsp/person_centric",3.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",3.0),("coco/parse",4.0),'
    '("lspet/corrected",1.0),("backgrounds",5.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base256b "
    "--config.init_from=runs/base256 --config.network.num_blocks=3 --config.network.window=7 "
    "--config.image_size=256 --config.num_epochs=1 --config.optimizer.name=muon "
    "--config.optimizer.learning_rate=3e-4 --config.heatmap_weight=0.3 "
    "--config.augmentation.color=0.4 --config.augmentation.erase=0.4 "
    "--config.augmentation.stray=0.05 --config.augmentation.turned=0.05 "
    '--config.data=\'(("lsp/person_centric",2.0),("lsp/person_centric",2.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",2.0),("coco/parse",3.0),'
    '("lspet/corrected",0.7),("backgrounds",3.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base192b "
    "--config.init_from=runs/base256b --config.network.num_blocks=3 --config.network.window=5 "
    "--config.image_size=192 --config.num_epochs=4 --config.optimizer.name=muon "
    "--config.optimizer.learning_rate=8e-4 --config.heatmap_weight=0.3 "
    "--config.augmentation.color=0.4 --config.augmentation.erase=0.4 "
    "--config.augmentation.stray=0.05 --config.augmentation.turned=0.05 "
    '--config.data=\'(("lsp/person_centric",2.0),("lsp/person_centric",2.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",2.5),("coco/parse",3.0),'
    '("lspet/corrected",1.2),("backgrounds",3.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base256c "
    "--config.init_from=runs/base192b --config.network.num_blocks=3 --config.network.window=7 "
    "--config.image_size=256 --config.num_epochs=1 --config.optimizer.name=muon "
    "--config.optimizer.learning_rate=4e-4 --config.seed=13 --config.heatmap_weight=0.3 "
    "--config.augmentation.color=0.4 --config.augmentation.erase=0.4 "
    "--config.augmentation.stray=0.05 --config.augmentation.turned=0.05 "
    '--config.data=\'(("lsp/person_centric",2.0),("lsp/person_centric",2.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",2.5),("coco/parse",3.0),'
    '("lspet/corrected",1.2),("backgrounds",3.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/base256d "
    "--config.init_from=runs/base256c --config.network.num_blocks=3 --config.network.window=7 "
    "--config.image_size=256 --config.num_epochs=2 --config.frozen_norm=True --config.seed=15 "
    "--config.optimizer.name=muon --config.optimizer.learning_rate=6e-4 "
    "--config.heatmap_weight=0.3 --config.augmentation.color=0.4 "
    "--config.augmentation.erase=0.4 --config.augmentation.stray=0.05 "
    "--config.augmentation.turned=0.05 "
    '--config.data=\'(("lsp/person_centric",2.0),("lsp/person_centric",2.0,"image"),'
    '("mpii/crops",3.0),("coco/persons",2.5),("coco/parse",3.0),'
    '("lspet/corrected",1.2),("backgrounds",3.0,"image"))\'': "needs LSPET",
    "python launch.py --config=configs/clean.py:small --workdir=runs/ablation "
    "--config.init_from=runs/small128 --config.num_epochs=1 "
    "--config.optimizer.learning_rate=4e-4 --config.report=False": "needs LSPET",
    "pip install pre-commit && pre-commit install": "needs pre-commit, which is not installed",
    "jaxpose export small pose.onnx": "needs the extra onnx; tests/test_export.py runs it",
}
PORT = free_port()
SMALL_NETWORK = " --config.network.width=18 --config.network.num_blocks=1"
SMALL_RUN = (
    " --config.dtype=float32 --config.image_size=32 --config.batch_size=2 --config.num_epochs=1"
    " --config.eval.batch_size=2 --config.log_every_steps=1"
)
# (pattern, replacement), applied in this order to the text of a command.
REPLACED = [
    # What the reader has.
    (
        r"(tfds_builders (lsp|lspet|mpii)\b\S* --source )PATH( MORE)?",
        r"\1tfds_builders/\2/dummy_data",
    ),
    (r"(COCO|PARSE|ANNOTATIONS)\.json --images DIR", "people.json --images people"),
    (r"--images COCO\b", "--images tfds_builders/coco/dummy_data"),
    (r"=COCO/", "=tfds_builders/coco/dummy_data/"),
    (r"(backgrounds --source) DIR", r"\1 people"),
    (r"/shared/runs", "runs"),
    # Two hosts become one.
    (r"HOST_OF_PROCESS_0:8476 --num_processes=2", f"127.0.0.1:{free_port()} --num_processes=1"),
    # Hours and minutes become seconds.
    (r"(examples\.dogs .*--images) 200", r"\1 120"),
    (r"(launch\.py (?!.*configs/own\.py).*?)(\s*#.*)?$", rf"\1{SMALL_NETWORK}\2"),
    (r"(launch\.py .*?)(\s*#.*)?$", rf"\1{SMALL_RUN}\2"),
    (r"(launch\.py .*five_joints.*)--config\.batch_size=2", r"\1--config.batch_size=400"),
    (r"(launch\.py --config=configs/synthetic\.py)", r"\1:tiny"),
    (r"(tfds_builders synthetic_people)", r"\1/tiny"),
    # The environment of the tests stays as it is, and a port that is taken is left alone.
    (r"^pip install", "pip install --dry-run --quiet --no-deps --no-build-isolation"),
    (r"^jaxpose demo", f"jaxpose demo --port {PORT}"),
    (r"127\.0\.0\.1:8000", f"127.0.0.1:{PORT}"),
]
SERVERS = {
    "jaxpose demo": f"open http://127.0.0.1:{PORT}/"
}  # run until Ctrl-C, and what they print
# Pages whose commands use what those of other pages made.
NEEDS = {
    "docs/configuration.md": ["README.md"],
    "docs/prediction.md": ["README.md", "docs/configuration.md"],
    "docs/clusters.md": ["docs/configuration.md"],
    "docs/faq.md": ["README.md"],
    "docs/results.md": ["docs/configuration.md"],
}
SECONDS = 300  # that a command may take on a busy machine
CLONED = (
    *("configs", "docs", "examples", "jaxpose", "tfds_builders", "tools", "launch.py", "Makefile"),
    *("pyproject.toml", "requirements.lock", "README.md", "LICENSE"),
)
SCRIPTS = {
    "python": f'exec {sys.executable} "$@"',
    "pip": f'exec {sys.executable} -m pip "$@"',
    "jaxpose": f'exec {sys.executable} -m jaxpose "$@"',
}


def commands(page: pathlib.Path) -> list[str]:
    """The commands of a page's shell blocks, one per line; a backslash joins two lines."""
    found = []
    for block in blocks(page):
        if block.language in ("sh", "bash", "shell", "console"):
            lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
            found += [line for line in lines if line.strip() and not line.startswith("#")]
    if page.name in ("README.md", "reproduce.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        found += re.findall(r"`(python launch\.py [^`]+)`", text)
    return found


def excluded(command: str) -> bool:
    return command.partition("#")[0].strip() in EXCLUDED


def replaced(command: str) -> str:
    for pattern, text in REPLACED:
        command = re.sub(pattern, text, command)
    return command


BY_PAGE = {page.relative_to(ROOT).as_posix(): commands(page) for page in PAGES}
SNIPPETS = {
    page.relative_to(ROOT).as_posix(): [
        block.text for block in python_blocks(page) if re.match("no-run: .*photo", block.remark)
    ]
    for page in PAGES
}
WITH_COMMANDS = [name for name in BY_PAGE if BY_PAGE[name] or SNIPPETS[name]]


class Clone(NamedTuple):
    """A fresh clone with its environment, and the pages whose commands have run."""

    folder: pathlib.Path
    environment: dict[str, str]
    pages: set[str]

    def start(self, command: str) -> subprocess.Popen:
        """The command as a person starts it, in a process group of its own."""
        return subprocess.Popen(
            ["bash", "-c", replaced(command)], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> str:
        """What a command prints; fail where it fails."""
        process = self.start(command)
        try:
            printed, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            printed += f"\nstill running after {SECONDS} s"
        assert process.returncode == 0, f"{command}\n(as {replaced(command)})\n{printed}"
        assert "does not provide the extra" not in printed, printed
        return printed

    def run_page(self, name: str) -> None:
        """Every command of a page once, those of the pages that it needs before."""
        if name in self.pages:
            return
        self.pages.add(name)
        for needed in NEEDS.get(name, ()):
            self.run_page(needed)
        servers = []
        try:
            for command in BY_PAGE[name]:
                bare = command.partition("#")[0].strip()
                if excluded(command):
                    continue
                if bare in SERVERS:
                    servers.append(self.start(command))
                    lines = iter(servers[-1].stdout.readline, "")
                    assert any(line.startswith(SERVERS[bare]) for line in lines), command
                else:
                    start = time.monotonic()
                    printed = self.run(command)
                    print(f"{time.monotonic() - start:4.0f} s: {command}")
                    if bare.startswith("curl"):
                        answers = '"joints":[{"name"', '"annotations":'
                        assert any(answer in printed for answer in answers), printed
            for number, snippet in enumerate(SNIPPETS[name]):
                (self.folder / f"snippet{number}.py").write_text(snippet)
                self.run(f"python snippet{number}.py")
            for server in servers:
                os.killpg(server.pid, signal.SIGINT)
                assert server.wait(timeout=60) == 0
        finally:
            for server in servers:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGKILL)
                server.communicate()


def write_people(folder: pathlib.Path) -> None:
    """An annotation file in COCO's format, people.json, of twelve images in people/."""
    (folder / "people").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(12):
        name = f"d{number}.jpg"  # of which --holdout 0.1 takes three
        Image.fromarray(rng.integers(0, 256, (64, 48, 3), np.uint8)).save(folder / "people" / name)
        images.append({"id": number, "file_name": name, "width": 48, "height": 64})
        points = rng.integers(4, 44, (len(LSP.joints), 2))
        keypoints = np.concatenate([points, np.full((len(points), 1), 2)], axis=1).ravel().tolist()
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [4, 4, 40, 40]}
            | {"keypoints": keypoints, "area": 1600, "iscrowd": 0}
        )
    category = {"id": 1, "name": "person", "keypoints": list(LSP.joints), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    for name in CLONED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)
    # The environment that `make setup` would make, of this Python and its libraries.
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in SCRIPTS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    (folder / ".venv" / ".installed").touch()
    # What the reader has.
    person = ROOT / "tfds_builders" / "lsp" / "dummy_data" / "images" / "im0001.jpg"
    (folder / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        with Image.open(person) as image:
            image.resize((480, 640)).save(folder / name)
    write_people(folder)
    boxes = {name: [[100.0, 40.0, 280.0, 560.0]] for name in ("photos/a.jpg", "photos/b.jpg")}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    home = tmp_path_factory.mktemp("home")
    environment = {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "LANG": "C.UTF-8",
    }
    return Clone(folder, environment, set())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_page_run_as_printed(name, clone):
    clone.run_page(name)


def test_each_command_that_does_not_run_is_documented_and_has_its_reason():
    shown = {command.partition("#")[0].strip() for found in BY_PAGE.values() for command in found}
    assert set(EXCLUDED) <= shown
    assert all(len(reason) > 10 for reason in EXCLUDED.values())


def test_each_replacement_is_needed():
    shown = [command for found in BY_PAGE.values() for command in found]
    for number, (pattern, _) in enumerate(REPLACED):
        for command in shown:
            for before, text in REPLACED[:number]:
                command = re.sub(before, text, command)
            if re.search(pattern, command):
                break
        else:
            pytest.fail(f"{pattern} matches no command")
