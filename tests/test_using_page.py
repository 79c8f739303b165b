"""The Python code of docs/using.md runs as it is."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY

BLOCKS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/using.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(
    number: int, runs: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/imdb").symlink_to(runs("classification"))
    (tmp_path / "reviews.csv").write_text("text,label\nA fine film.,1\nDull.,0\n")
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"block {number} of docs/using.md", "exec"), {})


def test_there_is_code() -> None:
    assert len(BLOCKS) == 2
