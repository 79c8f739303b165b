"""Statistics of numbers do not depend on how the input is divided into chunks."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.corpus.prepare import number_stats as module
from pipeline.corpus.prepare.number_stats import number_stats


def write(path: Path, numbers: np.ndarray) -> Path:
    table = pa.table({"number": pa.array(numbers, pa.float32())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("block", [7, 1 << 16])
def test_statistics_equal_those_of_all_numbers(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    numbers = np.random.default_rng(0).normal(1e4, 3, 100).astype(np.float32)
    whole = number_stats([write(tmp_path / "all", numbers)], "number")
    parts = np.split(numbers, [1, 20, 20, 71])
    paths = [write(tmp_path / str(i), part) for i, part in enumerate(parts)]
    assert number_stats(paths, "number") == whole
    assert whole.mean == pytest.approx(numbers.astype(float).mean(), rel=1e-12)
    assert whole.std == pytest.approx(numbers.astype(float).std(), rel=1e-9)


def test_no_numbers(tmp_path: Path) -> None:
    stats = number_stats([write(tmp_path / "none", np.empty(0))], "number")
    assert (stats.mean, stats.std) == (0.0, 0.0)
