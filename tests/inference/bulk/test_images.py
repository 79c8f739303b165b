"""Bulk prediction from images: tables of bytes, image files, and captions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.inference.bulk.worker import BulkOptions, predict_to
from pipeline.inference.predictor import Predictor
from pipeline.inference.trained import load_trained

Runs = Callable[[str], Path]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["images", "captioning"])
def test_a_table_of_images(
    runs: Runs, corpora: Callable[[str], Path], tmp_path: Path, task: str
) -> None:
    (path,) = corpora(task).glob("*.parquet")
    rows = pq.read_table(path).slice(0, 7).append_column("id", [[*"abcdefg"]])
    pq.write_table(rows, tmp_path / "a.parquet")
    model = load_trained(runs(task))
    given = [str(tmp_path / "a.parquet")]
    predict_to(model, given, BulkOptions(str(tmp_path / "out"), keep=("id",), rows_per_part=4))
    found = pq.read_table(tmp_path / "out").to_pylist()
    expected = list(Predictor(model).predict_files(given, rows_per_chunk=4))
    assert found == [
        {"id": name, **prediction, "error": None}
        for name, prediction in zip("abcdefg", expected, strict=True)
    ]


@pytest.mark.slow
def test_image_files_are_kept_by_their_names(
    runs: Runs, corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    images: list[Any] = pq.read_table(corpora("images") / "images.parquet")["image"].to_pylist()[:3]
    for number, data in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(data)
    (tmp_path / "1.png").write_bytes(b"no image")
    model = load_trained(runs("images"))
    options = BulkOptions(str(tmp_path / "out"), keep=("file",), rows_per_part=2)
    predict_to(model, [f"{tmp_path}/*.png"], options)
    found = pq.read_table(tmp_path / "out").to_pylist()
    assert [(row["file"], row["error"]) for row in found] == [
        (f"{tmp_path}/0.png", None),
        (f"{tmp_path}/1.png", "the file is not a readable PNG or JPEG"),
        (f"{tmp_path}/2.png", None),
    ]
