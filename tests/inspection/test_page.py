"""docs/inspect.md shows what the commands print."""

import re
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY, call
from tests.helpers.tickets import write_tickets

PAGE = (REPOSITORY / "docs" / "inspect.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n\$ headrace (\w+) (.*?)\n(.*?)^```$", PAGE, re.M | re.S)
JOINED = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tickets(Path("tickets.csv"))


@pytest.mark.parametrize(("command", "arguments", "printed"), BLOCKS)
def test_output(command: str, arguments: str, printed: str) -> None:
    status, out, err = call(command, *arguments.split())
    assert (status, err) == (0, "")
    assert out == printed


def test_both_commands_are_shown() -> None:
    assert [command for command, _, _ in BLOCKS] == ["inspect", "init"]


def test_the_correction_is_the_hint_without_its_signs() -> None:
    call("init", "tickets.csv", "-o", "tickets.yaml")
    _, mark, hints = Path("tickets.yaml").read_text().partition("  # label_names")
    lines = f"{mark}{hints}".splitlines()
    assert JOINED
    assert JOINED[1].splitlines() == [line.replace("# ", "", 1) for line in lines]
