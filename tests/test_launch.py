"""The command: a mistake is one line that says what to do."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import launch
from jaxpose.checkpoints import store
from jaxpose.geometry import MPII_RULE
from jaxpose.network import initial_variables, make_net
from jaxpose.training import optimizer
from jaxpose.training.step import create_train_state
from jaxpose.training.workdir import prepare_workdir
from tests.support import small_estimator, tiny_run


@pytest.fixture(autouse=True)
def without_cache(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "off")


PHASES = {"loading JAX", "opening the data sets", "initializing the network"}


def fails(capsys, argv, says, status=1):
    """The command exits with `status` and one line of error, which has these words."""
    assert launch.main(argv) == status
    *before, line = capsys.readouterr().err.splitlines()
    assert {text.partition(":")[0] for text in before} <= PHASES | {"evaluating the test data"}
    assert line.startswith("error: ")
    assert says in line


def test_help_names_the_flags(capsys):
    assert launch.main(["launch.py", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--workdir" in shown and "--mode" in shown and "python launch.py --config" in shown


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"foo": 1}, "the config has no field 'foo'; the fields are in configs/common.py"),
        ({"network__depth": 1}, "the config has no field 'network.depth'; the fields are in"),
        ({"batch_siz": 8}, "no field 'batch_siz'; did you mean batch_size?; the fields"),
        (
            {"optimizer__learning_rte": 1},
            "no field 'optimizer.learning_rte'; did you mean optimizer.learning_rate?",
        ),
        ({"batch_size": "many"}, "--config.batch_size=many"),
        (
            {"optimizer": "adam"},
            "config.optimizer has several fields; set one, as --config.optimizer.FIELD=VALUE",
        ),
        ({"plateau": "{'factor': 0.5}"}, "the config lacks the field plateau.patience; set single"),
        ({"batch_size": 6}, "batch_size 6 is not divisible by the number of devices (4); use 8"),
        ({"image_size": 40}, "image_size 40 is not divisible by 32"),
        (
            {"data": "(('lsp/person_centric', 1.0),)"},
            "prepare it with its builder (`python -m tfds_builders`",
        ),
        ({"network__width": 20}, "width is 20; it must be a multiple of 18"),
        ({"workers": -1}, "workers is -1; it must be from 0 to 1024"),
        ({"workers": -1, "mode": "eval"}, "workers is -1; it must be from 0 to 1024"),
        ({"seed": 10**20}, "seed is 100000000000000000000; it must be from 0 to 4294967295"),
        ({"init_from": "nowhere"}, "no checkpoint in nowhere"),
    ],
)
def test_fields(capsys, tmp_path, people, fields, says):
    wrong_usage = any(part in says for part in ("no field", "many", "several fields"))
    fails(capsys, tiny_run.command(tmp_path, people, **fields), says, 2 if wrong_usage else 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--config": "configs/synthetic.py:huge"}, "no preset 'huge'; choose small or tiny"),
        ({"--config": "configs/nothing.py"}, "No such file or directory: 'configs/nothing.py'"),
        ({"--config": None}, "--config is missing"),
        ({"--workdir": None}, "--workdir is missing"),
        ({"--mode": "test"}, "--mode=test"),
        ({"--wrkdir": "x"}, "Did you mean: workdir"),
        ({"more": ""}, "unknown argument 'more='"),
        ({"--checkpoint": "x"}, "--checkpoint is for --mode=eval"),
        ({"--num_processes": "2"}, "--coordinator, --num_processes and --process_id together"),
        ({"--num_processes": "0"}, "--num_processes=0: 0 is not a positive integer"),
        ({"--process_id": "-1"}, "--process_id=-1: -1 is not a non-negative integer"),
        ({"--heartbeat_seconds": "0"}, "--heartbeat_seconds=0: 0 is not a positive integer"),
        ({"--profile_steps": "-3"}, "--profile_steps=-3: -3 is not a non-negative integer"),
        ({"--workdir": ""}, "--workdir is empty; give the folder of the run"),
    ],
)
def test_arguments(capsys, tmp_path, changes, says):
    arguments = {"--config": "configs/synthetic.py:tiny", "--workdir": str(tmp_path), **changes}
    given = [f"{name}={value}" for name, value in arguments.items() if value is not None]
    fails(capsys, ["launch.py", *given], says, 1 if "No such file" in says else 2)


def launch_file(tmp_path, capsys, text):
    """Launch with a config file of that text; the status, stdout and stderr."""
    (tmp_path / "mine.py").write_text(text)
    argv = ["launch.py", f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'run'}"]
    status = launch.main(argv)
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("statement", "last"),
    [
        ("raise ValueError('a wrong value')", "ValueError: a wrong value"),
        ("raise TypeError('a wrong type')", "TypeError: a wrong type"),
        ("undefined", "NameError: name 'undefined' is not defined"),
        ("[].missing", "AttributeError: 'list' object has no attribute 'missing'"),
        ("{}['missing']", "KeyError: 'missing'"),
        ("open('mine.py/missing')", "Not a directory: 'mine.py/missing'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
@pytest.mark.parametrize("place", ["get_config", "top level"])
def test_an_exception_in_a_config_file_shows_its_own_traceback(
    capsys, tmp_path, monkeypatch, statement, last, place
):
    monkeypatch.chdir(tmp_path)
    indent = "    " if place == "get_config" else ""
    start = "def get_config():" if place == "get_config" else "import math"
    status, _, said = launch_file(tmp_path, capsys, f"{start}\n{indent}{statement}\n")
    assert status == 1
    lines = said.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{tmp_path}/mine.py", line 2')  # no frame of a library
    assert lines[-1].endswith(last)
    assert "error: " not in said and "ml_collections" not in said


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("num_epoch = 50", "'num_epoch'; did you mean num_epochs?"),
        ("optimizer.learningrate = 1.0", "'learningrate'; did you mean learning_rate?"),
        ("augmentation.update(rotaton=3.0)", "'rotaton'; did you mean rotation?"),
        ("of_my_own = True", "'of_my_own'; the fields are in configs/common.py"),
    ],
)
def test_a_field_that_a_config_file_misspells_is_named_with_its_line(
    capsys, tmp_path, statement, says
):
    text = (
        "from configs import synthetic\n"
        "def get_config():\n"
        "    config = synthetic.get_config('tiny')\n"
        f"    config.{statement}\n"
        "    return config\n"
    )
    status, _, said = launch_file(tmp_path, capsys, text)
    assert status == 2 and len(said.splitlines()) == 1
    assert f"error: {tmp_path}/mine.py, line 4: the config has no field {says}" in said


def test_a_config_file_that_does_not_compile_shows_the_line(capsys, tmp_path):
    status, _, said = launch_file(tmp_path, capsys, "def get_config(:\n")
    assert status == 1
    assert f'File "{tmp_path}/mine.py", line 1' in said and "SyntaxError" in said.splitlines()[-1]


def test_a_config_file_without_get_config_is_a_line(capsys, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # loaded into it again
    status, _, said = launch_file(tmp_path, capsys, "")
    assert status == 2 and said.startswith("error: the --config file does not define get_config()")


def test_stdout_escapes_names_that_its_encoding_lacks(tmp_path):
    workdir = tmp_path / "gr\u00f6\u00dfe"
    code = f"import launch\nlaunch.run = lambda _: print({str(workdir)!r})\nlaunch.parse = id\n"
    code += "import sys\nsys.exit(launch.main([]))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tiny_run.ROOT, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.rstrip().endswith(rb"gr\xf6\xdfe")


def test_nothing_to_evaluate(capsys, tmp_path, people):
    fails(capsys, tiny_run.command(tmp_path, people, mode="eval"), f"no checkpoint in {tmp_path}")


def test_a_folder_below_a_file(capsys, tmp_path, people):
    (tmp_path / "file").write_text("")
    fails(capsys, tiny_run.command(tmp_path / "file" / "run", people), "cannot be written")


def held(tmp_path, people, **fields):
    """The folder as the same command would hold it."""
    config = tiny_run.config(tmp_path, people, **fields).to_dict()
    return prepare_workdir(tmp_path, config)


def test_a_workdir_of_another_config(capsys, tmp_path, people):
    with held(tmp_path, people, batch_size=16) as folder:
        (folder / "checkpoints" / "latest" / "6").mkdir(parents=True)
    fails(
        capsys,
        tiny_run.command(tmp_path, people),
        "batch_size is 16 in the workdir but 8 in this command",
    )


def test_a_start_that_failed_does_not_refuse_the_corrected_command(capsys, tmp_path, people):
    wrong = {"data": "(('lsp/person_centric', 1.0),)", "image_size": 64}
    fails(capsys, tiny_run.command(tmp_path, people, **wrong), "is not prepared in")
    with held(tmp_path, people) as folder:
        assert folder == tmp_path


def test_two_launches_on_one_workdir(capsys, tmp_path, people):
    with held(tmp_path, people):
        fails(capsys, tiny_run.command(tmp_path, people), f"(process {os.getpid()}) is using")


def test_a_checkpoint_of_another_network(capsys, tmp_path, people):
    config = tiny_run.config(tmp_path, people)
    variables = initial_variables(make_net({**config.network, "num_joints": 16, "width": 36}), 0)
    sgd = optimizer.make_optimizer("sgd", lambda step: 0.1)
    state = create_train_state(variables, sgd, ema=False)
    metadata = small_estimator.METADATA._replace(crop=MPII_RULE)
    manager = store.open_manager(tmp_path / "checkpoints" / "latest", keep=1)
    store.save(manager, 1, state._replace(step=np.int32(1)), metadata)
    store.finish(manager)
    fails(capsys, tiny_run.command(tmp_path, people), "batch_stats/block1_a/level1/main/norm/mean")


def start(workdir, people, cache, **fields):
    """The command as a person starts it, on two virtual devices."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    log = (workdir.parent / f"{workdir.name}.log").open("a")
    command = [sys.executable, *tiny_run.command(workdir, people, **fields)]
    with log:
        return subprocess.Popen(
            command, env=environment, cwd=tiny_run.ROOT, stdout=log, stderr=subprocess.STDOUT
        )


def finished(workdir, people, cache, **fields):
    """Run the command to its end; its status and what it said."""
    with start(workdir, people, cache, **fields) as process:
        try:
            status = process.wait(timeout=900)
        finally:
            process.kill()
    return status, (workdir.parent / f"{workdir.name}.log").read_text()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_start_tells_its_phases_in_order_until_the_first_step(tmp_path, people, cache):
    status, said = finished(tmp_path / "run", people, cache, num_epochs=1)
    assert status == 0, said
    phases = ["loading JAX", "opening the data sets", "initializing the network"]
    phases += ["reading the first batch", "compiling the training step"]
    lines = [line for line in said.splitlines() if " s so far" not in line]
    assert lines.pop(3).startswith("metric: PCK@0.2 (lsp-pck) of synthetic_people/tiny:validation")
    assert lines[:5] == phases and lines[5].startswith("step 2/6: loss")


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_rate_that_is_too_high_names_the_step(tmp_path, people, cache):
    fields = {"optimizer__name": "sgd", "optimizer__learning_rate": 1e20}
    status, said = finished(tmp_path / "run", people, cache, **fields)
    line = said.splitlines()[-1]
    assert status == 1 and "Traceback" not in said
    assert line.startswith("error: ") and "not finite at step" in line and "learning_rate" in line


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_another_network_starts_from_a_run_and_goes_on_without_it(tmp_path, people, cache):
    """One more block; and a resume needs the source no more."""
    assert finished(tmp_path / "source", people, cache, num_epochs=1)[0] == 0
    fields = {"network__num_blocks": 2, "init_from": tmp_path / "source", "num_epochs": 1}
    status, said = finished(tmp_path / "run", people, cache, **fields)
    assert status == 0, said
    assert "variables copied" in said
    assert "params/block2_b/heatmaps keeps its initial values: absent in the checkpoint" in said
    shutil.rmtree(tmp_path / "source")
    status, said = finished(tmp_path / "run", people, cache, **fields | {"num_epochs": 2})
    assert status == 0, said
    assert "resumed at step 6 of 12" in said and "done at step 12 of 12" in said
