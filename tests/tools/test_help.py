"""Each tool describes itself, and rejects an unknown option before it does anything."""

import importlib
import pathlib

import pytest

import tools

FILES = pathlib.Path(tools.__file__).parent.glob("*.py")
COMMANDS = sorted(file.stem for file in FILES if "__main__" in file.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_unknown_options(name, capsys):
    tool = importlib.import_module(f"tools.{name}")
    with pytest.raises(SystemExit) as ended:
        tool.main(["--help"])
    assert ended.value.code == 0
    assert tool.__doc__.split("\n")[0][:40] in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        tool.main(["--no-such-option"])
    assert ended.value.code == 2
