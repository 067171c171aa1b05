"""Phases of a start: announced at once, repeated while they last, silent afterward."""

import os
import subprocess
import sys
import time

import pytest

from jaxpose.runtime import phases


def test_a_phase_is_announced_at_once_and_once(capsys):
    with phases.phase("loading"):
        assert capsys.readouterr().err == "loading\n"
    assert capsys.readouterr().err == ""


def test_a_long_phase_says_how_long_it_has_taken(monkeypatch):
    monkeypatch.setattr(phases, "EVERY_SECONDS", 0.01)
    said = []
    with phases.phase("compiling", log=said.append):
        while len(said) < 3:
            time.sleep(0.01)
    count = len(said)
    assert said[:3] == ["compiling", "compiling: 0 s so far", "compiling: 0 s so far"]
    time.sleep(0.05)
    assert len(said) == count


def test_an_error_ends_a_phase(monkeypatch):
    monkeypatch.setattr(phases, "EVERY_SECONDS", 0.01)
    said = []
    with pytest.raises(ZeroDivisionError), phases.phase("failing", log=said.append):
        while len(said) < 2:
            time.sleep(0.01)
        raise ZeroDivisionError
    count = len(said)
    time.sleep(0.05)
    assert len(said) == count


def test_commands_tell_their_phases_on_a_terminal_and_nowhere_else(monkeypatch, capsys):
    phases.to_terminal("loading")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    phases.to_terminal("loading")
    assert capsys.readouterr().err == "loading\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_command_tells_what_it_does_within_seconds(tmp_path):
    """On a pseudo-terminal, before JAX is loaded."""
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "jaxpose", "visualize", "absent.jpg"]
    with subprocess.Popen(command, stderr=terminal, stdout=subprocess.PIPE) as process:
        os.close(terminal)
        assert os.read(reader, 100).startswith(b"loading JAX")
        process.communicate()
    os.close(reader)
    assert process.returncode == 1
