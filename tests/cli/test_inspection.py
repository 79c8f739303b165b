"""`headrace inspect` and `headrace init` as users type them."""

import sys
from pathlib import Path

import pytest

from tests.helpers.processes import call, error_lines, finish, start

ROWS = "".join(f"This is text number {n} of them,{'ab'[n % 2]},{n}\n" for n in range(60))


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tickets.csv").write_text("note,kind,id\n" + ROWS)


def test_inspect_writes_nothing() -> None:
    status, out, err = call("inspect", "tickets.csv")
    assert (status, err) == (0, "")
    assert out.startswith("tickets.csv: CSV, ")
    assert out.endswith("  label: kind\n")
    assert [path.name for path in Path().iterdir()] == ["tickets.csv"]


def test_init_writes_a_config_and_prints_the_next_commands() -> None:
    status, out, err = call("init", "tickets.csv", "-o", "my configs/own.yaml")
    assert (status, err) == (0, "")
    assert out == (
        "my configs/own.yaml: classification, texts in note, and 2 different labels in kind\n"
        "next:\n"
        "  headrace train --config 'my configs/own.yaml'\n"
        "  torchrun --nproc_per_node=2 -m pipeline.cli train --config 'my configs/own.yaml'\n"
    )
    text = Path("my configs/own.yaml").read_text()
    assert text.startswith("# Made by: headrace init tickets.csv -o 'my configs/own.yaml'\n")


def test_the_default_name_is_that_of_the_input() -> None:
    assert call("init", "tickets.csv")[0] == 0
    assert Path("tickets.yaml").is_file()


def test_an_existing_file_is_only_replaced_by_force() -> None:
    Path("tickets.yaml").write_text("mine")
    status, _, err = call("init", "tickets.csv")
    assert status == 2
    assert err == (
        "error: --output tickets.yaml: this file exists; add --force to replace it, or name "
        "another one\n"
    )
    assert Path("tickets.yaml").read_text() == "mine"
    assert call("init", "tickets.csv", "--force")[0] == 0
    assert Path("tickets.yaml").read_text() != "mine"


def test_a_config_on_standard_output_is_nothing_else() -> None:
    status, out, _ = call("init", "tickets.csv", "-o", "-")
    assert status == 0
    assert out.startswith("# Made by: headrace init tickets.csv -o -\n")
    assert out.endswith("label: kind\n")
    assert [path.name for path in Path().iterdir()] == ["tickets.csv"]


def test_choices_and_keys() -> None:
    Path("b.csv").write_text(ROWS.replace(",", ";"))
    status, out, err = call(
        "init", "b.csv", "-o", "-", "corpus.columns=[x, y, z]", "corpus.delimiter=;", "--label=y"
    )  # fmt: skip
    assert status == 0, err
    for line in ("  delimiter: ;", "  columns: [x, y, z]", "  text: x", "  label: y"):
        assert line in out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "missing.csv: no such file"),
        (["tickets.csv", "--label=id"], "--label=id: 60 of its 60 values are different"),
        (["tickets.csv", "--label=foo"], "--label=foo: no such column"),
        (["tickets.csv", "corpus.lr=3"], "corpus.lr=3: does not set how files are read"),
        (["tickets.csv", "corpus.columns=[x"], "corpus.columns=[x: "),
        (["tickets.csv", "corpus.encoding=foo"], "corpus.encoding=foo: is not an encoding"),
        (["corpus.format=csv"], "no file is given"),
        ([], "the following arguments are required: FILE"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "init"])
def test_a_mistake_is_one_line(command: str, arguments: list[str], message: str) -> None:
    status, out, err = call(command, *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not Path("tickets.yaml").exists()


def test_a_folder_that_cannot_be_written() -> None:
    status, _, err = call("init", "tickets.csv", "-o", "tickets.csv/own.yaml")
    assert status == 2
    assert error_lines(err)[0].startswith("error: --output tickets.csv/own.yaml: cannot be written")


@pytest.mark.slow
def test_without_torch_and_in_an_ascii_terminal(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import runpy; runpy.run_module('pipeline.cli', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "inspect", "tickets.csv"]
    process = start(command, cwd=tmp_path, variables={"PYTHONIOENCODING": "ascii"})
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    assert out.isascii()
    assert "########" in out
