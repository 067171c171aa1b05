"""The command: what it prints and how it leaves, in a process of its own where that matters."""

import json
import os
import re
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpose import __version__, cli
from jaxpose.checkpoints import DEFAULT_NETWORK
from jaxpose.cli.commands import COMMANDS
from jaxpose.cli.exits import run_command
from jaxpose.evaluation.protocols import PROTOCOLS
from jaxpose.predict.search import MIN_SCORE

COMMAND = [sys.executable, "-m", "jaxpose"]


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture
def predictions(tmp_path):
    path = tmp_path / "predictions.npz"
    truth = np.random.default_rng(0).uniform(0, 100, (5, 14, 2))
    np.savez(path, prediction=truth, ground_truth=truth, description="whole image")
    return path


def test_version():
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"jaxpose {__version__}\n")


def test_version_loads_no_library():
    code = "import sys, jaxpose.cli; print(sorted({'jax', 'numpy', 'flax'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("name", PROTOCOLS)  # the command's module does not load them
def test_help_names_every_protocol(name, capsys):
    with pytest.raises(SystemExit):
        cli.main(["score", "--help"])
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("command", ["predict", "demo", "visualize"])
def test_help_names_the_default_network(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert f"(default: {DEFAULT_NETWORK})" in " ".join(capsys.readouterr().out.split())


def test_help_names_the_default_minimum_score(capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    assert f"(default: {MIN_SCORE} " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["lsp-pck", "lsp-pcp"])
def test_score_prints_the_table(name, predictions, capsys):
    assert cli.main(["score", name, str(predictions)]) == 0
    out = capsys.readouterr().out
    assert "5 persons: whole image" in out and "predictions.npz  100.00" in out
    assert "Our method" not in out


def test_paper_adds_the_papers_rows(predictions, capsys):
    cli.main(["score", "lsp-pck", str(predictions), "--paper"])
    out = capsys.readouterr().out
    assert "Table 1: LSP test, observer-centric" in out and "Table 3" in out
    assert re.search(r"Our method \(regression\) +97.5 +93.3 .* 91.1\n", out)


def test_separated_scores_the_persons_that_the_file_marks(predictions, capsys):
    arrays = dict(np.load(predictions, allow_pickle=False))
    np.savez(predictions, separated=np.arange(5) > 1, **arrays)
    assert cli.main(["score", "lsp-pck", str(predictions), "--separated"]) == 0
    assert "3 persons: whole image, separated persons" in capsys.readouterr().out


def test_json_holds_the_result_and_the_papers_rows(predictions, capsys):
    cli.main(["score", "lsp-pcp", str(predictions), "--json", "--paper"])
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == 100.0 and found["description"] == "whole image"
    assert {row["table"] for row in found["paper"]} == {2, 4}


WRONG = {
    "no command": ([], "COMMAND.*--help"),
    "an unknown command": (["scroe"], "scroe.*--help"),
    "an unknown option": (["score", "lsp-pck", "x.npz", "--jason"], "--jason.*--help"),
    "no number": (["demo", "--port", "eighty"], "invalid int value: 'eighty'.*--help"),
    "a missing file": (["score", "lsp-pck", "absent.npz"], "absent.npz"),
    "an unknown protocol": (["score", "pck", "absent.npz"], "'pck'.*lsp-pck"),
    "an address": (["score", "lsp-pck", "gs://b/x.npz"], "gs://b/x.npz is a URL, not a local"),
    "a file for a folder": (["convert", "w.h5", "out.npz"], "out.npz is the name of a file"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_line_and_status_1_or_of_arguments_2(arguments, message, capsys):
    assert cli.main(arguments) == (2 if message.endswith("--help") else 1)
    printed = capsys.readouterr()
    assert re.fullmatch(rf"error: .*{message}.*\n", printed.err) and printed.out == ""


ADDRESS = "s3://bucket/x"
TAKE_PATHS = {
    "predict": [[ADDRESS], ["a.jpg", "-o", ADDRESS], ["a.jpg", "--boxes", ADDRESS],
                ["a.jpg", "--checkpoint", ADDRESS]],
    "visualize": [[ADDRESS, "a.jpg"], ["net", ADDRESS], ["net", "a.jpg", "-o", ADDRESS]],
    "calibrate": [[ADDRESS, "x.npz"], ["net", ADDRESS], ["net", "x.npz", "--data_dir", ADDRESS]],
    "score": [["lsp-pck", ADDRESS]],
    "convert": [[ADDRESS, "out"], ["w.h5", ADDRESS]],
    "pack": [[ADDRESS, "x.npz"], ["net", ADDRESS]],
    "export": [[ADDRESS, "x.jax"], ["net", ADDRESS]],
    "demo": [["--checkpoint", ADDRESS]],
}  # fmt: skip


@pytest.mark.parametrize("command", [command.__name__.split(".")[-1] for command in COMMANDS])
def test_every_path_of_every_command_refuses_an_address(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in TAKE_PATHS[command]:
        assert cli.main([command, *arguments]) == 1
        assert f"{ADDRESS} is a URL, not a local path" in capsys.readouterr().err
    assert not os.listdir()


def test_options_may_stand_between_positional_arguments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["visualize", "small", "-o", "out", "absent.jpg"],
        ["visualize", "-o", "out", "small", "absent.jpg"],
        ["predict", "absent.jpg", "--json", "absent.jpg"],
    ):
        assert cli.main(arguments) == 1
        assert "absent.jpg" in capsys.readouterr().err
    assert cli.main(["visualize", "-o", "out"]) == 2
    assert "PHOTO" in capsys.readouterr().err


def test_every_option_may_be_spelled_with_dashes(capsys):
    for command in TAKE_PATHS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        options = re.findall(r"--[\w-]+", capsys.readouterr().out)
        assert options and not [name for name in options if "-" in name[2:]]


def test_a_reader_who_leaves_gets_no_traceback(predictions):
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = subprocess.run(
        [*COMMAND, "score", "lsp-pck", str(predictions)],
        stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    os.close(write_end)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line(predictions):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, "score", "lsp-pck", str(predictions)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (result.returncode, result.stderr) == (1, "error: No space left on device\n")


@pytest.mark.parametrize(
    ("allocate", "cause"),
    [
        (lambda: jnp.zeros(2**44), "RESOURCE_EXHAUSTED: Out of memory"),  # 64 TiB
        (lambda: np.ones(2**54), "Unable to allocate 128. PiB"),
    ],
    ids=["JAX", "NumPy"],
)
def test_too_little_memory_is_one_line(allocate, cause, capsys):
    assert run_command(allocate) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: not enough memory ({cause}")
    assert line.endswith("use smaller batches, smaller images or a smaller network")


def test_ctrl_c_leaves_with_130_and_no_traceback():
    code = (
        "import signal, sys, time\n"
        "from jaxpose.cli import main\n"
        "from jaxpose.evaluation import labeled_predictions\n"
        # Shells start background jobs with SIGINT ignored, and the tests may be one.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(path, **options):\n"
        "    print('reading', flush=True)\n"
        "    time.sleep(60)\n"
        "labeled_predictions.read_predictions = wait\n"
        "sys.exit(main(['score', 'lsp-pck', 'predictions.npz']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "reading\n"
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, error) == (130, "interrupted\n")


# --- metrics that others published ------------------------------------------------------------


def expected_and_found(shared, file, protocol):
    expected = json.loads((shared / "golden" / f"{file}_expected.json").read_text())
    result = run("score", protocol, shared / "golden" / f"{file}.npz", "--json")
    assert result.returncode == 0, result.stderr
    return expected, json.loads(result.stdout)


def close(found, expected):
    assert found == pytest.approx(expected, abs=0.005)


def per_part(found, key):
    return {name: part[key] for name, part in found["parts"].items()}


def test_mpii_golden_file(shared):
    expected, found = expected_and_found(shared, "mpii_pckh", "mpii-pckh")
    assert found["persons"] == expected["number_of_samples"] and found["persons_left_out"] == 0
    close(per_part(found, "rate"), expected["rate_per_joint"])
    assert per_part(found, "correct") == expected["correct_per_joint"]
    assert per_part(found, "counted") == expected["labelled_per_joint"]  # old spelling
    assert found["not_labeled"] == 3088
    head_top = {"head_top_only": found["parts"]["head_top"]["rate"]}
    close(found["columns"] | head_top, expected["rate_per_group"])
    close(found["mean_of_rates"], expected["mean_of_joint_rates_14"])
    close(found["total"], expected["pooled_14"])
    close(found["pooled"], expected["pooled_14"])
    close(found["upper_body"], expected["pooled_upper_body_6"])
    close(found["at_threshold"], expected["pooled_14_at_threshold"])


def test_lsp_golden_file_by_pck(shared):
    expected, found = expected_and_found(shared, "lsp_oc", "lsp-pck")
    assert found["persons"] == expected["number_of_samples"] and found["persons_left_out"] == 0
    expected = expected["pck"]
    close(per_part(found, "rate"), expected["rate_per_joint"])
    close(found["columns"], expected["rate_per_group"])
    close(found["total"], expected["mean"])
    at_threshold = {f"{float(t):g}": rate for t, rate in expected["mean_at_threshold"].items()}
    close(found["at_threshold"], at_threshold)


def test_lsp_golden_file_by_pcp(shared):
    expected, found = expected_and_found(shared, "lsp_oc", "lsp-pcp")
    close(per_part(found, "rate"), expected["pcp_strict"]["rate_per_stick"])
    close(found["columns"], expected["pcp_strict"]["rate_per_group"])
    close(found["total"], expected["pcp_strict"]["mean"])
    assert found["parts"]["right_lower_leg"]["counted"] == 1000  # one of them has no length
