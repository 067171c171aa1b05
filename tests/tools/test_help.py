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


def test_an_error_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        tools.run(lambda: tools.jpegs(tmp_path))
    assert ended.value.code == 1
    line = f"error: {tmp_path} is not a folder with JPEGs; give another\n"
    assert capsys.readouterr().err == line


def test_jpegs_are_found_by_their_suffixes(tmp_path):
    for name in ("b.JPG", "a.jpeg", "c.png"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in tools.jpegs(tmp_path)] == ["a.jpeg", "b.JPG"]


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "many"])
def test_counts_are_whole_numbers_of_at_least_one(text, capsys):
    from tools import scaling

    with pytest.raises(SystemExit):
        scaling.main(["--devices", text])
    assert "is not a whole number of at least 1" in capsys.readouterr().err
